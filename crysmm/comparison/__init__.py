"""Paired comparison of several ways to train (arms) on one split of the user's data."""
