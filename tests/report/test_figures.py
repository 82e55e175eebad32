"""Curves of what training does when it goes badly."""

import math

import pytest

from crysmm.report.figures import losses, monitored


@pytest.mark.parametrize("first", [math.inf, math.nan, 60.0])
def test_a_validation_that_is_no_number_at_first(first: float) -> None:
    """The axis is that of the numbers there are; the sentence says what it was."""
    history = [
        {"epoch": 1, "train_loss": 0.9, "val_loss": first, "val_mae": first},
        {"epoch": 2, "train_loss": 0.5, "val_loss": 0.6, "val_mae": 0.7},
    ]
    figure = losses(history)
    assert figure.drawing.layout.yaxis.type == ("log" if math.isfinite(first) else None)
    assert f"from {'60.0' if math.isfinite(first) else '-' if math.isnan(first) else 'infinite'} to 0.600" in figure.alt
    assert "the best is 0.700 in epoch 2" in monitored(history, "mae", 2, 1.0).alt
