"""Conversion of checkpoints of other code into model folders: read without running anything, renamed, and written."""
