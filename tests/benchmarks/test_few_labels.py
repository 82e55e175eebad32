"""The studies of few labels and of other properties, made small: the splits, the runs, the table and the plot."""

import csv
import json
import math
import statistics

import pytest

from benchmarks import few_labels, properties, study
from crysmm.config import TrainingConfig
from crysmm.io.inputs import open_source
from crysmm.zoo import shipped_names


def test_runs_are_made_once_and_the_table_says_what_they_say(calls, run, data, tmp_path, capsys):
    options = ["run", "--data", data, "--target", "K", "--labeled", "10", "--seeds", "1,2"]
    options += ["--arms", "cgcnn", "cgcnn from decoys"]
    run(few_labels, *options)
    runs = [f"runs/{arm}/10/seed_{seed}" for seed in (1, 2) for arm in ("cgcnn", "cgcnn_from_decoys")]
    assert calls == ["encoders/decoys", *runs]
    run(few_labels, *options)
    assert len(calls) == 5

    ids = [row.id for row in open_source(data, target_key="K").rows()]
    split = json.loads((tmp_path / runs[0] / "ids_train_val_test.json").read_text())
    assert (split["id_train"], split["id_val"], split["id_test"]) == (ids[:10], ids[20:30], ids[30:])
    encoder = json.loads((tmp_path / "encoders/decoys/ids_train_val_test.json").read_text())
    seen = set(encoder["id_train"] + encoder["id_val"])
    assert seen <= set(ids[:30])
    assert len(seen) >= 29  # shares are rounded down

    maes = {run: json.loads((tmp_path / run / "metrics.json").read_text())["test"]["mae"] for run in runs}
    assert study.read_results(tmp_path / "results.csv")["cgcnn"]["10"] == {1: maes[runs[0]], 2: maes[runs[2]]}
    capsys.readouterr()
    run(few_labels, "report")
    *_, row = capsys.readouterr().out.strip().splitlines()
    differences = [maes[runs[1]] - maes[runs[0]], maes[runs[3]] - maes[runs[2]]]
    assert f"({statistics.mean(differences):+.4f} ± {statistics.stdev(differences):.4f})" in row
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


def test_a_result_outlives_the_folder_of_its_run(calls, run, data, tmp_path):
    study.write_results({"cgcnn": {"10": {1: 0.5}}}, tmp_path / "results.csv")
    run(few_labels, "run", "--data", data, "--target", "K", "--labeled", "10", "--seeds", "1,2", "--arms", "cgcnn")
    assert calls == ["runs/cgcnn/10/seed_2"]
    assert study.read_results(tmp_path / "results.csv")["cgcnn"]["10"][1] == 0.5


def test_a_transformed_target_is_judged_in_the_units_it_is_learned_in(calls, run, data, tmp_path, monkeypatch):
    task = (data.name, ["--target_key", "K", "--target_transform", "log10"])
    monkeypatch.setattr(properties, "PROPERTIES", {"log10 K": task})
    options = ["--tables", data.parent, "--pretraining_data", data, "--seeds", "1", "--arms", "cgcnn"]
    run(properties, "run", *options)
    folder = tmp_path / "runs/cgcnn/log10_K/seed_1"
    with (folder / "prediction_results_test_set.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [abs(math.log10(float(row["target"])) - math.log10(float(row["prediction"]))) for row in rows]
    mae = study.read_results(tmp_path / "properties.csv")["cgcnn"]["log10 K"][1]
    assert mae == pytest.approx(statistics.mean(errors), rel=1e-4)


def test_what_was_not_run_is_said():
    results = {"cgcnn": {"1500": {1: 0.12}, "6000": {1: 0.07}}, "crysxpp": {"1500": {1: 0.11}}}
    table = study.table(results)
    assert "| | 1,500 | 6,000 |" in table
    assert "| cgcnn | 0.1200 (one seed) | 0.0700 (one seed) |" in table
    assert "| crysxpp | 0.1100 (one seed) (-0.0100 (one seed)) | not run |" in table


def test_an_arm_is_compared_with_its_own_backbone():
    results = {"cgcnn": {"K": {1: 0.12}}, "gatgnn": {"K": {1: 0.2}}, "gatgnn distilled from decoys": {"K": {1: 0.1}}}
    assert "| gatgnn | 0.2000 (one seed) |" in study.table(results)
    assert "| gatgnn distilled from decoys | 0.1000 (one seed) (-0.1000 (one seed)) |" in study.table(results)


def test_every_arm_has_an_encoder_there_is():
    assert {arm.encoder for arm in study.ARMS.values()} == {*study.SHIPPED, *study.ENCODERS, study.SEVERAL, None}
    assert set(study.SHIPPED.values()) <= set(shipped_names())


def test_unknown_arms_are_refused(run, data, capsys):
    with pytest.raises(SystemExit):
        run(few_labels, "run", "--data", data, "--arms", "cgcn")
    assert "invalid choice: 'cgcn'" in capsys.readouterr().err


def test_the_options_are_ones_crysmm_takes():
    options = [*study.RECIPE, *(option for arm in study.ARMS.values() for option in arm.options)]
    keys = {option.removeprefix("--").split(".")[0] for option in options if option.startswith("--")}
    assert keys <= set(TrainingConfig.model_fields)
