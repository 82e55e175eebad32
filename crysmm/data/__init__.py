"""From folders, files and lists of structures to batches."""
