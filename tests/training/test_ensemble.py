"""Ensembles: what their folder holds, that it is the mean of the members, and that it goes on where it was."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import crysmm
from crysmm.cli.main import main
from crysmm.config import TrainingConfig
from crysmm.errors import InputError, ModelFolderError
from crysmm.inference.intervals import Calibration
from crysmm.inference.saved_models import load_model
from crysmm.io.structure_file import read_structure
from crysmm.training.train import train
from crysmm.training.trainer import Trainer
from tests import forked

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
FILES = ["mp-149.vasp", "mp-10003.vasp", "mp-1029.vasp"]
SIZES = {"limit": 40, "n_val": 10, "n_test": 8, "epochs": 2}


def train_until_killed(config):
    """Train, and kill this process in the second member's second epoch."""
    train_epoch = Trainer.train_epoch

    def kill(self, epoch, progress):
        if self.config.random_seed == 124 and epoch == 1:
            progress.advance = lambda loss: os.kill(os.getpid(), signal.SIGKILL)
        return train_epoch(self, epoch, progress)

    Trainer.train_epoch = kill
    train(config)


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_settings):
    """An ensemble of three."""
    return train(make_settings(tmp_path_factory.mktemp("ensemble") / "run", ensemble=3, **SIZES))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def members_of(folder):
    return [folder / f"member_{number}" for number in (1, 2, 3)]


def test_mean_and_spread_are_those_of_the_members(run):
    files = [SAMPLE_DATA / name for name in FILES]
    ensemble = crysmm.load(run.folder, device="cpu")
    members = [crysmm.load(member, device="cpu") for member in members_of(run.folder)]
    predictions = np.array([member.predict(files) for member in members])
    assert np.ptp(predictions, axis=0).min() > 1e-3  # they differ
    np.testing.assert_allclose(ensemble.predict(files), predictions.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(ensemble.assess(files).spread, predictions.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(
        ensemble.embed(files), np.concatenate([member.embed(files) for member in members], axis=1), rtol=1e-12
    )
    assert ensemble.predict(files[0]).shape == (1,)
    assert ensemble.predict([]).shape == (0, 1)
    for split in ("train", "val", "test"):
        rows = table(run.folder / f"prediction_results_{split}_set.csv")
        of_members = [table(member / f"prediction_results_{split}_set.csv") for member in members_of(run.folder)]
        expected = np.array([column(one, "prediction") for one in of_members])
        np.testing.assert_allclose(column(rows, "prediction"), expected.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(column(rows, "spread"), expected.std(axis=0, ddof=1), rtol=1e-2, atol=1e-4)


def test_members_differ_by_their_seeds_and_share_the_split(run):
    split = json.loads((run.folder / "ids_train_val_test.json").read_text())
    for number, member in enumerate(members_of(run.folder)):
        assert json.loads((member / "ids_train_val_test.json").read_text()) == split
        config = TrainingConfig.model_validate_json((member / "config.json").read_text())
        assert config.random_seed == 123 + number
        assert (config.ensemble, config.ids_file) == (1, run.folder / "ids_train_val_test.json")
        metrics = json.loads((member / "metrics.json").read_text())
        assert run.metrics["members"][member.name]["test"] == metrics["test"]


def test_a_member_is_the_run_its_settings_describe(run, tmp_path):
    config = TrainingConfig.model_validate_json((run.folder / "member_2" / "config.json").read_text())
    again = train(config.model_copy(update={"output_dir": tmp_path / "again"}))
    for name in ("model.safetensors", "prediction_results_test_set.csv"):
        assert (again.folder / name).read_bytes() == (run.folder / "member_2" / name).read_bytes()


def test_intervals_are_calibrated_on_the_mean(run):
    """By the errors of the mean, and distances between the embeddings of all members side by side."""
    predictor = crysmm.load(run.folder, device="cpu")
    (model,) = predictor.models
    rows = table(run.folder / "prediction_results_val_set.csv")
    files = [SAMPLE_DATA / f"{row['id'].removesuffix('.vasp')}.vasp" for row in rows]
    predictions, targets = column(rows, "prediction")[:, None], column(rows, "target")[:, None]
    np.testing.assert_allclose(predictor.predict(files), predictions, rtol=1e-5)
    n_atoms = np.array([len(read_structure(file)) for file in files])
    domain, embeddings = model.calibration.domain, predictor.embed(files)
    assert embeddings.shape == (10, 3 * 8)
    again = Calibration.fit(model.scaler, domain, targets, predictions, embeddings, n_atoms)
    np.testing.assert_allclose(model.calibration.ratios, again.ratios, rtol=1e-3)
    np.testing.assert_allclose(model.calibration.scale.coefficients, again.scale.coefficients, atol=1e-3)


@pytest.mark.parametrize("finished", [False, True], ids=["at once", "resumed"])
def test_kept_embeddings_are_those_of_the_named_crystals(finished, make_config, monkeypatch):
    """Keep four of the training crystals, also of members that were trained in an earlier process."""
    monkeypatch.setattr("crysmm.inference.domain.MOST_EMBEDDINGS", 4)
    config = make_config(ensemble=2, **SIZES)
    folder = train(config).folder
    if finished:
        (folder / "metrics.json").unlink()
        train(config.model_copy(update={"resume": True}))
    predictor = crysmm.load(folder, device="cpu")
    domain = predictor.models[0].calibration.domain
    assert len(domain.crystals) == 4
    files = [SAMPLE_DATA / f"{crystal.id.removesuffix('.vasp')}.vasp" for crystal in domain.crystals]
    np.testing.assert_allclose(domain.embeddings, predictor.embed(files), rtol=1e-5)


def test_command_line(run, tmp_path, capsys):
    files = [str(SAMPLE_DATA / name) for name in FILES]
    output = tmp_path / "out.csv"
    assert main(["predict", "--model", str(run.folder), "--files", *files, "--output", str(output)]) == 0
    (row, *_) = rows = table(output)
    assert list(row) == [
        "id", "prediction", "spread", "lower", "upper", "distance_percentile", "domain", "unit", "reason", "note"
    ]  # fmt: skip
    np.testing.assert_allclose(column(rows, "prediction"), crysmm.load(run.folder).predict(files)[:, 0], rtol=1e-9)
    log = (run.folder / "train.log").read_text()
    for text in ("member 3 of 3, seed 125", "member_3, test: MAE", "ensemble:", "crysmm predict --model"):
        assert text in log
    assert main(["audit", "--model", str(run.folder), "--output_dir", str(tmp_path)]) == 0


def test_where_one_model_is_needed_the_ensemble_is_refused(run, make_config):
    with pytest.raises(ModelFolderError, match=r"holds an ensemble, and one model is needed; name .*member_1"):
        load_model(run.folder)
    with pytest.raises(ModelFolderError, match="holds an ensemble"):
        train(make_config(init_from=run.folder))
    load_model(run.folder / "member_1")


def test_a_member_exchanged_or_a_damaged_list_is_told(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    shutil.rmtree(folder / "member_2")
    shutil.copytree(run.folder / "member_3", folder / "member_2")
    with pytest.raises(ModelFolderError, match=r"member_2 is another model than .*ensemble.json names"):
        crysmm.load(folder)
    (folder / "ensemble.json").write_text('{"members": ')
    with pytest.raises(ModelFolderError, match=r"ensemble.json is damaged"):
        crysmm.load(folder)


def files_of(folder):
    names = ["ensemble.json", "calibration.safetensors", "ids_train_val_test.json"]
    names += [f"prediction_results_{split}_set.csv" for split in ("train", "val", "test")]
    names += [f"member_{number}/model.safetensors" for number in (1, 2, 3)]
    return {name: (folder / name).read_bytes() for name in names}


def test_resumed_after_kill_9_equals_undisturbed(run, make_config, tmp_path, capsys):
    config = make_config(ensemble=3, **SIZES)
    assert forked.run(train_until_killed, config, output=tmp_path / "printed.txt") == -signal.SIGKILL
    folder = config.output_dir
    assert (folder / "member_1" / "metrics.json").exists()
    assert (folder / "member_2" / "checkpoints" / "last.ckpt").exists()
    assert not (folder / "member_3").exists()
    assert not (folder / "ensemble.json").exists()
    first = os.stat(folder / "member_1" / "model.safetensors").st_mtime_ns

    resumed = train(config.model_copy(update={"resume": True}))
    assert "trained already" in capsys.readouterr().out
    assert os.stat(folder / "member_1" / "model.safetensors").st_mtime_ns == first
    assert files_of(folder) == files_of(run.folder)
    assert not list(folder.rglob("*.ckpt"))
    assert train(config.model_copy(update={"resume": True})).metrics == resumed.metrics  # nothing is left to do


def test_resuming_on_other_data_or_with_other_settings_is_refused(run, make_config, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    (folder / "metrics.json").unlink()
    config = make_config(ensemble=3, **SIZES, output_dir=folder, resume=True)
    other = tmp_path / "other"
    shutil.copytree(SAMPLE_DATA, other)
    text = (other / "id_prop.csv").read_text().splitlines()
    changed = [text[0], *(line.rsplit(",", 1)[0] + ",7.5" for line in text[1:])]
    (other / "id_prop.csv").write_text("\n".join(changed) + "\n")
    with pytest.raises(InputError, match="cannot be resumed: the structures, their properties"):
        train(config.model_copy(update={"root_dir": other}))
    with pytest.raises(InputError, match="ensemble was 3 and is 4"):
        train(config.model_copy(update={"ensemble": 4}))


def test_overwrite_takes_the_members_away(run, make_config, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    train(make_config(output_dir=folder, overwrite=True, **SIZES))
    assert not list(folder.glob("member_*"))
    assert not (folder / "ensemble.json").exists()
    assert crysmm.load(folder).predict(SAMPLE_DATA / FILES[0]).shape == (1,)


def test_time_is_shared_out_and_the_rest_is_done_on_resuming(make_config, epochs_of_an_hour):
    config = make_config(ensemble=2, **SIZES | {"epochs": 6}, max_hours=9)
    stopped = train(config)
    assert stopped.metrics["stopped_by"] == "max_hours"
    assert [member["epochs"] for member in stopped.metrics["members"].values()] == [4, 4]
    assert len(list(config.output_dir.rglob("*.ckpt"))) == 2
    resumed = train(config.model_copy(update={"max_hours": None, "resume": True}))
    assert [member["epochs"] for member in resumed.metrics["members"].values()] == [6, 6]


def test_classes(make_config):
    result = train(make_config(ensemble=2, classification_threshold=60.0, **SIZES))
    (row, *_) = table(result.folder / "prediction_results_test_set.csv")
    assert list(row)[2:7] == ["prediction", "probability_0", "probability_1", "spread_0", "spread_1"]
    assert float(row["probability_0"]) + float(row["probability_1"]) == pytest.approx(1)
