"""The version of crysmm."""

__version__ = "0.1.0"
