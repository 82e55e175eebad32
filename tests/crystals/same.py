"""Comparison of crystals in tests."""

import numpy as np


def assert_same(found, expected):
    """Fail unless two crystals have the same cell, sites and elements, in the same order."""
    np.testing.assert_allclose(found.lattice, expected.lattice, atol=1e-12)
    np.testing.assert_allclose(found.frac_coords, expected.frac_coords, atol=1e-12)
    np.testing.assert_array_equal(found.atomic_numbers, expected.atomic_numbers)
