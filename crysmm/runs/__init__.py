"""A run on disk: its folder, metrics, plots, card and summary."""
