"""Small runs on the sample data: real crystals, tiny networks."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from crysmm.config import TrainingConfig
from crysmm.training import run, trainer
from crysmm.training.trainer import Trainer

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_settings(cache_dir):
    """A function that makes the settings of a run of seconds into a folder, changed by what it is given."""

    def make(output_dir, **changes):
        settings = {
            "root_dir": SAMPLE_DATA,
            "output_dir": output_dir,
            "cache_dir": cache_dir,
            "limit": 30,
            "n_val": 6,
            "n_test": 7,
            "epochs": 3,
            "batch_size": 8,
            "model": {"name": "cgcnn", "conv_layers": 1, "node_features": 8, "fc_features": 8},
            "device": "cpu",
            "precision": "32",
            "progress": False,
            "jobs": 1,
        }
        return TrainingConfig(**(settings | changes))

    return make


@pytest.fixture
def make_config(tmp_path, make_settings):
    """As ``make_settings``, into a folder of the test's own."""
    return lambda **changes: make_settings(**({"output_dir": tmp_path / "run"} | changes))


@pytest.fixture
def within_epoch(monkeypatch):
    """A function that makes something happen in every step of an epoch, of the runs with some settings."""
    train_epoch = Trainer.train_epoch

    def begin(number, act, applies=lambda config: True):
        def acting(self, epoch, progress):
            if epoch + 1 == number and applies(self.config):
                monkeypatch.setattr(progress, "advance", lambda loss: act())
            return train_epoch(self, epoch, progress)

        monkeypatch.setattr(Trainer, "train_epoch", acting)

    return begin


@pytest.fixture
def epochs_of_an_hour(monkeypatch):
    """A clock of trainings by which each epoch takes an hour and all else no time, however slow the machine is."""
    seconds, train_epoch = [0.0], Trainer.train_epoch

    def advance(self, epoch, progress):
        loss = train_epoch(self, epoch, progress)
        seconds[0] += 3600
        return loss

    monkeypatch.setattr(Trainer, "train_epoch", advance)
    for module in (run, trainer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))


@pytest.fixture
def tiny_alignn():
    """Layer norm, so that a crystal's output does not depend on its neighbors in the batch."""
    return {
        "name": "alignn",
        "alignn_layers": 1,
        "gcn_layers": 1,
        "hidden_features": 8,
        "embedding_features": 8,
        "edge_input_features": 8,
        "triplet_input_features": 8,
        "norm": "layer",
    }
