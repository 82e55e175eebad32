"""The study of few labels, made small: the splits, the runs, the table and the plot."""

import json
import runpy
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from crysmm.cli.main import main
from crysmm.config import TrainingConfig
from crysmm.data.records import open_source

CHECKOUT = Path(__file__).parents[2]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"
SMALL = ["--model.conv_layers", "1", "--model.node_features", "8", "--epochs", "2", "--device", "cpu", "--jobs", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty of the sample crystals in one file."""
    path = tmp_path_factory.mktemp("data") / "crystals.jsonl"
    with path.open("w") as file:
        for row in open_source(SAMPLE_DATA, limit=40).rows():
            record = row.read()
            arrays = {
                "lattice_mat": record.crystal.lattice.tolist(),
                "frac_coords": record.crystal.frac_coords.tolist(),
            }
            line = {"id": record.id, "elements": record.crystal.elements, "K": record.targets[0], **arrays}
            file.write(json.dumps(line) + "\n")
    return path


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The script with a small protocol, its runs in this process."""
    module = SimpleNamespace(**runpy.run_path(str(CHECKOUT / "benchmarks" / "few_labels.py"), run_name="few_labels"))
    functions = module.run_all.__globals__
    monkeypatch.setitem(functions, "END_OF_TRAINING", 20)
    monkeypatch.setitem(functions, "END_OF_VALIDATION", 30)
    monkeypatch.setitem(functions, "RECIPE", SMALL)
    monkeypatch.setitem(functions, "PRETRAINING", SMALL)
    monkeypatch.setitem(functions, "ENCODERS", {"decoys": ["--method", "decoys", "--limit", "30"]})
    calls = []

    def call(command, output, jobs):
        if not (output / "metrics.json").exists():
            calls.append(output.relative_to(tmp_path).as_posix())
            cache = ["--cache_dir", str(tmp_path / "cache"), "--progress", "false"]
            assert main([*command, "--output_dir", str(output), *cache]) == 0

    monkeypatch.setitem(functions, "call", call)
    module.calls = calls
    module.run_all, module.main = functions["run_all"], functions["main"]
    return module


def test_runs_are_made_once_and_the_table_says_what_they_say(study, data, tmp_path):
    arms = ["cgcnn", "cgcnn from decoys"]
    study.run_all(data, "K", tmp_path, arms, [10], [1, 2], 1)
    runs = [f"runs/{arm}/10/seed_{seed}" for seed in (1, 2) for arm in ("cgcnn", "cgcnn_from_decoys")]
    assert study.calls == ["encoders/decoys", *runs]
    study.run_all(data, "K", tmp_path, arms, [10], [1, 2], 1)
    assert len(study.calls) == 5

    ids = [row.id for row in open_source(data, target_key="K").rows()]
    split = json.loads((tmp_path / runs[0] / "ids_train_val_test.json").read_text())
    assert (split["id_train"], split["id_val"], split["id_test"]) == (ids[:10], ids[20:30], ids[30:])
    encoder = json.loads((tmp_path / "encoders/decoys/ids_train_val_test.json").read_text())
    seen = set(encoder["id_train"] + encoder["id_val"])
    assert seen <= set(ids[:30])
    assert len(seen) >= 29  # shares are rounded down

    maes = {run: json.loads((tmp_path / run / "metrics.json").read_text())["test"]["mae"] for run in runs}
    results = study.read_results(tmp_path)
    assert results["cgcnn"][10] == {1: maes[runs[0]], 2: maes[runs[2]]}
    differences = [maes[runs[1]] - maes[runs[0]], maes[runs[3]] - maes[runs[2]]]
    *_, row = study.table(results).splitlines()
    assert f"({statistics.mean(differences):+.4f} ± {statistics.stdev(differences):.4f})" in row
    study.plot(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_what_was_not_run_is_said(study):
    table = study.table({"cgcnn": {1500: {1: 0.12}, 6000: {1: 0.07}}, "crysxpp": {1500: {1: 0.11}}})
    assert "| cgcnn | 0.1200 (one seed) | 0.0700 (one seed) |" in table
    assert "| crysxpp | 0.1100 (one seed) (-0.0100 (one seed)) | not run |" in table


@pytest.mark.parametrize("arm", list(runpy.run_path(str(CHECKOUT / "benchmarks" / "few_labels.py"))["ARMS"]))
def test_every_arm_has_an_encoder_there_is(study, arm):
    encoder = study.ARMS[arm].encoder
    encoders = runpy.run_path(str(CHECKOUT / "benchmarks" / "few_labels.py"))["ENCODERS"]
    assert encoder is None or encoder in encoders


def test_unknown_arms_are_refused(study, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["few_labels.py", "run", "--data", "d", "--work", "w", "--arms", "cgcn"])
    with pytest.raises(SystemExit):
        study.main()
    assert "invalid choice: 'cgcn'" in capsys.readouterr().err


def test_the_command_line_reaches_the_runs(study, data, tmp_path, monkeypatch):
    line = ["run", "--data", str(data), "--target", "K", "--work", str(tmp_path), "--labelled", "10", "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", ["few_labels.py", *line, "--arms", "cgcnn"])
    study.main()
    assert study.calls == ["runs/cgcnn/10/seed_3"]


def test_the_recipe_is_one_crysmm_takes(study):
    recipe = runpy.run_path(str(CHECKOUT / "benchmarks" / "few_labels.py"))["RECIPE"]
    keys = [option.removeprefix("--") for option in recipe[::2]]
    assert set(keys) <= set(TrainingConfig.model_fields)
