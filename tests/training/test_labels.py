"""Labels by a model: a table of the run's own labels and predicted ones, on which a student is trained."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

import crysmm
from crysmm.cli.main import main
from crysmm.errors import InputError
from crysmm.files import alone_in
from crysmm.io.inputs import open_source
from crysmm.training.train import train

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
N_OTHERS = 5


def labels_by_id(path):
    with path.open(newline="") as file:
        return {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}


def table_with(folder, name):
    """File of 32 structures with a property of this name."""
    rows = [
        {"id": path.stem, "structure": Structure.from_file(path).as_dict(), name: 1.0 + n}
        for n, path in enumerate(sorted(SAMPLE_DATA.glob("*.vasp"))[:32])
    ]
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def others(tmp_path):
    """Folder of structures that the runs do not have, one of them damaged, and of one that they have."""
    folder, names = tmp_path / "others", list(labels_by_id(SAMPLE_DATA / "id_prop.csv"))
    folder.mkdir()
    for name in [names[0], *names[30 : 30 + N_OTHERS]]:
        shutil.copy(SAMPLE_DATA / f"{name}.vasp", folder)
    (folder / f"{names[30]}.vasp").write_text("no structure")
    return folder


def test_a_student_learns_labels_by_a_model(make_config, others, tmp_path, capsys):
    """Start from a run with a factor, whose unit is not the one that its column has elsewhere."""
    run = train(make_config(target_multiplication_factor=0.1)).folder
    folder = tmp_path / "labeled"
    words = ["--model", run, "--unlabeled", others, "--output_dir", folder, "--device", "cpu", "--jobs", "1"]
    assert main(["label", *map(str, words)]) == 1
    printed = capsys.readouterr()
    assert f"{N_OTHERS - 1} crystals labeled" in printed.out
    assert "1 not labeled" in printed.err
    assert "1 left out: the run has exactly the same structures" in printed.err

    source = open_source(folder / "table.jsonl.gz", target_key="K_VRH")
    found = {record.id: record for record in (row.read() for row in source.rows())}
    split = json.loads((run / "ids_train_val_test.json").read_text())
    known = {name for ids in split.values() for name in ids}
    truth = labels_by_id(SAMPLE_DATA / "id_prop.csv")
    assert {name: found[name].targets[0] for name in known} == {name: pytest.approx(truth[name]) for name in known}
    added = [name for name in found if name not in known]
    assert len(added) == N_OTHERS - 1
    structures = [Structure.from_file(others / name) for name in added]
    expected = np.maximum(crysmm.load(run, "cpu").predict(structures)[:, 0], 0) / 0.1
    np.testing.assert_allclose([found[name].targets[0] for name in added], expected, rtol=1e-6)
    for name, structure in zip(added, structures, strict=True):
        crystal = found[name].crystal
        assert Structure(crystal.lattice, crystal.elements, crystal.frac_coords).matches(structure)

    command = shlex.split(printed.out.splitlines()[-1])
    small = [
        "--model.conv_layers",
        "1",
        "--model.node_features",
        "8",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--jobs",
        "1",
    ]
    student = tmp_path / "student"
    assert main([*command[1:-1], str(student), *small]) == 0
    ids = json.loads((student / "ids_train_val_test.json").read_text())
    assert ids == {**split, "id_train": [*split["id_train"], *added]}
    tested = [run / "prediction_results_test_set.csv", student / "prediction_results_test_set.csv"]
    targets = [[float(row["target"]) for row in csv.DictReader(path.open(newline=""))] for path in tested]
    np.testing.assert_allclose(*targets, rtol=1e-9)
    made, first = (json.loads((folder / "model.json").read_text()) for folder in (student, run))
    assert (made["units"], made["scaler"]["lowest"]) == (first["units"], [0.0])


def test_labels_of_several_properties(make_config, tmp_path):
    names = list(labels_by_id(SAMPLE_DATA / "id_prop.csv"))[:40]
    rows = [
        {"id": name, "structure": Structure.from_file(SAMPLE_DATA / f"{name}.vasp").as_dict(), "a": 1.0 + n}
        for n, name in enumerate(names)
    ]
    for row in rows[::2]:
        row["b"] = -row["a"]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    config = make_config(root_dir=path, target_key="a,b", limit=35)
    folder = train(config).folder
    rows[0]["structure"] = Structure(Lattice.cubic(4), ["Al"], [[0, 0, 0]]).as_dict()
    others = tmp_path / "others.json"
    others.write_text(json.dumps(rows))
    made = crysmm.label(folder, others, str(tmp_path / "labeled"), device="cpu", progress=False)
    assert (made.n_known, made.n_same, made.n_other, made.summary.n_predicted) == (35, 34, 1, 5)
    source = open_source(tmp_path / "labeled" / "table.jsonl.gz", target_key="a,b")
    targets = {record.id: record.targets for record in (row.read() for row in source.rows())}
    assert [np.isnan(targets[name][1]) for name in names] == [n % 2 == 1 and n < 35 for n in range(40)]


def test_a_property_with_a_comma_in_its_name(make_config, tmp_path, capsys):
    path = table_with(tmp_path, "gap, eV")
    run = train(make_config(root_dir=path, epochs=1)).folder
    words = ["--model", str(run), "--unlabeled", str(path), "--output_dir", str(tmp_path / "labeled"), "--jobs", "1"]
    assert main(["label", *words]) == 0
    printed = capsys.readouterr()
    assert "30 left out: the run has exactly the same structures" in printed.err
    assert main([*shlex.split(printed.out.splitlines()[-1])[1:-1], str(tmp_path / "student"), "--epochs", "1"]) == 0


def test_what_cannot_be_labeled_is_refused(make_config, others, tmp_path, capsys):
    run = train(make_config(epochs=1)).folder
    own = tmp_path / "own"
    own.mkdir()
    name = next(iter(labels_by_id(SAMPLE_DATA / "id_prop.csv")))
    shutil.copy(SAMPLE_DATA / f"{name}.vasp", own / f"{name}.vasp")
    words = ["label", "--model", str(run), "--unlabeled", str(own)]
    assert main([*words, "--output_dir", str(tmp_path / "a")]) == 2
    assert "there is no crystal to label: the run has all of them" in capsys.readouterr().err
    before = (run / "ids_train_val_test.json").read_bytes()
    assert main([*words, "--output_dir", str(run)]) == 2
    assert "something else: labels.json with 'n_known' would be there" in capsys.readouterr().err
    assert (run / "ids_train_val_test.json").read_bytes() == before
    assert main([*words, "--output_dir", str(tmp_path / "a"), "--root_dir", "moved"]) == 2
    assert "the structures of the run, moved, are not there; name where they are with --root_dir" in (
        capsys.readouterr().err
    )

    (own / "id_prop.csv").write_text(f"id\n{name}\n")
    other = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4), ["Al"], [[0, 0, 0]])
    other.to(own / f"{name}.vasp", fmt="poscar")
    assert main([*words, "--output_dir", str(tmp_path / "a")]) == 2
    assert "the run has all of them, or others with their ids" in capsys.readouterr().err
    classes = train(make_config(epochs=1, output_dir=tmp_path / "classes", classification_threshold=100)).folder
    with pytest.raises(InputError, match="predicts classes; labels of values are needed"):
        crysmm.label(classes, others, tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()


def test_other_structures_under_the_ids_of_the_run_are_refused(make_config, others, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(SAMPLE_DATA, data)
    run = train(make_config(root_dir=data, epochs=1)).folder
    (name, other, *_) = json.loads((run / "ids_train_val_test.json").read_text())["id_train"]
    shutil.copy(data / f"{other}.vasp", data / f"{name}.vasp")
    words = ["label", "--model", str(run), "--unlabeled", str(others), "--output_dir", str(tmp_path / "labeled")]
    assert main(words) == 2
    assert main(["audit", "--model", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count(f"the structures in {data} are not those of the run: its ids have other crystals there") == 2
    assert not (tmp_path / "labeled").exists()


def test_a_property_with_the_name_of_a_column(make_config, others, tmp_path):
    """Take the prediction as the label, not the end of its interval."""
    path = table_with(tmp_path, "upper")
    run = train(make_config(root_dir=path, target_key="upper", epochs=1)).folder
    made = crysmm.label(run, others, tmp_path / "labeled", device="cpu", progress=False)
    with (made.folder / "predictions.csv").open(newline="") as file:
        expected = {row["id"]: float(row["prediction"]) for row in csv.DictReader(file) if row["prediction"]}
    source = open_source(made.folder / "table.jsonl.gz", target_key="upper")
    found = {record.id: record.targets[0] for record in (row.read() for row in source.rows())}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_labels_by_another_run_are_kept(make_config, others, tmp_path):
    first = train(make_config(epochs=1)).folder
    second = train(make_config(epochs=1, random_seed=9, output_dir=tmp_path / "second" / first.name)).folder
    folder = crysmm.label(first, others, tmp_path / "labeled", device="cpu", progress=False).folder
    before = (folder / "predictions.csv").read_bytes()
    with pytest.raises(InputError, match=f"holds labels by another model, of the run {first.name}; name another"):
        crysmm.label(second, tmp_path / "never_read.jsonl", folder, device="cpu", progress=False)
    with alone_in(folder), pytest.raises(InputError, match="labeled is in use by another process"):
        crysmm.label(first, others, folder, device="cpu", progress=False)
    assert (folder / "predictions.csv").read_bytes() == before
    crysmm.label(first, others, folder, device="cpu", progress=False)


def test_a_label_is_not_below_the_lowest_value_of_its_property(make_config, tmp_path):
    """Clip labels of gaps, as a negative one would take the end of the intervals from the student."""
    rows = []
    for number, name in enumerate(list(labels_by_id(SAMPLE_DATA / "id_prop.csv"))[:40]):
        structure = Structure.from_file(SAMPLE_DATA / f"{name}.vasp").as_dict()
        rows.append({"id": name, "structure": structure, "gap": 0.0 if number else 1e-9, "energy": number - 20.0})
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    run = train(make_config(root_dir=path, target_key="gap,energy", limit=30, epochs=1)).folder
    others = tmp_path / "others.json"
    others.write_text(json.dumps(rows[30:]))
    made = crysmm.label(run, others, tmp_path / "labeled", device="cpu", progress=False)
    with (made.folder / "predictions.csv").open(newline="") as file:
        predicted = [float(row["prediction_gap"]) for row in csv.DictReader(file)]
    assert min(predicted) < 0
    source = open_source(made.folder / "table.jsonl.gz", target_key="gap,energy")
    labels = [row.read().targets for row in source.rows()]
    assert min(gap for gap, _ in labels) == 0
    assert min(energy for _, energy in labels) < 0
