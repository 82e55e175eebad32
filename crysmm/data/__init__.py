"""From records to batches: the store, splits, scaling, and what crystals have in common."""
