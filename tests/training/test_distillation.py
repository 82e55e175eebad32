"""Whole runs with a teacher: what delta decides, what is kept, and what is left of the teacher in the end."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest

import crysmm
from crysmm.errors import CrysmmError, InputError
from crysmm.inference.saved_models import load_encoder
from crysmm.objectives.distillation import DistillationObjective
from crysmm.training import train as training
from crysmm.training.train import train
from crysmm.training.trainer import OutOfTimeError, Trainer
from tests.forked import train_by_two

CGCNN_OF_6 = {"name": "cgcnn", "conv_layers": 2, "node_features": 6, "fc_features": 8}
RESULTS = ["model.safetensors", *(f"prediction_results_{split}_set.csv" for split in ("train", "val", "test"))]


@pytest.fixture
def teacher(make_config, tmp_path):
    """The folder of a trained CGCNN narrower than the student; its graphs are the student's."""
    return train(make_config(output_dir=tmp_path / "teacher", model=CGCNN_OF_6, epochs=1)).folder


@pytest.fixture
def alignn_teacher(make_config, tiny_alignn, tmp_path):
    """The folder of a trained ALIGNN as wide as the student; its graphs are others."""
    return train(make_config(output_dir=tmp_path / "alignn", model=tiny_alignn, epochs=1, random_seed=7)).folder


def taught_by(teacher, delta=0.5, **settings):
    return {"name": "distilled", "teacher": str(teacher), "delta": delta, **settings}


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in RESULTS}


def history_of(folder):
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "seconds"}


@pytest.mark.parametrize("projection", ["auto", "linear"])
@pytest.mark.parametrize("kind", ["teacher", "alignn_teacher"])
def test_with_delta_1_nothing_changes(make_config, tmp_path, request, kind, projection):
    """The same weights and predictions, bit for bit, whatever the teacher."""
    head = taught_by(request.getfixturevalue(kind), 1, projection=projection)
    vanilla = train(make_config(output_dir=tmp_path / "vanilla"))
    distilled = train(make_config(head=head))
    assert files_of(distilled.folder) == files_of(vanilla.folder)
    found, expected = history_of(distilled.folder), history_of(vanilla.folder)
    assert found.keys() - expected.keys() == {"val_distillation"}
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_a_rising_delta_rises_with_every_step(make_config, teacher, monkeypatch):
    shares = []
    loss = DistillationObjective.training_loss
    monkeypatch.setattr(
        DistillationObjective, "training_loss", lambda self, batch: shares.append(self.progress) or loss(self, batch)
    )
    train(make_config(epochs=4, head=taught_by(teacher, "rising")))
    assert shares == [step / 12 for step in range(12)]  # three steps an epoch


@pytest.mark.parametrize("kind", ["teacher", "alignn_teacher"])
@pytest.mark.parametrize("student", ["cgcnn", "alignn"])
def test_the_teacher_is_learned(make_config, tiny_alignn, tmp_path, request, kind, student):
    """By either student, on its own graphs, from a teacher on others."""
    models = {"cgcnn": make_config().model.model_dump(), "alignn": tiny_alignn}
    settings = {"model": models[student], "epochs": 6, "learning_rate": 0.01, "scheduler": "none"}
    result = train(make_config(head=taught_by(request.getfixturevalue(kind), 0.0), **settings))
    losses = history_of(result.folder)["val_distillation"]
    assert losses[-1] < 0.7 * losses[0]
    vanilla = train(make_config(output_dir=tmp_path / "vanilla", **settings))
    assert files_of(result.folder) != files_of(vanilla.folder)


def test_the_folder_needs_no_teacher(make_config, teacher, crystals):
    """It predicts without one, and does not say where it lay."""
    config = make_config(head=taught_by(teacher, 0.3))
    folder = train(config).folder
    shutil.rmtree(teacher)
    predictions = crysmm.load(folder, device="cpu").predict(list(crystals.values()))
    assert predictions.shape == (12, 1)
    assert np.isfinite(predictions).all()
    description = json.loads((folder / "model.json").read_text())
    assert description["config"]["head"] == {
        "name": "distilled",
        "teacher": "teacher",
        "delta": [0.3],
        "projection": "auto",
        "matched": "atoms",
    }
    assert str(teacher.parent) not in (folder / "model.json").read_text()
    assert crysmm.TrainingConfig(**json.loads((folder / "config.json").read_text())) == config
    assert load_encoder(folder).backbone.node_features == 8


def test_what_is_said(make_config, teacher, capsys):
    train(make_config(head=taught_by(teacher, 0.3)))
    assert f"teacher {teacher}: 6 features per atom, delta 0.3" in capsys.readouterr().out


def test_worker_processes_read_the_embeddings(make_config, teacher, tmp_path):
    one = train(make_config(output_dir=tmp_path / "one", head=taught_by(teacher)))
    other = train(make_config(output_dir=tmp_path / "other", head=taught_by(teacher), num_workers=1))
    assert files_of(one.folder) == files_of(other.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "nowhere"}, "nowhere is not a folder; expected model.json and model.safetensors in it"),
        ({"projection": "none"}, "atom embeddings have 8 and 6 features; give --head.projection auto"),
    ],
)
def test_a_teacher_that_cannot_be_used(make_config, teacher, changes, message):
    config = make_config(head=taught_by(teacher) | changes)
    with pytest.raises(CrysmmError, match=message):
        train(config)
    assert not config.output_dir.exists()


@pytest.fixture
def interrupt(monkeypatch, within_epoch):
    """A function that begins a run and stops it in its third epoch, at the first step with a delta."""

    def begin(config, delta):
        within_epoch(3, lambda: os.kill(os.getpid(), signal.SIGINT), lambda run: run.head.delta == (delta,))
        with pytest.raises(KeyboardInterrupt):
            train(config)
        monkeypatch.undo()

    return begin


@pytest.mark.parametrize("delta", [0.2, "rising"])
def test_resumed_equals_uninterrupted(make_config, teacher, tmp_path, interrupt, delta):
    """The projection, too, is what it was."""
    config = make_config(epochs=5, head=taught_by(teacher, delta))
    broken = config.model_copy(update={"output_dir": tmp_path / "broken"})
    interrupt(broken, delta)
    assert len(history_of(broken.output_dir)["epoch"]) == 2
    train(config)
    train(broken.model_copy(update={"resume": True}))
    assert files_of(broken.output_dir) == files_of(config.output_dir)
    assert not (broken.output_dir / "checkpoints").exists()


@pytest.fixture
def stopped(make_config, teacher, interrupt):
    """The settings of a run stopped in its third epoch."""
    config = make_config(epochs=4, head=taught_by(teacher))
    interrupt(config, 0.5)
    return config


def test_another_teacher_cannot_go_on(make_config, stopped, teacher):
    train(make_config(output_dir=teacher, model=CGCNN_OF_6, epochs=2, overwrite=True))
    with pytest.raises(InputError, match=r"cannot be resumed: .* the teacher or the texts have changed since"):
        train(stopped.model_copy(update={"resume": True}))


DELTAS = (0.0, 0.5, 1.0)


@pytest.fixture
def several(make_config, teacher):
    return make_config(epochs=4, head=taught_by(teacher, DELTAS))


def test_the_best_of_several_deltas_is_kept(make_config, several, tmp_path, teacher, monkeypatch, capsys):
    predicted = []
    original = training.predict_splits
    monkeypatch.setattr(training, "predict_splits", lambda *a: predicted.append(1) or original(*a))
    result = train(several)
    assert predicted == [1]
    scores = {}
    for delta in DELTAS:
        folder = result.folder / f"delta_{delta:g}"
        assert {path.name for path in folder.iterdir()} == {
            "config.json", "history.csv", "ids_train_val_test.json", "skipped.csv", "train.log"
        }  # fmt: skip
        assert json.loads((folder / "config.json").read_text())["head"]["delta"] == [delta]
        scores[delta] = history_of(folder)["val_mae"].min()
        assert result.metrics["deltas"][f"{delta:g}"]["val_mae"] == scores[delta]
    best = min(scores, key=scores.get)
    assert result.metrics["delta"] == best
    assert history_of(result.folder)["val_mae"].min() == scores[best]
    assert len(set(scores.values())) == len(DELTAS)
    alone = train(make_config(epochs=4, head=taught_by(teacher, best), output_dir=tmp_path / "alone"))
    assert files_of(result.folder) == files_of(alone.folder)
    names = {path.name for path in result.folder.iterdir()} - {f"delta_{delta:g}" for delta in DELTAS}
    assert names == {path.name for path in alone.folder.iterdir()}
    assert f"delta {best:g} is the best by val_mae (0: " in capsys.readouterr().out
    log = (result.folder / "train.log").read_text()
    assert all(f"delta {delta:g}, {number} of 3" in log for number, delta in enumerate(DELTAS, start=1))


@pytest.fixture
def before_epochs(monkeypatch):
    """A function that makes something happen before every epoch."""
    train_epoch = Trainer.train_epoch

    def begin(act):
        monkeypatch.setattr(
            Trainer,
            "train_epoch",
            lambda self, epoch, progress: (act(self.config), train_epoch(self, epoch, progress))[1],
        )

    return begin


def test_several_deltas_go_on_where_they_were(several, tmp_path, monkeypatch, interrupt, before_epochs, capsys):
    broken = several.model_copy(update={"output_dir": tmp_path / "broken"})
    interrupt(broken, 0.5)
    assert "stopped by Ctrl-C: give the same command and --resume" in capsys.readouterr().out
    assert not (broken.output_dir / "metrics.json").exists()
    with pytest.raises(InputError, match="holds a run"):
        train(broken)
    epochs = []
    before_epochs(lambda config: epochs.append(config.head.delta[0]))
    train(broken.model_copy(update={"resume": True}))
    assert epochs == [0.5] * 2 + [1.0] * 4
    monkeypatch.undo()
    train(several)
    assert files_of(broken.output_dir) == files_of(several.output_dir)
    assert not list(broken.output_dir.rglob("*.ckpt"))


@pytest.fixture
def diverge(monkeypatch):
    """A function that makes the loss no number, from the third epoch on, with these deltas."""
    loss = DistillationObjective.training_loss

    def begin(*deltas):
        monkeypatch.setattr(
            DistillationObjective,
            "training_loss",
            lambda self, batch: loss(self, batch) * (np.nan if self.delta in deltas and self.progress >= 0.5 else 1),
        )

    return begin


def test_a_delta_that_diverges_leaves_the_others(make_config, several, tmp_path, teacher, diverge, capsys):
    diverge(0.5)
    result = train(several)
    assert "delta 0.5 has no result: training has diverged: the loss of epoch 3 is nan" in capsys.readouterr().out
    assert result.metrics["deltas"]["0.5"]["val_mae"] is None
    assert result.metrics["stopped_by"] == "all epochs"
    assert result.metrics["delta"] in (0.0, 1.0)
    others = train(make_config(epochs=4, head=taught_by(teacher, (0.0, 1.0)), output_dir=tmp_path / "others"))
    assert files_of(result.folder) == files_of(others.folder)


def test_where_all_deltas_diverge_that_is_the_error(several, diverge):
    diverge(*DELTAS)
    with pytest.raises(InputError, match="training has diverged: the loss of epoch 3 is nan"):
        train(several)
    assert not (several.output_dir / "metrics.json").exists()


def test_time_that_ends_before_the_last_delta_begins_is_told_and_can_go_on(several, monkeypatch, before_epochs):
    def end_in_the_last(config):
        if config.head.delta == (1.0,):
            raise OutOfTimeError

    before_epochs(end_in_the_last)
    limited = several.model_copy(update={"max_hours": 1.0})
    result = train(limited)
    assert result.metrics["stopped_by"] == "max_hours"
    assert result.metrics["deltas"]["1"]["val_mae"] is None
    monkeypatch.undo()
    resumed = train(limited.model_copy(update={"max_hours": None, "resume": True}))
    assert resumed.metrics["stopped_by"] == "all epochs"
    assert resumed.metrics["deltas"]["1"]["val_mae"] is not None


def test_overwrite_replaces_every_delta(make_config, several, teacher):
    folder = train(several).folder
    (folder / "delta_1" / "notes.txt").write_text("mine")
    train(make_config(epochs=1, head=taught_by(teacher, (0.0, 0.7)), overwrite=True))
    assert {path.name for path in folder.glob("delta_*")} == {"delta_0", "delta_0.7", "delta_1"}
    assert [path.name for path in (folder / "delta_1").iterdir()] == ["notes.txt"]
    assert len(history_of(folder / "delta_0")["epoch"]) == 1


def test_several_deltas_share_the_time(several, epochs_of_an_hour):
    """Go on with what a time limit has cut short.

    An epoch begins where one and a half times the last one's time is left: three in the first delta's 4 hours, and
    four in the 4.5 and the 5 hours that are then left for each of the others.
    """
    limited = several.model_copy(update={"max_hours": 12, "epochs": 8})
    result = train(limited)
    assert result.metrics["stopped_by"] == "max_hours"
    folders = [result.folder / f"delta_{delta:g}" for delta in DELTAS]
    assert [len(history_of(folder)["epoch"]) for folder in folders] == [3, 4, 4]
    resumed = train(limited.model_copy(update={"max_hours": None, "resume": True}))
    assert resumed.metrics["stopped_by"] == "all epochs"
    assert all(len(history_of(folder)["epoch"]) == 8 for folder in folders)


def test_the_time_of_every_session_counts(several, epochs_of_an_hour):
    limited = several.model_copy(update={"max_hours": 12, "epochs": 8})
    train(limited)
    resumed = train(limited.model_copy(update={"max_hours": None, "resume": True}))
    assert resumed.metrics["seconds"] == 3 * 8 * 3600


def test_an_ensemble_of_several_deltas_cannot_be_extended(several):
    ensemble = several.model_copy(update={"ensemble": 2, "epochs": 1})
    folder = train(ensemble).folder
    before = (folder / "member_1" / "history.csv").read_bytes()
    with pytest.raises(InputError, match="chose one of several deltas and cannot be extended"):
        train(ensemble.model_copy(update={"epochs": 2, "resume": True}))
    assert (folder / "member_1" / "history.csv").read_bytes() == before


def test_two_processes_equal_one(several, tiny_alignn, tmp_path):
    several = several.model_copy(update={"model": crysmm.TrainingConfig(model=tiny_alignn).model, "max_triplets": None})
    two = several.model_copy(update={"output_dir": tmp_path / "two", "cache_dir": tmp_path / "cache"})
    assert train_by_two(two, tmp_path / "printed.txt").count("is the best by val_mae") == 1
    result = train(several)
    metrics = json.loads((two.output_dir / "metrics.json").read_text())
    assert metrics["n_processes"] == 2
    for delta, expected in result.metrics["deltas"].items():
        assert metrics["deltas"][delta]["val_mae"] == pytest.approx(expected["val_mae"], rel=1e-4)
    assert len(list((tmp_path / "cache" / "teachers").iterdir())) == 1
