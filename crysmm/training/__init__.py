"""Training: from a config to a run folder."""

LABELS_REPORT = "labels.json"
LABELS, LABELED_TABLE, LABELED_IDS = "predictions.csv", "table.jsonl.gz", "ids_train_val_test.json"
"""Files that ``crysmm label`` writes, the report first."""
