"""Reports on an input, on a split, and on the intervals of a model."""
