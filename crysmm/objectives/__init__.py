"""Objectives, one file per method, and their interface to the training loop."""
