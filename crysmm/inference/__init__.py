"""Trained models: saving, loading, prediction, intervals, and the distance from the training crystals."""
