"""Crystals as text: descriptions by other programs, and what a language model reads in them."""
