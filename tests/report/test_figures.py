"""Learning curves of runs that start badly, and sampling of large splits."""

import math

import numpy as np
import pytest

from crysmm.report.figures import MAX_POINTS, Points, losses, monitored, parity


@pytest.mark.parametrize("first", [math.inf, math.nan, 60.0])
def test_validation_losses_that_start_infinite_nan_or_large(first: float) -> None:
    """The axis spans the finite values; the description gives the first value, whatever it is."""
    history = [
        {"epoch": 1, "train_loss": 0.9, "val_loss": first, "val_mae": first},
        {"epoch": 2, "train_loss": 0.5, "val_loss": 0.6, "val_mae": 0.7},
    ]
    figure = losses(history)
    assert figure.drawing.layout.yaxis.type == ("log" if math.isfinite(first) else None)
    assert f"from {'60.0' if math.isfinite(first) else '-' if math.isnan(first) else 'infinite'} to 0.600" in figure.alt
    assert "the best is 0.700 in epoch 2" in monitored(history, "mae", 2, 1.0, "GPa").alt


def test_large_splits_are_sampled_and_the_caption_says_so():
    random = np.random.default_rng(3)
    target = random.normal(size=50_000)
    error = random.normal(size=50_000)
    points = Points("test", target, target + error, [f"id-{row}" for row in range(50_000)], ["Cu"] * 50_000)
    assert MAX_POINTS <= len(points.drawn) <= MAX_POINTS + 10
    assert set(np.argsort(-np.abs(error))[:10]) <= set(points.drawn)
    figure = parity("gap", "eV", [points], logarithmic=False)
    assert f"{len(points.drawn):,} of 50,000 test crystals" in figure.note
    assert len(figure.drawing.to_json()) < 200_000
    few = Points("test", target[:100], target[:100], ["id"] * 100, ["Cu"] * 100)
    assert parity("gap", "eV", [few], logarithmic=False).note == "Click a split in the legend to show or hide it."
