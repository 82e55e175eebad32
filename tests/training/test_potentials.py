"""Runs with a potential, or a file of its features: as a teacher that the model then needs no more."""

import csv
import json
import sys

import numpy as np
import pytest
import torch

import crysmm
from crysmm.cli.main import main
from crysmm.data.store import build_store
from crysmm.errors import InputError, MissingDependencyError, ModelFolderError
from crysmm.io.inputs import open_input
from crysmm.objectives.distillation import DistillationObjective
from crysmm.teachers.features import Directions
from crysmm.training.train import train


@pytest.fixture
def file_of(make_config, tmp_path):
    """A function that writes the features of a teacher for the crystals of the runs."""

    def write(model="toy", name="embeddings.parquet"):
        config = make_config()
        words = ["--root_dir", config.root_dir, "--limit", config.limit, "--cache_dir", config.cache_dir]
        path = tmp_path / name
        assert main(["embed", "--model", model, *map(str, words), "--output", str(path), "--jobs", "1"]) == 0
        return path

    return write


def taught_by(teacher, delta=0.5, **settings):
    return {"name": "distilled", "teacher": str(teacher), "delta": delta, **settings}


def column(folder, name):
    with (folder / "history.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_directions(toy):
    """Those of numpy: without the mean, on the scale of the deviation, of length 1."""

    class Features:
        width, source = 2, "here"

        def take(self, rows):
            return np.array([[1.0, 20.0], [3.0, 10.0], [2.0, 15.0]], dtype=np.float32)[rows]

    directions = Directions(Features(), np.array([2.0, 15.0]), np.array([1.0, 5.0]))
    assert directions.take([0, 1]) == pytest.approx(np.array([[-1, 1], [1, -1]]) / np.sqrt(2))
    assert directions.take([2]).tolist() == [[0, 0]]  # what is like the mean has no direction
    assert (directions.width, directions.source) == (2, "here")


def test_a_potential_is_learned(make_config, toy, crystals, monkeypatch, capsys):
    made = train(make_config(epochs=20, learning_rate=0.03, head=taught_by("toy", 0)))
    losses = column(made.folder, "val_distillation")
    assert min(losses) < 0.7 * losses[0]
    assert "teacher toy: 5 features per atom, delta 0" in capsys.readouterr().out
    # The folder predicts without it.
    for module in ("toy_teacher", "chgnet", "sevenn"):
        monkeypatch.setitem(sys.modules, module, None)
    predictor = crysmm.load(made.folder)
    assert np.isfinite(predictor.predict([crystals["Cu"], crystals["CsCl"]])).all()
    names = json.loads((made.folder / "model.json").read_text())["config"]["head"]
    assert names["teacher"] == "toy"


def test_batches_have_the_directions(make_config, toy, monkeypatch):
    """Standardized over the atoms of the training crystals, then divided by their length."""
    batches, loss = [], DistillationObjective.training_loss
    monkeypatch.setattr(
        DistillationObjective, "training_loss", lambda self, batch: batches.append(batch) or loss(self, batch)
    )
    config = make_config(epochs=1, head=taught_by("toy:3"))
    train(config)
    store = build_store(open_input(config, None), config.graph_settings(), cache_dir=config.cache_dir, jobs=1)
    rows = [store.ids.index(identifier) for batch in batches for identifier in batch.ids]
    features = toy.embed(store.crystals(rows))[:, :3]
    standardized = (features - features.mean(0)) / features.std(0)
    expected = standardized / np.linalg.norm(standardized, axis=1, keepdims=True)
    assert torch.cat([batch.teacher_nodes for batch in batches]).numpy() == pytest.approx(expected, abs=0.02)


def test_a_file_teaches_as_the_potential_does(make_config, toy, file_of, tmp_path):
    path = file_of()
    by_name = train(make_config(epochs=2, output_dir=tmp_path / "a", head=taught_by("toy")))
    by_file = train(make_config(epochs=2, output_dir=tmp_path / "b", head=taught_by(path)))
    for name in ("val_distillation", "val_mae", "train_loss"):
        assert column(by_file.folder, name) == column(by_name.folder, name)
    head = json.loads((by_file.folder / "model.json").read_text())["config"]["head"]
    assert head["teacher"] == "embeddings.parquet"


def test_an_own_model_and_chgnet_can_be_written_and_teach(make_config, file_of, tmp_path):
    pytest.importorskip("chgnet")
    made = train(make_config(epochs=1, head=taught_by(file_of("chgnet"))))
    assert len(column(made.folder, "val_distillation")) == 1
    again = train(make_config(epochs=1, output_dir=tmp_path / "b", head=taught_by("chgnet")))
    assert column(again.folder, "val_distillation") == column(made.folder, "val_distillation")


@pytest.mark.parametrize(
    ("teacher", "error", "message"),
    [
        ("nothing", ModelFolderError, "nothing is not a folder"),
        ("missing.parquet", InputError, r"missing.parquet is not a file; crysmm embed writes"),
        ("os", ModelFolderError, "os is not a folder"),
    ],
)
def test_what_is_no_teacher_is_refused(make_config, teacher, error, message):
    with pytest.raises(error, match=message):
        train(make_config(head=taught_by(teacher)))
    assert not make_config().output_dir.exists()


def test_a_package_that_is_not_installed_is_told_before_anything_is_read(make_config, monkeypatch):
    monkeypatch.setattr("crysmm.teachers.registry.find_spec", lambda package: None)
    monkeypatch.setattr("crysmm.training.prepare.build_store", None)
    with pytest.raises(MissingDependencyError, match="sevennet-0:5 needs the package sevenn: pip install"):
        train(make_config(head=taught_by("sevennet-0:5")))


def test_a_crystal_it_does_not_know_is_named(make_config, toy, monkeypatch):
    monkeypatch.setattr(type(toy), "of_one", lambda self, crystal: 1 / 0)
    with pytest.raises(InputError, match=r"teacher toy:4 cannot embed .*\.vasp and 22 others: ZeroDivisionError"):
        train(make_config(head=taught_by("toy:4"), cache_dir=make_config().output_dir.parent / "cache"))
