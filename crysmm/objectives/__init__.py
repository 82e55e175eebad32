"""Training objectives: the loss of each method, and the metrics that show how well it has been learned."""
