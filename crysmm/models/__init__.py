"""Backbones behind one interface, and the networks that predict properties with them."""
