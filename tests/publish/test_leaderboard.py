"""Contributions to the JARVIS-Leaderboard, read back as its ``rebuild.py`` reads them."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from crysmm.cli.main import main
from crysmm.errors import InputError
from crysmm.publish.benchmark import load_benchmark

from .conftest import SAMPLE_DATA, table, write_zip

NAME = "AI-SinglePropertyPrediction-bulk_modulus_kv-dft_3d-test-mae"
CLASSES = "AI-SinglePropertyClass-stiff-dft_3d-test-acc"
KEYS = {
    "model_name", "project_url", "date_submitted", "author_email", "database_version", "team_name",
    "time_taken_seconds", "language", "os", "software_used", "hardware_used", "git_url",
}  # fmt: skip


def splits(records, value):
    """Of a benchmark, in the order of the records: 16 for training, 5 for validation, 7 for the test."""
    parts = {"train": records[:16], "val": records[16:21], "test": records[21:28]}
    return {name: {record.id: value(record) for record in part} for name, part in parts.items()}


@pytest.fixture(scope="session")
def benchmark(records, tmp_path_factory):
    """The file of a benchmark, and what it holds; one training id is in the test split, too, as in real ones."""
    content = splits(records, lambda record: round(record.targets[0], 3))
    content["train"][records[22].id] = content["test"][records[22].id]
    path = tmp_path_factory.mktemp("benchmark") / "dft_3d_bulk_modulus_kv.json.zip"
    return write_zip(path, content), content


def leaderboard(*arguments):
    return main(["leaderboard", *map(str, arguments)])


def read_table(folder: Path, name: str) -> list[list[str]]:
    """Rows of the table in a contribution, taken apart without a library for tables."""
    with zipfile.ZipFile(folder / f"{name}.csv.zip") as archive:
        assert archive.namelist() == [f"{name}.csv"]
        return [line.split(",") for line in archive.read(f"{name}.csv").decode().splitlines()]


@pytest.fixture(scope="module")
def contributed(benchmark, data, small, tmp_path_factory):
    """The folder that the command has written."""
    out = tmp_path_factory.mktemp("out") / "bulk"
    given = ["--root_dir", data, "--output_dir", out, "--team_name", "Crystal people"]
    assert leaderboard("--benchmark", NAME, "--benchmark_file", benchmark[0], *given, *small) == 0
    return out


def test_table_has_the_test_ids_in_their_order_and_the_benchmarks_values(contributed, benchmark, records):
    header, *rows = read_table(contributed / "contributions" / "crysmm_cgcnn", NAME)
    assert header == ["id", "target", "prediction"]
    assert [row[0] for row in rows] == [record.id for record in records[21:28]]
    assert [float(row[1]) for row in rows] == list(benchmark[1]["test"].values())
    predicted = {row["id"]: row["prediction"] for row in table(contributed / "run" / "prediction_results_test_set.csv")}
    assert {row[0]: row[2] for row in rows} == predicted


def test_learns_from_exactly_the_preset_split(contributed, records):
    split = json.loads((contributed / "run" / "ids_train_val_test.json").read_text())
    assert split["id_train"] == [record.id for record in records[:16]]  # the doubled id is in the test split alone
    assert split["id_val"] == [record.id for record in records[16:21]]
    assert split["id_test"] == [record.id for record in records[21:28]]
    assert "predicts bulk_modulus_kv, trained on 16 crystals" in (contributed / "run" / "README.md").read_text()


def test_score_is_what_the_leaderboard_computes(contributed, benchmark, data, small, capsys):
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", data, "--output_dir", contributed]
    before = (contributed / "run" / "model.safetensors").stat().st_mtime_ns
    assert leaderboard(*arguments, *small, "--resume") == 0
    assert (contributed / "run" / "model.safetensors").stat().st_mtime_ns == before
    found = {row[0]: float(row[2]) for row in read_table(contributed / "contributions" / "crysmm_cgcnn", NAME)[1:]}
    mae = np.mean([abs(found[name] - value) for name, value in benchmark[1]["test"].items()])
    shown = capsys.readouterr()
    assert f"MAE on the 7 test crystals, as the leaderboard computes it: {round(mae, 4)} " in shown.out
    assert "train split holds 1 ids of another split, left out" in shown.err
    assert "fill in these fields of metadata.json: author_email, project_url, git_url, database_version\n" in shown.out
    assert "left unchanged, as edited" not in shown.out


def test_rebuild_of_the_leaderboard_reads_it(contributed, benchmark, tmp_path, monkeypatch):
    rebuild = pytest.importorskip("jarvis_leaderboard.rebuild", reason="the package jarvis_leaderboard is not there")
    place = tmp_path / "benchmarks" / "AI" / "SinglePropertyPrediction"
    place.mkdir(parents=True)
    shutil.copy(benchmark[0], place)
    monkeypatch.setattr(rebuild, "root_dir", str(tmp_path))
    folder = contributed / "contributions" / "crysmm_cgcnn"
    found = rebuild.get_metric_value(csv_path=str(folder / f"{NAME}.csv.zip"))
    rows = read_table(folder, NAME)[1:]
    assert found["res"] == round(np.mean([abs(float(row[1]) - float(row[2])) for row in rows]), 4)
    assert found["num_entries"] == 7
    assert rebuild.errors == []


def test_metadata_has_every_key_and_keeps_what_was_filled_in(contributed, benchmark, data, small):
    path = contributed / "contributions" / "crysmm_cgcnn" / "metadata.json"
    metadata = json.loads(path.read_text())
    assert set(metadata) == KEYS
    assert metadata["team_name"] == "Crystal people"
    assert "@" in metadata["author_email"]
    assert isinstance(metadata["git_url"], list)
    assert metadata["time_taken_seconds"] > 0
    path.write_text(json.dumps(metadata | {"author_email": "a@b.example", "git_url": ["https://b.example"]}))
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", data, "--output_dir", contributed]
    assert leaderboard(*arguments, *small, "--resume", "--database_version", "12-12-2022") == 0
    after = json.loads(path.read_text())
    assert (after["author_email"], after["git_url"]) == ("a@b.example", ["https://b.example"])
    assert (after["team_name"], after["database_version"]) == ("Crystal people", "12-12-2022")


def test_script_makes_the_run_again(contributed, benchmark, data, tmp_path, monkeypatch, small):
    script = contributed / "contributions" / "crysmm_cgcnn" / "run.sh"
    subprocess.run(["bash", "-n", script], check=True)
    command = script.read_text().splitlines()[-2]
    assert str(contributed.parent) not in script.read_text()
    package = tmp_path / "site" / "jarvis_leaderboard"
    place = package / "benchmarks" / "AI" / "SinglePropertyPrediction"
    place.mkdir(parents=True)
    shutil.copy(benchmark[0], place)
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package is run')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "jarvis_leaderboard", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(data, tmp_path)
    assert shlex.split(command)[:2] == ["crysmm", "leaderboard"]
    assert main([*shlex.split(command)[1:], *small[-10:]]) == 0
    again = tmp_path / "runs" / "benchmark" / "contributions" / "crysmm_cgcnn"
    assert read_table(again, NAME) == read_table(script.parent, NAME)


def test_a_finished_run_becomes_a_contribution(contributed, benchmark, data, small, tmp_path, capsys):
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--output_dir", tmp_path / "out"]
    assert leaderboard(*arguments, "--run", contributed / "run", "--contribution", "mine") == 0
    folder = tmp_path / "out" / "contributions" / "mine"
    assert read_table(folder, NAME) == read_table(contributed / "contributions" / "crysmm_cgcnn", NAME)
    assert json.loads((folder / "metadata.json").read_text())["hardware_used"] == "YOUR MACHINE"
    lines = (folder / "run.sh").read_text().splitlines()
    assert lines[2].startswith("crysmm train --root_dir data.jsonl.gz ")
    assert "--ids_file ids.json" in lines[2]
    assert lines[3] == f"crysmm leaderboard --benchmark {NAME} --run runs/benchmark --output_dir runs"
    assert leaderboard(*arguments, "--run", contributed / "run", "--epochs", "3") == 2
    assert "--epochs: has no effect with --run" in capsys.readouterr().err


def test_what_was_edited_is_kept(contributed, benchmark, tmp_path, capsys):
    given = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--run", contributed / "run"]
    assert leaderboard(*given, "--output_dir", tmp_path, "--author_email", "a@b.example") == 0
    folder = tmp_path / "contributions" / "crysmm_cgcnn"
    metadata, script = folder / "metadata.json", folder / "run.sh"
    edited = {"git_url": ["https://a.example", "https://b.example"], "model_name": "My model", "doi": "10.1/x"}
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | edited | {"software_used": "?"}))
    ours = script.read_text()
    for text, said in (
        (ours, ""),
        (ours.replace("crysmm train", "srun crysmm train"), "left unchanged, as edited: run.sh;"),
    ):
        script.write_text(text)
        capsys.readouterr()
        assert leaderboard(*given, "--output_dir", tmp_path, "--team_name", "Us") == 0
        found = json.loads(metadata.read_text())
        assert {key: found[key] for key in edited} == edited
        assert (found["author_email"], found["team_name"]) == ("a@b.example", "Us")
        assert found["software_used"].startswith("crysmm 0.1.0, torch")
        assert script.read_text() == text
        shown = capsys.readouterr().out
        assert said in shown
        assert ("left unchanged" in shown) == bool(said)
    lines = ours.splitlines()
    script.write_text("\n".join([*lines[:2], lines[-1]]) + "\n")  # a last line of ours alone does not make it ours
    assert leaderboard(*given, "--output_dir", tmp_path) == 0
    assert script.read_text() != ours


@pytest.mark.parametrize("content", ["[1]", "{", '{"doi": NaN}', '{"doi": 1e999}', "[" * 100_000, "\udcff"])
def test_damaged_metadata_are_refused_before_anything_is_trained(benchmark, data, small, tmp_path, capsys, content):
    path = tmp_path / "contributions" / "crysmm_cgcnn" / "metadata.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, errors="surrogateescape")
    given = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", data, "--output_dir", tmp_path]
    assert leaderboard(*given, *small) == 2
    assert "metadata.json is not " in capsys.readouterr().err
    assert path.read_text(errors="surrogateescape") == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["contributions"]


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_cell(column: str, cell: str):
    """Change a cell of the first test crystal."""

    def change(run: Path) -> None:
        path = run / "prediction_results_test_set.csv"
        header, first, *others = path.read_text().splitlines()
        cells = dict(zip(header.split(","), first.split(","), strict=True)) | {column: cell}
        path.write_text("\n".join([header, ",".join(cells.values()), *others]) + "\n")

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_cell("target", "high"), "is damaged in row 1: expected a number under target, got 'high'"),
        (change_cell("prediction", "high"), "is damaged in row 1: expected a number under prediction, got 'high'"),
        (change_cell("prediction", "1,2"), "is damaged in row 1: the number of cells does not match the header"),
        (lambda run: change_json(run / "metrics.json", lambda content: content.pop("seconds")), "hold the seconds"),
        (lambda run: (run / "model.json").unlink(), "model.json is missing"),
        (
            lambda run: change_json(run / "model.json", lambda c: c["versions"].update(torch="2\ntouch evil #")),
            "versions.torch: String should match",
        ),
        (lambda run: (run / "config.json").write_bytes(b"\xff"), "does not hold the settings of crysmm train"),
    ],
)
def test_damaged_runs_leave_nothing(contributed, benchmark, tmp_path, capsys, damage, message):
    shutil.copytree(contributed / "run", tmp_path / "run")
    damage(tmp_path / "run")
    given = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--run", tmp_path / "run"]
    assert leaderboard(*given, "--output_dir", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_of_a_run_from_elsewhere_are_never_code(contributed, benchmark, tmp_path):
    shutil.copytree(contributed / "run", tmp_path / "run")
    evil = "K'\ntouch evil\n$(touch evil)`touch evil`; touch evil #"
    change_json(tmp_path / "run" / "config.json", lambda content: content.update(target_key=evil))
    given = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--run", tmp_path / "run"]
    assert leaderboard(*given, "--output_dir", tmp_path / "out") == 0
    script = tmp_path / "out" / "contributions" / "crysmm_cgcnn" / "run.sh"
    (tmp_path / "crysmm").write_text('#!/bin/bash\nprintf "%s|" "$@"\n')
    (tmp_path / "crysmm").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = subprocess.run(["bash", script], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert f"|--target_key|{evil}|" in ran.stdout
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\nb"])
def test_names_that_are_no_folder(name, capsys):
    with pytest.raises(SystemExit):
        leaderboard("--benchmark", NAME, "--contribution", name)
    assert "--contribution: expected the name of a folder" in capsys.readouterr().err


def test_a_run_of_something_else_is_refused(contributed, benchmark, tmp_path, capsys):
    path, content = benchmark
    run = ["--run", contributed / "run", "--output_dir", tmp_path / "out"]
    names = list(content["test"])
    moved = content | {"test": dict(list(content["test"].items())[1:]), "val": {names[0]: content["test"][names[0]]}}
    write_zip(tmp_path / "moved.json.zip", moved)
    assert leaderboard("--benchmark", NAME, "--benchmark_file", tmp_path / "moved.json.zip", *run) == 2
    assert "is not that of" in capsys.readouterr().err
    other = content | {"test": {name: value + 1 for name, value in content["test"].items()}}
    write_zip(tmp_path / "other.json.zip", other)
    assert leaderboard("--benchmark", NAME, "--benchmark_file", tmp_path / "other.json.zip", *run) == 2
    assert f"was trained on other values than those of {NAME}: {names[0]} is [" in capsys.readouterr().err
    assert leaderboard("--benchmark", NAME.replace("-mae", "-acc"), "--benchmark_file", path, *run) == 2
    assert "does not predict classes, which" in capsys.readouterr().err
    empty = ["--run", tmp_path / "none", "--output_dir", tmp_path / "out"]
    assert leaderboard("--benchmark", NAME, "--benchmark_file", path, *empty) == 2
    assert "config.json is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_classes_of_a_folder_and_a_validation_split_of_our_own(records, small, tmp_path, capsys):
    """No val in the file, labels 0 and 1, structures as files whose names have an ending."""
    content = splits(records, lambda record: int(record.targets[0] > 100))
    content = {"train": content["train"] | content["val"], "test": content["test"]}
    folder = tmp_path / "structures"
    folder.mkdir()
    for name in [*content["train"], *content["test"]]:
        shutil.copy(SAMPLE_DATA / f"{name}.vasp", folder)
    file = write_zip(tmp_path / "dft_3d_stiff.json.zip", content)
    arguments = ["--benchmark", f"{CLASSES}.csv.zip", "--benchmark_file", file, "--root_dir", folder]
    assert leaderboard(*arguments, "--output_dir", tmp_path / "out", *small, "--val_ratio", "0") == 2
    assert "--val_ratio: got 0; the best epoch is chosen on a fraction of" in capsys.readouterr().err
    assert leaderboard(*arguments, "--output_dir", tmp_path / "out", *small, "--val_ratio", "0.3") == 0
    shown = capsys.readouterr()
    split = json.loads((tmp_path / "out" / "run" / "ids_train_val_test.json").read_text())
    assert len(split["id_val"]) == 6
    assert {*split["id_train"], *split["id_val"]} == set(content["train"])
    rows = read_table(tmp_path / "out" / "contributions" / "crysmm_cgcnn", CLASSES)[1:]
    assert [(row[0], row[1]) for row in rows] == [(name, str(label)) for name, label in content["test"].items()]
    assert {row[2] for row in rows} <= {"0", "1"}
    accuracy = np.mean([row[1] == row[2] for row in rows])
    assert f"accuracy on the 7 test crystals, as the leaderboard computes it: {round(accuracy, 4)} " in shown.out
    assert "no validation split in the benchmark: 6 training crystals are used" in shown.err


def test_spectrum(records, data, small, tmp_path, capsys):
    name = "AI-Spectra-dos-dft_3d-test-multimae"
    content = splits(records, lambda record: f"{record.targets[0]};{record.targets[0] / 2};1.5")
    file = write_zip(tmp_path / "dft_3d_dos.json.zip", content)
    arguments = ["--benchmark", name, "--benchmark_file", file, "--root_dir", data, "--output_dir", tmp_path / "out"]
    assert leaderboard(*arguments, *small) == 0
    rows = read_table(tmp_path / "out" / "contributions" / "crysmm_cgcnn", name)[1:]
    assert [row[0] for row in rows] == list(content["test"])
    errors = [
        abs(float(predicted) - float(real))
        for row in rows
        for predicted, real in zip(row[2].split(";"), content["test"][row[0]].split(";"), strict=True)
    ]
    assert f"as the leaderboard computes it: {round(np.mean(errors), 4)} " in capsys.readouterr().out


def rows_of(records):
    """As a table of JSON lines has them, to be spoiled."""
    return [
        {"id": record.id, "lattice_mat": record.crystal.lattice.tolist(), "elements": record.crystal.elements,
         "frac_coords": record.crystal.frac_coords.tolist()}
        for record in records
    ]  # fmt: skip


def test_two_files_of_one_id_are_refused(benchmark, records, small, tmp_path, capsys):
    rows = rows_of(records)
    rows.append({**rows[4], "id": f"POSCAR-{rows[3]['id']}"})
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", tmp_path / "data.jsonl"]
    assert leaderboard(*arguments, "--output_dir", tmp_path / "out", *small) == 2
    assert f"are both {rows[3]['id']} of the benchmark; keep one" in capsys.readouterr().err


def test_crystals_that_are_missing_or_unreadable_are_named(benchmark, records, small, tmp_path, capsys):
    rows = rows_of(records)
    rows[21]["elements"] = ["Xx"] * len(rows[21]["elements"])
    del rows[3]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", tmp_path / "data.jsonl"]
    assert leaderboard(*arguments, "--output_dir", out, *small) == 2
    shown = capsys.readouterr().err
    assert "no readable crystal for 2 of the 28 ids of the benchmark" in shown
    assert f"{records[3].id} (not found)" in shown
    assert f"{records[21].id} (data.jsonl:21: unknown element 'Xx'" in shown
    assert not (out / "run").exists()
    assert not (out / "data.jsonl.gz").exists()


def test_atoms_on_one_place_are_told_with_the_reason(benchmark, records, small, tmp_path, capsys):
    """What reading accepts and the graph does not: the crystal would have no prediction."""
    rows = rows_of(records)
    rows[22] |= {"elements": ["Si", "Si"], "frac_coords": [[0, 0, 0], [0, 0, 0.001]]}
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", tmp_path / "data.jsonl"]
    assert leaderboard(*arguments, "--output_dir", tmp_path / "out", *small) == 2
    assert f"no readable row of the data has (1): {records[22].id} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("formation_energy", "is not the name of a benchmark"),
        ("../../x-S-K_VRH-x-test-mae", "is not the name of a benchmark"),
        (r"AI-S-K_VRH-..\x-test-mae", "is not the name of a benchmark"),
        ("..-..-K_VRH-x-test-mae", "is not the name of a benchmark"),
        ("AI-SinglePropertyPrediction-x-dft_3d-val-mae", "of the split val"),
        ("AI-TextSummary-summary-arxiv-test-rouge", "needs the rouge"),
        (NAME.replace("bulk", "no"), r"pip install --no-deps jarvis_leaderboard"),
    ],
)
def test_benchmarks_that_cannot_be_had(name, message):
    with pytest.raises(InputError, match=message):
        load_benchmark(name, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "dft_3d_x.json.zip does not exist; name a file"),
        ([1], "holds a list"),
        ({"train": {}, "test": {"a": 1}}, "no crystals under train"),
        ({"train": {"a": 1}}, "no crystals under test"),
        ({"train": [1], "test": {"a": 1}}, "not the file of a benchmark"),
        ({"train": {"a": "x"}, "test": {"a": 1}}, "not a number"),
        ({"train": {"a": float("nan")}, "test": {"a": 1}}, "not a number"),
        ({"train": {"a": 10**400}, "test": {"a": 1}}, "not a number"),
    ],
)
def test_files_that_are_no_benchmark(content, message, tmp_path):
    path = tmp_path / "dft_3d_x.json.zip"
    if content is not None:
        write_zip(path, content)
    with pytest.raises(InputError, match=message):
        load_benchmark(NAME, path)


def test_settings_of_a_file_that_the_benchmark_says_are_named(benchmark, data, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"n_train": 4, "target": "ehull", "epochs": 1, "val_ratio": 0.2}))
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--config", tmp_path / "config.json"]
    assert leaderboard(*arguments) == 2  # no data are named
    shown = capsys.readouterr().err
    assert "ignored, as the benchmark sets them: n_train, target_key, val_ratio" in shown
    assert "--root_dir: missing" in shown
    with pytest.raises(SystemExit):
        leaderboard(*arguments, "--n_test", "4")
    assert "--n_test is a setting of crysmm train and crysmm pretrain, which this command" in capsys.readouterr().err


def test_a_folder_in_use_is_refused_before_anything_is_read(contributed, benchmark, small, tmp_path, capsys):
    data_before = (contributed / "data.jsonl.gz").read_bytes()
    arguments = ["--benchmark", NAME, "--benchmark_file", benchmark[0], "--root_dir", tmp_path / "nowhere.json"]
    assert leaderboard(*arguments, "--output_dir", contributed, *small) == 2
    assert "holds a run" in capsys.readouterr().err
    assert (contributed / "data.jsonl.gz").read_bytes() == data_before


def test_an_archive_is_read_as_a_stream_and_never_unpacked(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.json", "{}")
    (tmp_path / "dft_3d_x.json.zip").write_bytes(packed.getvalue())
    with pytest.raises(InputError, match="leads out of the archive"):
        load_benchmark(NAME, tmp_path / "dft_3d_x.json.zip")
    assert [entry.name for entry in tmp_path.iterdir()] == ["dft_3d_x.json.zip"]
