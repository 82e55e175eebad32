"""Trained models: saving, loading, prediction, intervals, and the distance from the training crystals."""

COVERAGE = 0.9  # fraction of targets inside the intervals by default; here, as options read it without torch
