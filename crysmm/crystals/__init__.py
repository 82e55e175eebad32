"""Crystals: their representation, and their conversion from what other libraries hold."""
