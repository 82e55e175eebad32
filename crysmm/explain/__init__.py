"""Explanations of predictions: contributions of features, atoms and elements, and a test of their ranking."""

REPORT = "explanation.json"
TABLES_AND_PLOTS = (
    "crystals.csv", "atoms.csv", "elements.csv", "features_by_crystal.csv", "features.csv", "elements_of_all.csv",
    "skipped.csv", "features.png", "elements.png", "atoms.png", "features_by_crystal.png",
)  # fmt: skip
"""Files beside ``REPORT``; the last two are for one crystal only."""
