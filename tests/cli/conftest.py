"""What the tests of training commands share."""

import sys
from types import ModuleType

import pytest

from crysmm.config import TrainingConfig


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainingConfig]:
    """Puts a training in place of ours that only keeps its settings, and needs nothing that they name."""
    configs: list[TrainingConfig] = []
    run = ModuleType("crysmm.training.train")
    run.train = configs.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crysmm.training.train", run)
    for check in ("refuse_absent", "refuse_unusable_run"):
        monkeypatch.setattr(f"crysmm.cli.train.{check}", lambda config: None)
    return configs
