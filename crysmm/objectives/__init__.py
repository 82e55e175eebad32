"""What a network is trained for: each objective is a loss, and how its success is measured."""
