"""Runs that are killed, stopped or timed out, and what becomes of them."""

import itertools
import json
import os
import signal
import time

import numpy as np
import pytest

import crysmm
from crysmm.config import TrainingConfig
from crysmm.errors import InputError
from crysmm.runs import run_writer
from crysmm.runs.run_log import Progress
from crysmm.runs.run_writer import read_checkpoint
from crysmm.training.train import train
from crysmm.training.trainer import Trainer
from crysmm.training.transfer import FrozenWeights
from tests.forked import run


def train_until_killed(config, number):
    """Train, and send a signal to this process in the second step of epoch 3."""
    steps = []

    def kill(self, epoch):
        steps.append(epoch)
        if steps.count(2) == 2:
            os.kill(os.getpid(), number)

    FrozenWeights.drop_gradients = kill  # called in every step
    train(config)


def files_of(folder):
    """Every file a run leaves that does not hold a time."""
    names = ["model.safetensors", "ids_train_val_test.json"]
    names += [f"prediction_results_{split}_set.csv" for split in ("train", "val", "test")]
    return {name: (folder / name).read_bytes() for name in names}


def history_of(folder):
    table = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    return np.stack([table[name] for name in table.dtype.names if name != "seconds"])


def test_resumed_after_kill_9_equals_uninterrupted(make_config, tmp_path):
    config = make_config(epochs=5, max_triplets=2500)  # 6, 7, 6, 6 and 7 steps
    broken = config.model_copy(update={"output_dir": tmp_path / "broken"})
    assert run(train_until_killed, broken, signal.SIGKILL, output=tmp_path / "printed.txt") == -signal.SIGKILL
    assert len(history_of(broken.output_dir)[0]) == 2
    assert not (broken.output_dir / "metrics.json").exists()

    train(config)
    resumed = train(broken.model_copy(update={"resume": True, "num_workers": 1}))
    assert files_of(broken.output_dir) == files_of(config.output_dir)
    np.testing.assert_array_equal(history_of(broken.output_dir), history_of(config.output_dir))
    assert resumed.metrics["epochs"] == 5
    assert not (broken.output_dir / "checkpoints").exists()


def test_sigterm_ends_with_143_and_keeps_the_last_whole_epoch(make_config, tmp_path):
    config, output = make_config(epochs=5), tmp_path / "printed.txt"
    assert run(train_until_killed, config, signal.SIGTERM, output=output) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM: give the same command and --resume" in output.read_text()
    assert "Traceback" not in output.read_text()
    checkpoint = read_checkpoint(config.output_dir / "checkpoints" / "last.ckpt")
    assert len(checkpoint["history"]["epochs"]) == 2


def test_ctrl_c_keeps_what_resuming_needs(make_config, within_epoch, capsys):
    within_epoch(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(make_config())
    assert signal.getsignal(signal.SIGINT) is handler
    assert "stopped by Ctrl-C: give the same command and --resume" in capsys.readouterr().out


def test_a_stop_reports_what_is_kept(make_config, monkeypatch, capsys):
    """Stop a finished run before its last lines are printed, and one that would replace it before it begins."""

    def stop(*arguments):
        os.kill(os.getpid(), signal.SIGINT)

    for settings, patched, said in (
        ({}, "crysmm.training.train.describe_result", "the run is finished"),
        ({"overwrite": True}, "crysmm.training.train.prepare_training", "nothing has been written, and"),
    ):
        config = make_config(epochs=1, **settings)
        with monkeypatch.context() as patch:
            patch.setattr(patched, stop)
            with pytest.raises(KeyboardInterrupt):
                train(config)
        assert f"stopped by Ctrl-C: {said}" in capsys.readouterr().out
        assert crysmm.load(config.output_dir).predict([]).shape == (0, 1)
    monkeypatch.setattr(Progress, "begin_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(epochs=3, resume=True))
    assert "stopped by Ctrl-C: the run before is as it was" in capsys.readouterr().out


def interrupt(config, records=None):
    """Begin a run that is stopped after its first epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "end_epoch", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(config, records)


def test_a_run_without_its_report_is_not_finished(make_config, monkeypatch):
    """A disk that is full when all is trained: the second run makes the report."""
    with monkeypatch.context() as patch:
        patch.setattr("crysmm.report.page.write_report", lambda *arguments: os.listdir("/nowhere"))
        with pytest.raises(FileNotFoundError):
            train(make_config())
    folder = make_config().output_dir
    assert not (folder / "metrics.json").exists()
    train(make_config(resume=True))
    assert (folder / "report.html").stat().st_size > 1e6
    assert (folder / "metrics.json").exists()


def test_resume_refuses_other_settings_and_names_them(make_config):
    interrupt(make_config())
    other = make_config(resume=True, batch_size=4, epochs=7)
    with pytest.raises(InputError, match="batch_size was 8 and is 4; epochs was 3 and is 7"):
        train(other)


def test_resume_allows_settings_that_do_not_change_the_result(make_config):
    interrupt(make_config())
    assert train(make_config(resume=True, max_hours=1, num_workers=1, progress=True)).metrics["epochs"] == 3


def test_resume_refuses_other_data(make_config, tmp_path):
    rows = [
        {"id": name, "lattice_mat": (4.0 * np.eye(3)).tolist(), "frac_coords": [[0, 0, 0]], "elements": [name], "y": z}
        for z, name in enumerate("H He Li Be B C N O F Ne Na Mg".split())
    ]
    settings = {"root_dir": None, "n_val": 2, "n_test": 2, "limit": None, "target_key": "y"}
    interrupt(make_config(**settings), rows)
    rows[3]["y"] = -5.0
    with pytest.raises(InputError, match="the structures, their properties, their split, the teacher or the texts"):
        train(make_config(**settings, resume=True), rows)


def test_resume_of_a_finished_run_does_nothing(make_config, capsys):
    result = train(make_config(epochs=1))
    before = {path: path.stat().st_mtime_ns for path in result.folder.iterdir()}
    again = train(make_config(epochs=1, resume=True))
    assert again.metrics == result.metrics
    assert {path: path.stat().st_mtime_ns for path in result.folder.iterdir()} == before
    assert "is finished" in capsys.readouterr().out


def test_resume_of_a_finished_run_with_another_split_is_refused(make_config, tmp_path):
    folder = train(make_config(epochs=1)).folder
    ids = json.loads((folder / "ids_train_val_test.json").read_text())
    paths = tmp_path / "same.json", tmp_path / "other.json"
    for path in paths:
        path.write_text(json.dumps(ids))
        ids["id_train"], ids["id_val"] = ids["id_train"][1:], [*ids["id_val"], ids["id_train"][0]]
    sizes = dict.fromkeys(("n_train", "n_val", "n_test"))
    config = make_config(epochs=1, ids_file=paths[0], **sizes, output_dir=tmp_path / "by_file")
    metrics = train(config).metrics
    assert train(config.model_copy(update={"resume": True})).metrics == metrics
    with pytest.raises(InputError, match=r"resumed with another split: .*other\.json has other ids than ids_train_val"):
        train(config.model_copy(update={"resume": True, "ids_file": paths[1]}))


def test_resume_after_a_crash_while_results_were_written(make_config, tmp_path, monkeypatch):
    whole = train(make_config(output_dir=tmp_path / "whole"))

    def crash(*arguments):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(run_writer, "plot_history", crash)
        with pytest.raises(ZeroDivisionError):
            train(make_config())
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_epoch", None)  # nothing is left to train
        resumed = train(make_config(resume=True))
    assert files_of(resumed.folder) == files_of(whole.folder)


def test_resume_without_a_run_begins_one(make_config):
    assert train(make_config(epochs=1, resume=True)).metrics["epochs"] == 1


def test_resume_refuses_a_damaged_checkpoint(make_config):
    config = make_config()
    interrupt(config)
    checkpoint = config.output_dir / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
        train(make_config(resume=True))


def test_max_hours_stops_within_an_epoch_and_resumes(make_config, within_epoch, monkeypatch):
    """The clock leaps in epoch 2; the result is then the first epoch's, and resuming brings the rest."""
    config = make_config()
    clock = time.monotonic
    within_epoch(2, lambda: monkeypatch.setattr(time, "monotonic", lambda: clock() + 3600))
    result = train(config.model_copy(update={"max_hours": 0.5}))
    monkeypatch.undo()
    assert result.metrics["stopped_by"] == "max_hours"
    assert result.metrics["epochs"] == result.metrics["best_epoch"] == 1
    assert result.metrics["test"]["n"] == 7

    resumed = train(config.model_copy(update={"resume": True}))
    assert resumed.metrics["stopped_by"] == "all epochs"
    whole = train(config.model_copy(update={"output_dir": config.output_dir.with_name("whole")}))
    assert files_of(resumed.folder) == files_of(whole.folder)


def test_max_hours_too_short_for_an_epoch_is_an_error(make_config):
    with pytest.raises(InputError, match="ended before the first epoch did"):
        train(make_config(max_hours=1e-9))


def test_early_stopping_stops_and_is_the_end(make_config, monkeypatch):
    """The validation error rises from the second epoch on."""
    validate, scores = Trainer.validate, itertools.count()
    monkeypatch.setattr(Trainer, "validate", lambda trainer: validate(trainer) | {"mae": float(next(scores))})
    metrics = train(make_config(epochs=50, n_early_stopping=3)).metrics
    assert metrics["stopped_by"] == "early stopping"
    assert (metrics["epochs"], metrics["best_epoch"]) == (4, 1)
    assert train(make_config(epochs=50, n_early_stopping=3, resume=True)).metrics == metrics


def test_config_survives_the_way_to_another_process(make_config):
    config = make_config(scheduler="multistep", milestones=(3, 5))
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def column_of(folder, name):
    return np.genfromtxt(folder / "history.csv", delimiter=",", names=True)[name]


def test_a_finished_run_is_extended_with_a_new_schedule(make_config, tmp_path, capsys):
    config = make_config(epochs=3)
    first = train(config)
    before, weights = history_of(config.output_dir), (config.output_dir / "model.safetensors").read_bytes()
    capsys.readouterr()
    extended = train(make_config(epochs=7, resume=True))
    best = first.metrics["best_epoch"]
    told = f"extending the finished run from 3 to 7 epochs: from the weights of its best epoch, {best}, with a new"
    assert told in capsys.readouterr().out
    history = history_of(config.output_dir)
    np.testing.assert_array_equal(history[:, :3], before)
    assert history[0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [row.split(",")[0] for row in (config.output_dir / "history.csv").read_text().split()] == [
        "epoch", *"1234567"
    ]  # fmt: skip
    assert extended.metrics["seconds"] > first.metrics["seconds"] + column_of(config.output_dir, "seconds")[3:].sum()
    # the rates of the four epochs are those of a run of four
    alone = make_config(epochs=4, output_dir=tmp_path / "alone")
    train(alone)
    rates, expected = (column_of(one.output_dir, "learning_rate") for one in (config, alone))
    np.testing.assert_allclose(rates[3:], expected)
    assert extended.metrics["epochs"] == extended.metrics["max_epochs"] == 7
    assert extended.metrics["val"]["mae"] == pytest.approx(column_of(config.output_dir, "val_mae").min(), rel=1e-3)
    assert (extended.metrics["best_epoch"] <= 3) == ((config.output_dir / "model.safetensors").read_bytes() == weights)
    assert train(make_config(epochs=7, resume=True)).metrics == extended.metrics
    with pytest.raises(InputError, match="epochs was 7 and is 5"):
        train(make_config(epochs=5, resume=True))
    changed = {"batch_size": (4, "8 and is 4"), "init_from": ("a", "None and is 'a'")}
    for name, (value, message) in changed.items():
        with pytest.raises(InputError, match=f"other settings: {name} was {message}; give"):
            train(make_config(epochs=9, resume=True, **{name: value}))


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_extension_that_is_interrupted_goes_on(make_config, tmp_path, epoch):
    whole, broken = make_config(epochs=2), make_config(epochs=2, output_dir=tmp_path / "broken")
    for config in (whole, broken):
        train(config)
    train(whole.model_copy(update={"epochs": 5, "resume": True}))
    again = broken.model_copy(update={"epochs": 5, "resume": True})
    ended = itertools.count(1)
    with pytest.MonkeyPatch.context() as patch:
        # before the first checkpoint of the extension, or after its first epoch
        method = "validate" if epoch == 1 else "train_epoch"
        original = getattr(Trainer, method)

        def interrupted(*arguments):
            if next(ended) == epoch:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments)

        patch.setattr(Trainer, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    assert (broken.output_dir / "checkpoints" / "last.ckpt").exists() == (epoch == 2)
    train(again)
    assert files_of(broken.output_dir) == files_of(whole.output_dir)
    np.testing.assert_array_equal(history_of(broken.output_dir), history_of(whole.output_dir))


def test_an_ensemble_and_a_run_that_stopped_early_are_extended(make_config):
    config = make_config(epochs=2, ensemble=2)
    train(config)
    found = train(make_config(epochs=3, ensemble=2, resume=True))
    assert [member["epochs"] for member in found.metrics["members"].values()] == [3, 3]
    assert found.metrics["seconds"] > sum(member["seconds"] for member in found.metrics["members"].values())
    early = make_config(epochs=30, n_early_stopping=1, learning_rate=1e-9, output_dir=config.output_dir / "early")
    n_epochs = train(early).metrics["epochs"]
    assert n_epochs < 30
    again = early.model_copy(update={"resume": True})
    assert train(again).metrics["epochs"] == n_epochs
    assert train(again.model_copy(update={"epochs": 40})).metrics["epochs"] > n_epochs
