"""Graphs of crystals: neighbor lists, equivalence classes of atoms and bonds, and DGL graphs."""
