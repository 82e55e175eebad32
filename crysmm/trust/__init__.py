"""How far a prediction can be trusted: intervals, the model's domain, and what leaks across a split."""

COVERAGE = 0.9  # of intervals, unless another is asked for
