"""A page on this machine: structures in, predictions with all that is known of them out."""
