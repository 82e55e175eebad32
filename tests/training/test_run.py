"""Whole runs on real crystals: what is written, what it says, and that it is what it says."""

import csv
import json
import math
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import numpy as np
import pytest
import torch

import crysmm
from crysmm.data import estimate
from crysmm.data.store import Store
from crysmm.errors import InputError
from crysmm.files import hold
from crysmm.inference.saved_models import load_model
from crysmm.runs.run_folder import RunFolder
from crysmm.training.train import train
from crysmm.training.trainer import Trainer, seed_everything

RUN_FILES = {
    "README.md", "calibration.safetensors", "config.json", "history.csv", "history.png", "ids_train_val_test.json",
    "metrics.json", "model.json", "model.safetensors", "parity.png", "prediction_results_test_set.csv",
    "prediction_results_train_set.csv", "prediction_results_val_set.csv", "report.html", "skipped.csv", "train.log",
}  # fmt: skip


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def results(folder, split="test"):
    return table(folder / f"prediction_results_{split}_set.csv")


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_run_folder_holds_what_it_should(make_config, drawn_plots, capsys):
    config = make_config()
    result = train(config)
    assert {path.name for path in result.folder.iterdir()} == RUN_FILES
    assert all((result.folder / name).read_bytes()[:4] == b"\x89PNG" for name in ("history.png", "parity.png"))
    assert json.loads((result.folder / "metrics.json").read_text()) == result.metrics
    assert crysmm.TrainingConfig(**json.loads((result.folder / "config.json").read_text())) == config

    targets = {row["id"]: float(row["K_VRH"]) for row in table(config.root_dir / "id_prop.csv")}
    split = json.loads((result.folder / "ids_train_val_test.json").read_text())
    for name, n_crystals in (("train", 17), ("val", 6), ("test", 7)):
        rows = results(result.folder, name)
        assert [row["id"] for row in rows] == split[f"id_{name}"]
        assert len(rows) == n_crystals
        assert all(targets[row["id"]] == float(row["target"]) for row in rows)
        error = np.abs(column(rows, "target") - column(rows, "prediction")).mean()
        assert result.metrics[name]["mae"] == pytest.approx(error, rel=1e-9)

    history = table(result.folder / "history.csv")
    assert list(history[0]) == ["epoch", "learning_rate", "train_loss", "val_loss", "val_mae", "seconds"]
    assert [row["epoch"] for row in history] == ["1", "2", "3"]
    screen, log = capsys.readouterr().out, (result.folder / "train.log").read_text()
    for text in ("read 30 crystals", "split: 17 train, 6 val, 7 test", "epoch", "test: MAE", "crysmm predict --model"):
        assert text in log
        assert text in screen or text == "epoch"  # progress is off


def test_crystals_in_no_split_are_counted(make_config, capsys):
    """Ratios are rounded down, as in ALIGNN, so that they may leave some out."""
    train(make_config(epochs=1, limit=29, n_val=None, n_test=None, val_ratio=0.2, test_ratio=0.4))
    assert "split: 11 train, 5 val, 11 test, 2 in none (random, seed 123)" in capsys.readouterr().out


def test_runs_in_two_threads_are_those_of_one(make_config, tmp_path, monkeypatch):
    """Draw the weights of one after those of the other, from the global random state."""
    configs = [make_config(epochs=1, output_dir=tmp_path / name) for name in "abc"]
    seeded = Barrier(2)

    def seed_and_meet(seed):
        seed_everything(seed)
        with suppress(BrokenBarrierError):
            seeded.wait(timeout=2)

    monkeypatch.setattr("crysmm.training.run.seed_everything", seed_and_meet)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(train, configs[:2]))
    monkeypatch.undo()
    train(configs[2])
    first, second, alone = ([row["train_loss"] for row in table(c.output_dir / "history.csv")] for c in configs)
    assert first == second == alone


def test_best_epoch_is_restored_and_is_the_one_validation_chose(make_config, monkeypatch):
    """The last epoch is spoilt; the validation error of the best is recomputed from the files."""

    train_epoch = Trainer.train_epoch

    def spoil(self, epoch, progress):
        if epoch == 4:
            torch.nn.init.constant_(self.objective.network.head.output.bias, 50.0)
        return train_epoch(self, epoch, progress)

    monkeypatch.setattr(Trainer, "train_epoch", spoil)
    result = train(make_config(epochs=5))
    history = column(table(result.folder / "history.csv"), "val_mae")
    best = int(history.argmin())
    assert best + 1 == result.metrics["best_epoch"] < 5
    rows = results(result.folder, "val")
    error = np.abs(column(rows, "target") - column(rows, "prediction")).mean()
    assert error == pytest.approx(history[best], rel=1e-4)
    assert history[-1] > 2 * error


def test_same_seed_same_predictions_other_seed_others(make_config, tmp_path):
    first = train(make_config(output_dir=tmp_path / "first"))
    torch.rand(3)
    second = train(make_config(output_dir=tmp_path / "second"))
    assert results(first.folder) == results(second.folder)
    split = tmp_path / "first" / "ids_train_val_test.json"
    shares = {"n_val": None, "n_test": None, "ids_file": split}
    other = train(make_config(output_dir=tmp_path / "other", random_seed=5, **shares))
    assert [row["id"] for row in results(other.folder)] == [row["id"] for row in results(first.folder)]
    assert results(other.folder) != results(first.folder)


def test_callers_random_state_is_left_alone(make_config):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    train(make_config(epochs=1))
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_folder_with_a_run_is_refused_without_being_touched(make_config):
    config = make_config(epochs=1)
    folder = train(config).folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"holds a run \(config.json, .*\); continue it with --resume, replace it"):
        train(config)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_overwrite_replaces_the_run_and_nothing_else(make_config):
    folder = train(make_config(epochs=1)).folder
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "mine.ckpt").write_text("mine")
    result = train(make_config(epochs=2, overwrite=True))
    assert len(table(folder / "history.csv")) == 2
    assert "epoch 1/1" not in (folder / "train.log").read_text()
    assert (folder / "notes.txt").read_text() == (folder / "checkpoints" / "mine.ckpt").read_text() == "mine"
    assert {path.name for path in result.folder.iterdir()} == RUN_FILES | {"notes.txt", "checkpoints"}


@pytest.mark.parametrize("changes", [{"root_dir": "nowhere"}, {"n_val": 40}, {"init_from": "nowhere"}])
def test_bad_input_leaves_nothing_and_overwrites_nothing(make_config, changes):
    with pytest.raises(crysmm.CrysmmError):
        train(make_config(**changes))
    assert not make_config().output_dir.exists()
    folder = train(make_config(epochs=1)).folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(crysmm.CrysmmError):
        train(make_config(**changes, overwrite=True))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "was not written by a run"),
        ("[]", "does not hold"),
        ("[" * 100_000, "cannot be read"),
        ("{", "cannot be read"),
    ],
    ids=["empty", "list", "deep", "cut"],
)
def test_a_foreign_metrics_file_is_named(make_config, text, problem):
    config = make_config(resume=True)
    config.output_dir.mkdir()
    (config.output_dir / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=rf"metrics.json {problem}.*; begin the run again with --overwrite"):
        train(config)


def test_output_dir_is_needed_and_is_a_folder(make_config, tmp_path):
    with pytest.raises(InputError, match="output_dir is not given"):
        train(make_config(output_dir=None))
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=r"cannot be written: .*file is a file; name another folder"):
            train(make_config(output_dir=folder))
    with pytest.raises(InputError, match=r"--cache_dir: .* cannot be written: .*file is a file; name another folder"):
        train(make_config(cache_dir=tmp_path / "file"))
    with pytest.raises(InputError, match="is also root_dir: the files of the run would lie among the structures"):
        train(make_config(root_dir=tmp_path, output_dir=tmp_path / "run" / ".."))


def test_a_folder_without_permission_is_refused_before_anything_is_read(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match="no permission to write in"):
        train(make_config(output_dir=tmp_path / "new" / "run", root_dir=tmp_path / "nowhere"))


def test_the_line_to_predict_with_can_be_pasted(make_config, tmp_path, capsys):
    folder = tmp_path / "my run"
    train(make_config(output_dir=folder, epochs=1))
    assert f"crysmm predict --model '{folder}' --root_dir FOLDER" in capsys.readouterr().out


def test_bad_rows_are_skipped_listed_and_told(make_config, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(make_config().root_dir, folder)
    bad = sorted(folder.glob("*.vasp"))[:2]
    bad[0].write_text("")
    bad[1].unlink()
    result = train(make_config(root_dir=folder, limit=None, epochs=1))
    skipped = table(result.folder / "skipped.csv")
    assert [row["file"] for row in skipped if row["reason"] == "the file is empty"] == [bad[0].name]
    assert [bad[1].stem in row["reason"] for row in skipped] == [False, True]
    assert result.metrics["n_skipped"] == 2
    assert result.metrics["n_crystals"] == 198
    assert f"skipped 2 rows, listed in {result.folder / 'skipped.csv'}" in capsys.readouterr().out


def test_cells_too_large_for_the_memory_are_skipped(make_config, tiny_alignn, monkeypatch):
    monkeypatch.setattr("crysmm.training.prepare.memory_limit", lambda device: estimate.PROCESS_MEMORY + 30_000)
    result = train(make_config(model=tiny_alignn, epochs=1, n_val=2, n_test=2))
    skipped = table(result.folder / "skipped.csv")
    assert 0 < len(skipped) < 25
    assert all("triplets" in row["reason"] for row in skipped)
    used = json.loads((result.folder / "ids_train_val_test.json").read_text())
    assert not {row["id"] for row in skipped} & {name for names in used.values() for name in names}
    with pytest.raises(InputError, match="strict stops at the first row"):
        train(make_config(model=tiny_alignn, strict=True, overwrite=True))


@pytest.mark.parametrize("name", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_last_batch_of_one_atom_trains(make_config, tiny_alignn, crystals, name):
    """13 training crystals in batches of 4: the last holds one, which in some epoch is a one-atom cell."""
    names = ["Cu", "Fe", "Si"]
    records = [
        {
            "id": f"{copy}-{formula}",
            "y": copy + index,
            "lattice_mat": (crystals[formula].lattice * (1 + 0.01 * copy)).tolist(),
            "frac_coords": crystals[formula].frac_coords.tolist(),
            "elements": crystals[formula].elements,
        }
        for copy in range(5)
        for index, formula in enumerate(names)
    ]
    model = {
        "cgcnn": {"name": "cgcnn", "node_features": 8},
        "crysxpp": {"name": "crysxpp", "node_features": 8},
        "gatgnn": {"name": "gatgnn", "node_features": 8, "heads": 2},
        "alignn": tiny_alignn | {"norm": "batch"},
    }[name]
    config = make_config(root_dir=None, limit=None, model=model, n_val=1, n_test=1, batch_size=4, epochs=12)
    result = train(config, records)
    assert np.isfinite(column(results(result.folder, "train"), "prediction")).all()


def test_log10_of_the_target(make_config):
    result = train(make_config(target_transform="log10"))
    test = result.metrics["test"]
    rows = results(result.folder)
    difference = np.abs(np.log10(column(rows, "target")) - np.log10(column(rows, "prediction")))
    assert test["log10"]["mae"] == pytest.approx(difference.mean(), rel=1e-9)
    assert test["mae"] == pytest.approx(np.abs(column(rows, "target") - column(rows, "prediction")).mean(), rel=1e-9)


def test_classes(make_config):
    result = train(make_config(classification_threshold=60.0, epochs=2))
    rows = results(result.folder, "train")
    assert list(rows[0]) == ["id", "target", "prediction", "probability_0", "probability_1"]
    np.testing.assert_allclose(column(rows, "probability_0") + column(rows, "probability_1"), 1)
    assert {row["target"] for row in rows} == {"0", "1"}
    hits = [row["target"] == row["prediction"] for row in rows]
    assert result.metrics["train"]["accuracy"] == pytest.approx(np.mean(hits))
    assert "val_error" in table(result.folder / "history.csv")[0]


def test_several_targets_from_records(make_config, crystals):
    records = [
        {"id": f"{name}{scale}", "volume": scale * crystal.volume, "atoms_in_cell": len(crystal), "other": "no",
         "atoms": {"lattice_mat": (crystal.lattice * scale ** (1 / 3)).tolist(), "coords": crystal.frac_coords.tolist(),
                   "elements": crystal.elements, "cartesian": False}}
        for name, crystal in crystals.items()
        for scale in (0.9, 1.0, 1.1)
    ]  # fmt: skip
    config = make_config(root_dir=None, limit=None, target_key="volume,atoms_in_cell")
    result = train(config, records)
    rows = results(result.folder)
    names = ("volume", "atoms_in_cell")
    numbers = [f"{kind}_{name}" for kind in ("target", "prediction", "lower", "upper") for name in names]
    assert list(rows[0]) == ["id", *numbers, "distance_percentile", "domain"]
    assert set(result.metrics["test"]["intervals"]["per_target"]) == set(names)
    assert set(result.metrics["test"]["per_target"]) == {"volume", "atoms_in_cell"}


def test_root_dir_and_records_exclude_each_other(make_config):
    with pytest.raises(InputError, match="either root_dir or records"):
        train(make_config(), [{"id": "a"}])
    with pytest.raises(InputError, match="either root_dir or records"):
        train(make_config(root_dir=None))


def test_fine_tuning_starts_from_the_other_models_weights(make_config, tmp_path, capsys):
    """With a rate of almost nothing the weights stay what they were loaded as."""
    other = train(make_config(output_dir=tmp_path / "other"))
    tuned = train(make_config(init_from=other.folder, learning_rate=1e-12, epochs=1, n_test=8, n_val=5))
    assert f"weights from {other.folder}" in capsys.readouterr().out
    before, after = load_model(other.folder).network, load_model(tuned.folder).network
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-6, msg=name)


def test_no_result_comes_from_weights_that_predict_no_numbers(make_config, monkeypatch):
    validate = Trainer.validate
    monkeypatch.setattr(Trainer, "validate", lambda trainer: validate(trainer) | {"mae": math.nan})
    config = make_config()
    with pytest.raises(InputError, match="diverged: no epoch has a validation score that is a number"):
        train(config)
    assert not (config.output_dir / "metrics.json").exists()


def test_divergence_is_an_error_that_says_what_to_do(make_config):
    with pytest.raises(InputError, match=r"training has diverged.*lower than 1e\+30"):
        train(make_config(learning_rate=1e30, criterion="mse", optimizer="sgd", scheduler="none"))


def test_bf16_trains_and_results_are_fp32(make_config):
    """Predictions in the files are those of the saved model in fp32, whatever training computed in."""
    result = train(make_config(precision="bf16"))
    assert result.metrics["precision"] == "bf16"
    rows = results(result.folder)
    assert any(np.float32(value) != torch.tensor(value).bfloat16().item() for value in column(rows, "prediction"))


def test_a_constant_target_and_a_training_that_went_wrong_are_reported(make_config, crystals, tmp_path, capsys):
    kinds = list(crystals.values())[:10]
    rows = [
        {"id": str(number), "atoms": crystal.to_jarvis().to_dict(), "a": 1.1, "b": number}
        for number, crystal in enumerate(2 * kinds)
    ]
    train(make_config(root_dir=None, target_key="a,b", limit=None, n_val=5, n_test=5, epochs=1), rows)
    printed = capsys.readouterr().out
    assert "equal for all training crystals, so that nothing can be learned: a\n" in printed
    assert "training went wrong" not in printed
    train(make_config(epochs=2, learning_rate=1e6, output_dir=tmp_path / "wrong"))
    assert "far worse than that without a network" in capsys.readouterr().out


def test_link_switches_standardization_off_and_says_so(make_config, capsys):
    train(make_config(epochs=1, model={"name": "cgcnn", "conv_layers": 1, "node_features": 8, "link": "log"}))
    assert "model.link log: the target is not standardized" in capsys.readouterr().out


def test_alike_atoms_are_computed_once(make_config, dgl, tiny_alignn, tmp_path, monkeypatch):
    """And what is learned is what DGL learns from all of them."""
    merged = []
    batch_of = Store.batch
    monkeypatch.setattr(
        Store,
        "batch",
        lambda store, rows, *, merge=False: merged.append(merge) or batch_of(store, rows, merge=merge),
    )
    found = {}
    for engine in ("blocked", "dgl"):
        settings = {"engine": engine, "model": tiny_alignn, "output_dir": tmp_path / engine}
        found[engine] = train(make_config(**settings))
        assert set(merged) == {engine == "blocked"}
        merged.clear()
    for split in ("train", "val", "test"):
        ours, theirs = (column(results(run.folder, split), "prediction") for run in found.values())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)  # of bulk moduli of 100 GPa


def test_a_run_that_is_written_meanwhile_is_kept(make_config, monkeypatch):
    config = make_config(epochs=1)
    prepare = crysmm.training.train.prepare_training

    def slow(*arguments):
        data = prepare(*arguments)
        config.output_dir.mkdir(parents=True)
        (config.output_dir / "metrics.json").write_text("{}")  # by another process, which began later
        return data

    monkeypatch.setattr(crysmm.training.train, "prepare_training", slow)
    with pytest.raises(InputError, match="another run has been written to"):
        train(config)
    assert (config.output_dir / "metrics.json").read_text() == "{}"


def test_two_processes_never_train_in_one_folder(make_config, monkeypatch):
    config = make_config(epochs=1)
    train_epoch = Trainer.train_epoch
    is_running = []

    def watched(*arguments):
        is_running.append(RunFolder(config.output_dir).is_running)
        return train_epoch(*arguments)

    monkeypatch.setattr(Trainer, "train_epoch", watched)
    train(config)
    assert is_running == [True]
    assert not RunFolder(config.output_dir).is_running
    before = (config.output_dir / "metrics.json").read_bytes()
    with (
        hold(config.output_dir / "train.log"),  # as another process would
        pytest.raises(InputError, match=r"another process is training in .*; wait for it, stop it, or name another"),
    ):
        train(make_config(epochs=1, overwrite=True))
    assert (config.output_dir / "metrics.json").read_bytes() == before


def test_graphs_without_any_bond_are_refused(make_config):
    with pytest.raises(InputError, match=r"no atom has a neighbor within the cutoff of 0\.5 Angstrom; give a larger"):
        train(make_config(cutoff=0.5, neighbor_strategy="radius"))
