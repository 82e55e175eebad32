"""Teachers: networks of others whose atom features are learned from, or read beside the crystal graph."""
