"""``crysmm runs`` on small runs: the table against their files, and the page against their predictions."""

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import crysmm
from crysmm.cli.main import main
from crysmm.comparison.overview import find_runs
from crysmm.comparison.runs_page import compared, group_by_test_crystals
from crysmm.files import hold

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_run):
    """Runs on two splits, an ensemble, an encoder, one that was stopped, and files of another program."""
    folder = tmp_path_factory.mktemp("runs")
    shared = small_run | {"root_dir": SAMPLE_DATA, "cache_dir": tmp_path_factory.mktemp("cache"), "limit": 60}
    shared |= {"epochs": 2, "n_val": 12, "n_test": 18}
    crysmm.train(**shared, output_dir=folder / "b" / "plain")
    crysmm.train(**shared, output_dir=folder / "b" / "slow", learning_rate=1e-4)
    crysmm.train(**shared, output_dir=folder / "a" / "other_split", random_seed=5, unit="Mbar")
    crysmm.train(**shared, output_dir=folder / "c" / "ensemble", ensemble=2)
    crysmm.pretrain(**shared, output_dir=folder / "d" / "encoder")
    shutil.copytree(folder / "b" / "plain", folder / "e" / "stopped")
    (folder / "e" / "stopped" / "metrics.json").unlink()
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text('{"architectures": ["BertModel"]}')
    return folder


def rows_of(run):
    with (run / "prediction_results_test_set.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_table(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["run", "model", "head", "data", "split"]
    rows = {line.split()[0]: re.split(r"\s{2,}", line) for line in lines}
    assert list(rows) == [
        "a/other_split", "b/plain", "b/slow", "c/ensemble", "d/encoder", "e/stopped"
    ]  # fmt: skip
    metrics = json.loads((folder / "b" / "plain" / "metrics.json").read_text())
    _, model, head, data, split, target, error, epochs, *_ = rows["b/plain"]
    assert (model, head, data) == ("cgcnn", "vanilla", "sample_data")
    assert split == "30/12/18 (random, seed 123)"
    assert target == "K_VRH (GPa)"
    assert float(re.fullmatch(r"MAE ([\d.]+) GPa", error)[1]) == pytest.approx(metrics["test"]["mae"], rel=5e-3)
    assert epochs == f"{metrics['best_epoch']} of 2"
    assert rows["a/other_split"][6].endswith(" Mbar")
    assert rows["c/ensemble"][2] == "vanilla, 2 members"
    assert rows["d/encoder"][2] == "pre-training, decoys"
    assert rows["e/stopped"][6] == "-"
    assert rows["e/stopped"][-1] == "unfinished: epoch 2"
    with hold(folder / "e" / "stopped" / "train.log"):
        assert {run.name: run.row()[-1] for run in find_runs(folder)[0]}["e/stopped"] == "running: epoch 2"


def test_a_gaussian_process_is_no_graph_network(small_run, toy, tmp_path):
    settings = small_run | {"root_dir": SAMPLE_DATA, "cache_dir": tmp_path / "cache", "limit": 30, "n_val": 6}
    crysmm.train(**settings, output_dir=tmp_path / "runs" / "process", head={"name": "features", "embeddings": "toy"})
    (run,), _ = find_runs(tmp_path / "runs")
    assert run.row()[1:3] == ["gaussian-process", "features"]


def test_runs_are_in_the_order_of_their_numbers(folder, tmp_path):
    for name in ("run_10", "run_9", "a"):
        shutil.copytree(folder / "b" / "plain", tmp_path / name)
    assert [run.name for run in find_runs(tmp_path)[0]] == ["a", "run_9", "run_10"]


def test_the_table_needs_no_torch(folder):
    code = f"import sys; sys.modules['torch'] = None\nfrom crysmm.cli.main import main\nmain(['runs', {str(folder)!r}])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SAMPLE_DATA.parents[1])
    assert len(ran.stdout.splitlines()) == 7, ran.stderr


def test_pairs_are_those_of_the_predictions(folder):
    groups, notes = group_by_test_crystals(find_runs(folder)[0])
    assert notes == []
    assert [[run.name for run, *_ in group.runs] for group in groups] == [
        ["a/other_split"], ["b/plain", "b/slow", "c/ensemble"]
    ]  # fmt: skip
    found = compared(groups[1], folder)
    first, *others = (rows_of(folder / run.name) for run, *_ in groups[1].runs)
    assert list(found.test_ids) == list(first)
    for pair, rows in zip(found.pairs, others, strict=True):
        errors = [
            [abs(float(row["target"]) - float(row["prediction"])) for row in (one[name] for name in first)]
            for one in (rows, first)
        ]
        difference = np.subtract(*errors)
        assert pair.difference.value == pytest.approx(difference.mean())
        assert pair.difference.standard_error == pytest.approx(stats.sem(difference))
        assert pair.difference.n == 18


def test_page(folder, tmp_path, capsys):
    page = tmp_path / "runs.html"
    assert main(["runs", str(folder), "--html", str(page)]) == 0
    assert "with 18 test crystals" in capsys.readouterr().out
    text = page.read_text()
    assert "Errors on the same 18 test crystals: b/plain, b/slow, c/ensemble" in text
    # curves in GPa (that of the stopped run too), Mbar and of the encoder; scores, differences, two scatter plots
    assert text.count('class="plot"') == 3 + 2 + 2
    assert re.search(r'href="[^"]*b/plain/report.html"', text)
    assert main(["runs", str(folder), "--html", str(page)]) == 0
    page.write_text("mine")
    assert main(["runs", str(folder), "--html", str(page)]) == 2
    assert page.read_text() == "mine"


def test_crystals_with_other_targets_are_not_paired(folder, tmp_path):
    for name in ("plain", "slow"):
        shutil.copytree(folder / "b" / name, tmp_path / name)
    table = tmp_path / "slow" / "prediction_results_test_set.csv"
    lines = table.read_text().splitlines()
    changed = [line.split(",") for line in lines[1:]]
    table.write_text("\n".join([lines[0], *(",".join([row[0], "1.5", *row[2:]]) for row in changed)]) + "\n")
    groups, _ = group_by_test_crystals(find_runs(tmp_path)[0])
    assert [len(group.runs) for group in groups] == [1, 1]


def test_a_group_shares_half_of_the_largest_test_split(folder, tmp_path):
    """Of 18, 9 and 5 nested test crystals, the 5 are half of the 9 that the others share, but not of the 18."""
    for name, n_test in (("a", 18), ("b", 9), ("c", 5), ("d", 5)):
        shutil.copytree(folder / "b" / "plain", tmp_path / name)
        table = tmp_path / name / "prediction_results_test_set.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[: 1 + n_test]))
    groups, _ = group_by_test_crystals(find_runs(tmp_path)[0])
    assert [[run.name for run, *_ in group.runs] for group in groups] == [["a", "b"], ["c", "d"]]
    assert [len(group.shared) for group in groups] == [9, 5]


def test_the_page_needs_no_table_of_training_crystals(folder, tmp_path):
    for name in ("plain", "slow"):
        shutil.copytree(folder / "b" / name, tmp_path / name)
        (tmp_path / name / "prediction_results_train_set.csv").unlink()
    (group,), notes = group_by_test_crystals(find_runs(tmp_path)[0])
    assert notes == []
    assert [result.n_train for result in compared(group, tmp_path).results] == [30, 30]


def test_ids_are_read_once(folder, tmp_path):
    shutil.copytree(folder / "b" / "plain", tmp_path / "plain")
    (run,), _ = find_runs(tmp_path)
    before = run.row()
    run.folder.ids.unlink()
    assert run.row() == before
    (run,), _ = find_runs(tmp_path)
    assert run.row()[4] == "? (random, seed 123)"


def test_damaged_runs_are_told(folder, tmp_path, capsys):
    shutil.copytree(folder / "b" / "plain", tmp_path / "sound")
    for name, text in (("broken", "{"), ("future", None)):
        shutil.copytree(folder / "b" / "plain", tmp_path / name)
        path = tmp_path / name / "config.json"
        path.write_text(text or json.dumps(json.loads(path.read_text()) | {"warp": 9}))
    assert main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["run", "sound"]
    assert "broken/config.json cannot be read" in shown.err
    assert "future/config.json is damaged or of another version: warp" in shown.err
    assert main(["runs", str(tmp_path / "sound")]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("sound ")


def without(*keys):
    """A change of a file with metrics: it lacks a key."""

    def change(text):
        content = json.loads(text)
        *outer, last = keys
        inner = content
        for key in outer:
            inner = inner[key]
        del inner[last]
        return json.dumps(content)

    return change


@pytest.mark.parametrize(
    ("file", "change", "row", "line"),
    [
        (
            "prediction_results_val_set.csv",
            None,
            r"MAE .* GPa",
            "damaged is not compared: .*val_set.csv cannot be read",
        ),
        (
            "prediction_results_test_set.csv",
            lambda text: text[:-9],
            r"MAE .* GPa",
            "is not compared: .* is damaged in",
        ),
        (
            "history.csv",
            lambda text: text[:-50],
            r"MAE .* GPa",
            "damaged has no learning curve: .*history.csv is damaged",
        ),
        ("metrics.json", without("seconds"), r"MAE .* GPa +\d of 2 +-", ""),
        ("metrics.json", without("epochs"), r"MAE .* GPa +\d of 2 ", ""),
        ("metrics.json", without("test", "mae"), r"MAE - GPa", ""),
        ("metrics.json", without("units"), r"MAE [\d.]+  ", ""),
        ("metrics.json", without("stopped_by"), "metrics.json is damaged", "metrics.json was not written by a run"),
        ("metrics.json", lambda text: text[:-50], "metrics.json is damaged", "metrics.json cannot be read"),
        (
            "metrics.json",
            lambda text: re.sub('"seconds": .*,', '"seconds": [],', text),
            "30/12/18 .* metrics.json is damaged",
            "metrics.json is damaged or of another version: seconds",
        ),
    ],
)
def test_a_damaged_run_stands_beside_the_others(file, change, row, line, folder, tmp_path, capsys):
    shutil.copytree(folder / "b", tmp_path / "runs")
    shutil.copytree(folder / "b" / "plain", tmp_path / "runs" / "damaged")
    path = tmp_path / "runs" / "damaged" / file
    text = path.read_text()
    path.unlink()
    if change is not None:
        path.write_text(change(text))
    assert main(["runs", str(tmp_path / "runs"), "--html", str(tmp_path / "page.html")]) == 0
    shown = capsys.readouterr()
    found, *_ = (text for text in shown.out.splitlines() if text.startswith("damaged "))
    assert re.search(row, found)
    page = html.unescape((tmp_path / "page.html").read_text())
    assert re.search(line, page)
    assert "Errors on the same 18 test crystals: " in page  # of the other two
