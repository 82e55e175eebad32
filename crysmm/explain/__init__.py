"""Explanations of predictions: contributions of features, atoms and elements, and a test of their ranking."""
