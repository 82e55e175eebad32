"""Browser app for this machine: upload structures and get predictions with intervals, distances and explanations."""
