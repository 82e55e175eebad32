"""Making data sets: each module is a command, run from the checkout as ``python -m data_prep.NAME --help``."""
