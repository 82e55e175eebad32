"""A trained model: its folder, the network ready to compute, predictions, intervals and domain."""

COVERAGE = 0.9  # of intervals, unless another is asked for
