"""What the tests of training commands share."""

import sys
from types import ModuleType

import pytest

from crysmm.config import TrainingConfig


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainingConfig]:
    """Puts a training in place of ours that only keeps the settings it is called with, and needs no structures."""
    configs: list[TrainingConfig] = []
    run = ModuleType("crysmm.training.train")
    run.train = configs.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crysmm.training.train", run)
    monkeypatch.setattr("crysmm.cli.train.refuse_early", lambda config: None)
    return configs
