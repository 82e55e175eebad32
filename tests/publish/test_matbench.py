"""Submissions to Matbench v0.1: folds, predictions, and the results file read by itself and by Matbench."""

import gzip
import hashlib
import json
import os
import random
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from crysmm.cli.main import main
from crysmm.errors import InputError
from crysmm.publish.matbench import checksum, fold_results, read_tasks, write_results
from crysmm.publish.matbench_tasks import TASKS, find_task, load_folds, matminer_rows

from .conftest import SAMPLE_DATA, table

TASK, CLASSES = "matbench_jdft2d", "matbench_mp_is_metal"


def split(prefix: str) -> dict[str, dict[str, list[str]]]:
    """Two folds of thirty ids, each tested once."""
    ids = [f"{prefix}-{number:02d}" for number in range(1, 31)]
    order = random.Random(5).sample(ids, 30)
    tests = [sorted(order[start::2]) for start in range(2)]
    return {
        f"fold_{number}": {"train": [name for name in ids if name not in test], "test": test}
        for number, test in enumerate(tests)
    }


@pytest.fixture(scope="session")
def folds_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("folds") / "validation.json"
    splits = {TASK: split("mb-jdft2d"), CLASSES: split("mb-mp-is-metal")}
    path.write_text(json.dumps({"metadata": {"n_splits": 2}, "splits": splits}))
    return path


def as_pymatgen(crystal):
    """The dict of pymatgen's Structure, as matminer's files hold it."""
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": position, "label": symbol, "properties": {}}
        for symbol, position in zip(crystal.elements, crystal.frac_coords.tolist(), strict=True)
    ]
    lattice = {"matrix": crystal.lattice.tolist(), "pbc": [True, True, True]}
    return {"@module": "pymatgen.core.structure", "@class": "Structure", "lattice": lattice, "sites": sites}


def write_matminer(path: Path, records, column: str, values) -> Path:
    rows = [[as_pymatgen(record.crystal), value] for record, value in zip(records, values, strict=True)]
    content = {"index": list(range(len(rows))), "columns": ["structure", column], "data": rows}
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    return path


@pytest.fixture(scope="session")
def data(records, tmp_path_factory):
    """Thirty crystals as matminer distributes the task."""
    path = tmp_path_factory.mktemp("data") / "matbench_jdft2d.json.gz"
    return write_matminer(path, records, "exfoliation_en", [record.targets[0] for record in records])


def matbench(*arguments):
    return main(["matbench", *map(str, arguments)])


@pytest.fixture(scope="module")
def submitted(data, folds_file, small, tmp_path_factory):
    """The folder that the command has written, and what it said."""
    out = tmp_path_factory.mktemp("out")
    given = ["--task", TASK, "--root_dir", data, "--folds", folds_file, "--output_dir", out, "--authors", "A. Author"]
    assert matbench(*given, *small) == 0
    return out


def results(out: Path) -> dict:
    return json.loads(gzip.decompress((out / "matbench_v0.1_crysmm_cgcnn" / "results.json.gz").read_bytes()))


def in_order(value):
    """Keys sorted, all the way down, as Matbench does before it takes the checksum."""
    return {key: in_order(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def test_results_have_the_form_of_matbench(submitted):
    content = results(submitted)
    assert set(content) == {
        "@module", "@class", "version", "benchmark_name", "user_metadata", "tasks", "datestamp", "hash"
    }  # fmt: skip
    assert (content["@module"], content["@class"]) == ("matbench.bench", "MatbenchBenchmark")
    assert (content["benchmark_name"], content["version"]) == ("matbench_v0.1", "0.6")
    (task,) = content["tasks"].values()
    assert set(task) == {"@module", "@class", "benchmark_name", "dataset_name", "results"}
    assert (task["@module"], task["@class"], task["dataset_name"]) == ("matbench.task", "MatbenchTask", TASK)
    for fold in task["results"].values():
        assert set(fold) == {"data", "parameters", "scores", "uncertainty"}
    stated = content.pop("hash")
    assert hashlib.sha256(json.dumps(in_order(content)).encode()).hexdigest() == stated


def test_predictions_are_those_of_the_folds_test_ids_in_their_order(submitted, folds_file, records):
    values = {f"mb-jdft2d-{number:02d}": record.targets[0] for number, record in enumerate(records, 1)}
    folds = json.loads(folds_file.read_text())["splits"][TASK]
    found = results(submitted)["tasks"][TASK]["results"]
    assert list(found) == list(folds)
    for name, fold in folds.items():
        predicted = found[name]["data"]
        assert list(predicted) == fold["test"]
        assert all(type(number) is float for number in predicted.values())
        rows = table(submitted / TASK / name / "prediction_results_test_set.csv")
        assert {row["id"]: float(row["prediction"]) for row in rows} == predicted
        errors = np.array([predicted[one] - values[one] for one in fold["test"]])
        truth = np.array([values[one] for one in fold["test"]])
        assert found[name]["scores"] == pytest.approx(
            {
                "mae": np.abs(errors).mean(),
                "rmse": np.sqrt((errors**2).mean()),
                "mape": np.abs(errors / truth).mean(),
                "max_error": np.abs(errors).max(),
            }
        )


def test_validation_is_drawn_from_the_training_ids_of_each_fold(submitted, folds_file):
    for name, fold in json.loads(folds_file.read_text())["splits"][TASK].items():
        used = json.loads((submitted / TASK / name / "ids_train_val_test.json").read_text())
        assert len(used["id_val"]) == 2
        assert sorted([*used["id_train"], *used["id_val"]]) == fold["train"]
        assert used["id_test"] == fold["test"]


def test_parameters_and_info_say_how_it_was_made(submitted, data):
    folder = submitted / "matbench_v0.1_crysmm_cgcnn"
    parameters = results(submitted)["tasks"][TASK]["results"]["fold_1"]["parameters"]
    assert parameters["settings"]["model"]["node_features"] == 8
    assert parameters["best_epoch"] == 1
    assert "crysmm 0.1.0, torch" in parameters["versions"]
    assert shlex.split(parameters["command"])[:6] == ["crysmm", "matbench", "--task", TASK, "--root_dir", data.name]
    info = json.loads((folder / "info.json").read_text())
    assert set(info) == {"authors", "algorithm", "algorithm_long", "bibtex_refs", "notes", "requirements"}
    assert all(info.values())
    assert info["authors"] == "A. Author"
    assert info["bibtex_refs"][0].startswith("@article{cgcnn, author = {Xie, Tian and Grossman, Jeffrey C.}")
    assert str(submitted) not in (folder / "run.py").read_text() + (folder / "info.json").read_text()


def test_a_finished_fold_is_not_trained_again(submitted, data, folds_file, small, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(submitted, out)
    info = out / "matbench_v0.1_crysmm_cgcnn" / "info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"notes": "Mine."}))
    shutil.rmtree(out / TASK / "fold_1")
    weights = (out / TASK / "fold_0" / "model.safetensors").stat().st_mtime_ns
    given = ["--task", "jdft2d", "--root_dir", data, "--folds", folds_file, "--output_dir", out, *small]
    assert matbench(*given) == 2
    assert "holds a run" in capsys.readouterr().err
    assert matbench(*given, "--resume") == 0
    assert (out / TASK / "fold_0" / "model.safetensors").stat().st_mtime_ns == weights
    found = [results(folder)["tasks"][TASK]["results"]["fold_1"]["data"] for folder in (out, submitted)]
    assert found[0] == found[1]
    assert (json.loads(info.read_text())["authors"], json.loads(info.read_text())["notes"]) == ("A. Author", "Mine.")
    scores = [fold["scores"]["mae"] for fold in results(out)["tasks"][TASK]["results"].values()]
    shown = capsys.readouterr().out
    assert f"MAE over 2 folds: {np.mean(scores):.4g} ± {np.std(scores):.4g} meV/atom" in shown
    assert f"fold_1: MAE {scores[1]:.4g} meV/atom on 15 crystals" in shown
    assert "the run in" in shown


def test_what_was_edited_is_kept(submitted, data, folds_file, small, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(submitted, out)
    info, code = (out / "matbench_v0.1_crysmm_cgcnn" / name for name in ("info.json", "run.py"))
    before, ours = json.loads(info.read_text()), code.read_text()
    edited = {"bibtex_refs": ["@article{mine}", *before["bibtex_refs"]], "doi": "10.1/x", "notes": ["Some", "notes"]}
    info.write_text(json.dumps(before | edited))
    given = ["--task", TASK, "--root_dir", data, "--folds", folds_file, "--output_dir", out, *small, "--resume"]
    assert matbench(*given) == 0
    assert json.loads(info.read_text()) == before | edited
    assert code.read_text() == ours
    assert "left unchanged, as edited: bibtex_refs in info.json; delete it" in capsys.readouterr().out
    code.write_text(ours.replace("'runs'", "'mine'"))
    assert matbench(*given, "--authors", "B. Author") == 0
    assert json.loads(info.read_text()) == before | edited | {"authors": "B. Author"}
    assert code.read_text() == ours.replace("'runs'", "'mine'")
    assert "left unchanged, as edited: bibtex_refs in info.json, run.py; delete it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("info.json", b"[1]", "info.json is not a JSON object; correct or delete it"),
        ("info.json", b"\xff", "info.json is not JSON"),
        ("results.json.gz", b"PK", "results.json.gz cannot be read to its end"),
        ("results.json.gz", gzip.compress(b"{}", mtime=0), "results.json.gz is not a results file of Matbench"),
    ],
)
def test_damaged_files_are_refused_before_anything_is_trained(
    data, folds_file, small, tmp_path, capsys, name, content, message
):
    path = tmp_path / "matbench_v0.1_crysmm_cgcnn" / name
    path.parent.mkdir()
    path.write_bytes(content)
    given = ["--task", TASK, "--root_dir", data, "--folds", folds_file, "--output_dir", tmp_path]
    assert matbench(*given, *small) == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == [path.parent.name]


EVIL = '\n"""\nimport os; os.environ["EVIL"] = "1"\n"""'


@pytest.mark.parametrize(
    ("parameters", "foreign"),
    [
        ({"versions": EVIL}, []),
        ({"versions": [EVIL, "\ud800"]}, []),
        ({"command": EVIL}, []),
        ({"command": f"crysmm matbench {shlex.quote(EVIL)}"}, [EVIL]),
        ({"command": "crysmm predict --model x"}, []),
        ({"command": "crysmm 'matbench"}, []),
        ({"command": ["crysmm", "matbench"]}, []),
        ({}, []),
    ],
)
def test_text_of_results_from_elsewhere_is_never_code(
    submitted, data, folds_file, small, tmp_path, monkeypatch, parameters, foreign
):
    shutil.copytree(submitted, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "matbench_v0.1_crysmm_cgcnn"
    elsewhere = fold_results({"a": 1.0}, [1.5], parameters, is_classification=False)
    write_results(folder / "results.json.gz", {"matbench_phonons": {"fold_0": elsewhere}})
    given = ["--task", TASK, "--root_dir", data, "--folds", folds_file, "--output_dir", tmp_path, *small, "--resume"]
    assert matbench(*given) == 0
    calls = []
    monkeypatch.setattr("crysmm.cli.main.main", calls.append)
    monkeypatch.delenv("EVIL", raising=False)
    runpy.run_path(str(folder / "run.py"), run_name="__main__")
    assert "EVIL" not in os.environ
    assert [words[1] for words in calls] == [*foreign, "--task"]


def test_without_validation_crystals_no_epoch_can_be_chosen(data, folds_file, small, tmp_path, capsys):
    given = ["--task", TASK, "--root_dir", data, "--folds", folds_file, "--output_dir", tmp_path / "out"]
    assert matbench(*given, *small, "--val_ratio", "0") == 2
    assert "--val_ratio: got 0; the best epoch is chosen on a fraction of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_fold_is_refused(submitted, data, folds_file, small, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(submitted, out)
    content = json.loads(folds_file.read_text())
    content["splits"][TASK] = {"fold_0": content["splits"][TASK]["fold_1"]}
    (tmp_path / "folds.json").write_text(json.dumps(content))
    given = ["--task", TASK, "--root_dir", data, "--folds", tmp_path / "folds.json", "--output_dir", out]
    assert matbench(*given, *small, "--resume") == 2
    assert "cannot be resumed with another split: " in capsys.readouterr().err


def test_classes_from_any_table_join_the_other_task(submitted, records, folds_file, small, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(submitted / "matbench_v0.1_crysmm_cgcnn", out / "matbench_v0.1_crysmm_cgcnn")
    folder = tmp_path / "crystals"
    folder.mkdir()
    labels = {}
    for number, record in enumerate(records, 1):
        name = f"mb-mp-is-metal-{number:02d}"
        labels[name] = int(record.targets[0] > 90)
        shutil.copy(SAMPLE_DATA / f"{record.id}.vasp", folder / f"{name}.vasp")
    (folder / "id_prop.csv").write_text("".join(f"{name},{label}\n" for name, label in labels.items()))
    given = ["--task", CLASSES, "--root_dir", folder, "--folds", folds_file, "--output_dir", out]
    assert matbench(*given, *small) == 0
    content = results(out)["tasks"]
    assert content[TASK] == results(submitted)["tasks"][TASK]
    areas = []
    for fold in content[CLASSES]["results"].values():
        truth = np.array([labels[name] for name in fold["data"]])
        probabilities = np.array(list(fold["data"].values()))
        assert (probabilities >= 0).all()
        assert (probabilities <= 1).all()
        assert len(set(probabilities)) > 2
        areas.append(roc_auc_score(truth, probabilities))
        assert fold["scores"]["accuracy"] == np.mean((probabilities > 0.5) == truth)
        # Matbench 0.6 takes the area of the classes, which is the balanced accuracy
        assert fold["scores"]["rocauc"] == fold["scores"]["balanced_accuracy"]
        assert fold["scores"]["rocauc"] == balanced_accuracy_score(truth, probabilities > 0.5)
    shown = capsys.readouterr().out
    assert f"ROC-AUC of the probabilities over 2 folds: {np.mean(areas):.4g} ± {np.std(areas):.4g}\n" in shown
    assert f", of {TASK}, {CLASSES}; to submit it:" in shown
    metrics = out / CLASSES / "fold_1" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"roc_auc"', '"area"'))
    assert matbench(*given, *small, "--resume") == 2
    assert "fold_1/metrics.json does not hold the ROC-AUC of the test crystals" in capsys.readouterr().err
    assert results(out)["tasks"] == content


def test_code_makes_the_submission_again(submitted, data, folds_file, small, tmp_path, monkeypatch):
    """With the folds of an installed package, whose code is not run."""
    package = tmp_path / "site" / "matbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package is run')")
    shutil.copy(folds_file, package / "matbench_v0.1_validation.json")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "matbench", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(data, tmp_path)
    calls = []
    monkeypatch.setattr("crysmm.cli.main.main", calls.append)
    runpy.run_path(str(submitted / "matbench_v0.1_crysmm_cgcnn" / "run.py"), run_name="__main__")
    (words,) = calls
    assert words[:5] == ["matbench", "--task", TASK, "--root_dir", data.name]
    assert main([*words, *small[-10:]]) == 0
    assert results(tmp_path / "runs")["tasks"].keys() == {TASK}
    again, before = (results(folder)["tasks"][TASK]["results"] for folder in (tmp_path / "runs", submitted))
    assert [fold["data"] for fold in again.values()] == [fold["data"] for fold in before.values()]


def test_matbenchs_own_loader_takes_the_file(tmp_path):
    """All folds of two tasks with their own ids; 0.6 opens the file as text, later versions by its ending."""
    bench = pytest.importorskip("matbench.bench", reason="the package matbench is not there")
    from matbench.data_ops import score_array

    chance = random.Random(0)
    tasks, truths = {}, {}
    for name in (TASK, CLASSES):
        task, tasks[name] = TASKS[name], {}
        for fold in load_folds(task, None):
            truth = [float(chance.random() > 0.5) if task.is_classification else chance.random() for _ in fold.test]
            found = {one: chance.random() for one in fold.test}
            classes = task.is_classification
            tasks[name][fold.name] = fold_results(found, truth, {"a": {"z": [1, 2]}}, is_classification=classes)
            truths[name, fold.name] = [bool(value) for value in truth] if classes else truth
    write_results(tmp_path / "results.json.gz", tasks)
    (tmp_path / "results.json").write_bytes(gzip.decompress((tmp_path / "results.json.gz").read_bytes()))
    benchmark = bench.MatbenchBenchmark.from_file(tmp_path / "results.json")
    assert benchmark.is_valid
    assert benchmark.is_recorded
    for (name, fold), truth in truths.items():
        results = tasks[name][fold]
        kind = "classification" if name == CLASSES else "regression"
        assert results["scores"] == pytest.approx(score_array(truth, list(results["data"].values()), kind))


def test_results_that_were_changed_are_refused(tmp_path):
    results = fold_results(
        {"a": 1.0, "b": 2.0}, [1.5, 2.5], {"settings": {"x": None, "y": [1]}}, is_classification=False
    )
    write_results(tmp_path / "results.json.gz", {TASK: {"fold_0": results}})
    assert read_tasks(tmp_path / "results.json.gz") == {TASK: {"fold_0": results}}
    assert read_tasks(tmp_path / "none.json.gz") == {}
    content = json.loads(gzip.decompress((tmp_path / "results.json.gz").read_bytes()))
    content["tasks"][TASK]["results"]["fold_0"]["data"]["a"] = 1.5
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(InputError, match="was changed"):
        read_tasks(tmp_path / "results.json.gz")


FOLD = {"data": {"a": 1.0}, "parameters": {}, "scores": {}, "uncertainty": None}


@pytest.mark.parametrize(
    "tasks",
    [
        None,
        [1],
        {TASK: None},
        {TASK: {"dataset_name": TASK}},
        {TASK: {"results": {}}},
        {TASK: {"results": [FOLD]}},
        {TASK: {"results": {"fold_0": [1]}}},
        {TASK: {"results": {"fold_0": FOLD | {"parameters": None}}}},
        {"matbench_of_mine": {"results": {"fold_0": FOLD}}},
    ],
)
def test_results_of_another_shape_are_refused(tasks, tmp_path):
    """Their checksum is right."""
    content = {"tasks": tasks} if tasks is not None else {}
    content["hash"] = checksum(content)
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(InputError, match="not a results file of Matbench"):
        read_tasks(tmp_path / "results.json.gz")


def test_a_file_of_matminer_is_read_as_matminer_reads_it(records, tmp_path):
    io = pytest.importorskip("matminer.utils.io", reason="matminer, which robocrys installs, is not there")
    import pandas as pd
    from pymatgen.core import Structure

    structures = [Structure(r.crystal.lattice, r.crystal.elements, r.crystal.frac_coords) for r in records[:12]]
    frame = pd.DataFrame({"structure": structures, "gap pbe": np.arange(12) / 7})
    io.store_dataframe_as_json(frame, str(tmp_path / "d.json.gz"), compression="gz", pbar=False)
    read = io.load_dataframe_from_json(str(tmp_path / "d.json.gz"), pbar=False)
    found = [row.read() for row in matminer_rows(tmp_path / "d.json.gz", "matbench_mp_gap", "gap pbe")]
    assert [record.id for record in found] == [f"mb-mp-gap-{number:02d}" for number in range(1, 13)]
    for record, (structure, value) in zip(found, read.itertuples(index=False), strict=True):
        assert record.targets == (value,)
        assert record.crystal.elements == [site.specie.symbol for site in structure]
        np.testing.assert_array_equal(record.crystal.lattice, structure.lattice.matrix)
        np.testing.assert_array_equal(record.crystal.frac_coords, structure.frac_coords)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"columns": ["structure", "n"], "data": [[{}, 1]]}, "not a data set of matminer"),
        ({"index": [0], "data": [[{}, 1]], "columns": ["structure", "n"]}, "not a data set of matminer"),
        ({"index": [0], "columns": ["structure", "m"], "data": [[{}, 1]]}, "has no column 'n'; it has structure, m"),
        ({"index": [0], "columns": ["structure", "n"], "data": [[{}, 1], [{}, 1]]}, "more rows than its index"),
        ({"index": ["a"], "columns": ["structure", "n"], "data": [[{}, 1]]}, "not a data set of matminer"),
    ],
)
def test_files_that_are_no_data_set_of_matminer(content, message, tmp_path):
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        list(matminer_rows(tmp_path / "d.json", "matbench_dielectric", "n"))


def test_bad_rows_of_matminer_are_named(records, folds_file, small, tmp_path, capsys):
    path = write_matminer(tmp_path / "d.json.gz", records, "exfoliation_en", [record.targets[0] for record in records])
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["data"][4] = [content["data"][4][0]]
    content["data"][5][0]["sites"][0]["species"][0]["occu"] = 0.5
    content["data"][6][1] = None
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    given = ["--task", TASK, "--root_dir", path, "--folds", folds_file, "--output_dir", tmp_path / "out"]
    assert matbench(*given, *small) == 2
    shown = capsys.readouterr().err
    assert "no readable crystal for 3 of the 30 ids" in shown
    assert "mb-jdft2d-05 (d.json.gz:row 5: the row has fewer cells than there are columns)" in shown
    assert "mb-jdft2d-06 (d.json.gz:row 6: partial occupancy" in shown
    assert "mb-jdft2d-07 (d.json.gz:row 7: no target: exfoliation_en is empty)" in shown
    assert not list((tmp_path / "out").rglob("*.gz"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("matbench_glass", "has compositions and no structures"),
        ("jdft", "is unknown; did you mean matbench_jdft2d.; there are matbench_dielectric"),
    ],
)
def test_tasks_that_cannot_be_had(name, message):
    with pytest.raises(InputError, match=message):
        find_task(name)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (None, "has no folds of matbench_phonons"),
        ({"matbench_jdft2d": {}}, "has no folds of matbench_phonons"),
        ({"matbench_phonons": {"fold_0": {"train": ["a"]}}}, "no list of ids under test of fold_0"),
        ({"matbench_phonons": {"fold_0": {"train": ["a", "b"], "test": ["b"]}}}, "an id of fold_0 twice"),
        ({"matbench_phonons": {"fold_0": {"train": [1], "test": ["b"]}}}, "no list of ids under train of fold_0"),
        ({"matbench_phonons": {"../../evil": {"train": ["a"], "test": ["b"]}}}, "calls a fold '../../evil'; expected"),
        ({"matbench_phonons": {"/tmp/evil": {"train": ["a"], "test": ["b"]}}}, "calls a fold '/tmp/evil'; expected"),
        ({"matbench_phonons": {"fold_0\n": {"train": ["a"], "test": ["b"]}}}, r"calls a fold 'fold_0.n'; expected"),
    ],
)
def test_files_that_hold_no_folds(splits, message, tmp_path):
    (tmp_path / "folds.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(InputError, match=message):
        load_folds(find_task("phonons"), tmp_path / "folds.json")


def test_without_folds_it_says_where_they_are(monkeypatch):
    monkeypatch.setattr("crysmm.publish.matbench_tasks.PACKAGE", "no_such_package")
    with pytest.raises(
        InputError, match=r"--folds: .* give the file matbench_v0.1_validation.json: it is in the package"
    ):
        load_folds(find_task("phonons"), None)
