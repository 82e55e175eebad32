"""Scripts that make data sets, run from the checkout as ``python -m data_prep.NAME --help``."""
