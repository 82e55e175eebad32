"""The study of partly labeled tables: its splits, and the run on all properties at once."""

import csv
import json
from pathlib import Path

import pytest
from ase.io import read

from benchmarks import partly_labeled, study
from benchmarks.partly_labeled import crysgnn_tasks, crysxpp_tasks, curves_by_property, read_rows
from benchmarks.study import TOGETHER, read_results
from crysmm.config import TrainingConfig
from crysmm.data.split import make_split

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture
def table(tmp_path):
    """Sample crystals of which all have a volume, and every other one a bulk modulus."""
    with (SAMPLE_DATA / "id_prop.csv").open(newline="") as file:
        moduli = {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}
    lines = []
    for number, (name, modulus) in enumerate(list(moduli.items())[:100]):
        atoms = read(SAMPLE_DATA / f"{name}.vasp")
        crystal = {"lattice_mat": atoms.cell.tolist(), "frac_coords": atoms.get_scaled_positions().tolist()}
        values = {"volume": float(atoms.get_volume()), **({"K_VRH": modulus} if number % 2 else {})}
        lines.append(json.dumps({"id": name, "elements": atoms.get_chemical_symbols(), **crystal, **values}))
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(lines))
    return path


def ids_of(options):
    """Content of the file with the ids of a task's splits."""
    return json.loads(Path(options[options.index("--ids_file") + 1]).read_text())


def test_jarvis_splits_are_those_of_the_training_command(table, tmp_path):
    ids = ids_of(crysgnn_tasks(table, tmp_path, 20, ["K_VRH"])["tasks"]["K_VRH, 20%"])
    having = [row["id"] for row in read_rows(table) if "K_VRH" in row]
    split = make_split(TrainingConfig(train_ratio=0.2, val_ratio=0.1, test_ratio=0.7), having, ["H"] * len(having))
    expected = [[having[row] for row in rows] for rows in (split.train, split.val, split.test)]
    assert [ids["id_train"], ids["id_val"], ids["id_test"]] == expected


@pytest.mark.parametrize("percent", [20, 40])
def test_a_network_to_start_from_sees_labeled_rows_and_those_without_the_property(percent, table, tmp_path):
    ids = [row["id"] for row in read_rows(table)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partly_labeled, "JARVIS", {"K_VRH": "GPa"})
        made = crysgnn_tasks(table, tmp_path, percent, None)
    split = ids_of(made["tasks"][f"K_VRH, {percent}%"])
    assert made["held_out"].isdisjoint(split["id_train"][:10])
    assert made["held_out"].issuperset(split["id_test"])
    assert len(set(ids) - made["held_out"]) == 50 + 10


def test_no_property_is_tested_on_what_another_is_trained_on(table, tmp_path):
    made = crysxpp_tasks(table, tmp_path, 20, ["volume", "log10 K_VRH"])
    of_all, *of_each = map(ids_of, (made["together"], *made["tasks"].values()))
    having = {row["id"] for row in read_rows(table) if "K_VRH" in row}
    assert of_each[0] == of_all
    assert of_each[1] == {key: [one for one in ids if one in having] for key, ids in of_all.items()}
    assert [len(ids) for ids in of_all.values()] == [20, 10, 70]


def test_one_run_gives_the_errors_of_all_properties(table, run, tmp_path, calls, monkeypatch):
    monkeypatch.setattr(partly_labeled, "RECIPE", study.RECIPE)
    monkeypatch.setattr(partly_labeled, "call", study.call)
    names = ["volume", "log10 K_VRH"]
    options = ["--table", "crysxpp", "--data", table, "--properties", *names, "--seeds", "1"]
    run(partly_labeled, "run", *options, "--arms", TOGETHER)
    folder = tmp_path / "runs" / "cgcnn_on_all_properties_at_once" / "seed_1"
    assert calls == [folder.relative_to(tmp_path).as_posix()]
    found = json.loads((folder / "metrics.json").read_text())["test"]["per_target"]
    results = read_results(tmp_path / "partly_labeled.csv")[TOGETHER]
    assert results == {f"{name}, 20%": {1: found[name]["mae"]} for name in names}


def test_curves_are_those_of_a_property_at_several_sizes():
    results = {
        "cgcnn": {"slme, 5%": {1: 7.0}, "slme, 20%": {1: 6.0, 2: 6.5}, "mbj_bandgap, 20%": {1: 0.4}},
        "crysxpp": {"slme, 20%": {1: 6.1}},
    }
    assert curves_by_property(results) == {"slme: test MAE, %": {"cgcnn": {5: {1: 7.0}, 20: {1: 6.0, 2: 6.5}}}}
