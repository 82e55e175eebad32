"""Networks from other packages whose atom features are imitated, or read along with the crystal graph."""
