import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pymatgen.core import Element

from crysmm.cli.main import main
from crysmm.crystals.crystal import Crystal
from crysmm.data.scaler import TargetScaler
from crysmm.explain import REPORT, TABLES_AND_PLOTS
from crysmm.explain.explanation import why_not_measured
from crysmm.models.networks import PropertyNetwork

POSCAR = "rock salt\n5.64\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
FILES = {
    "atoms.csv", "crystals.csv", "elements.csv", "elements.png", "elements_of_all.csv", "explanation.json",
    "features.csv", "features.png", "features_by_crystal.csv", "skipped.csv",
}  # fmt: skip
OF_ONE_CRYSTAL = {"atoms.png", "features_by_crystal.png"}
SINGLE_BONDS = {"Fe": 116, "O": 63}  # covalent radii in pm: Pyykko and Atsumi, Chem. Eur. J. 15, 186 (2009), table 2
Save = Callable[..., PropertyNetwork]


@pytest.fixture
def folder(
    tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working directory with a CrysXPP model, a table with targets and one bad row, and a structure file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_small_model(tmp_path / "model", "crysxpp")
    rows = [
        {
            "id": name,
            "K": 10.0 * index,
            "lattice_mat": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "elements": crystal.elements,
        }
        for index, (name, crystal) in enumerate(crystals.items())
    ]
    rows[2]["elements"] = ["Qq", "Qq"]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("salt.vasp").write_text(POSCAR)
    return tmp_path


def explain(*arguments: str) -> int:
    return main(["explain", "--model", "model", "--output_dir", "out", "--jobs", "1", *arguments])


def table(name: str) -> list[dict[str, str]]:
    with Path("out", name).open(newline="") as file:
        return list(csv.DictReader(file))


def sums(rows: list[dict[str, str]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        found[row["id"]] = found.get(row["id"], 0.0) + float(row["contribution"])
    return found


def test_tables_agree(folder: Path, crystals: dict[str, Crystal], capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--root_dir", "data.jsonl", "--target_key", "K", "--batch_size", "4") == 0
    assert {path.name for path in (folder / "out").iterdir()} == FILES
    by_crystal = {row["id"]: row for row in table("crystals.csv")}
    assert list(by_crystal) == [name for name in crystals if name != "Si"]
    for name in ("atoms.csv", "elements.csv", "features_by_crystal.csv"):
        expected = {key: float(row["contributions"]) for key, row in by_crystal.items()}
        assert sums(table(name)) == pytest.approx(expected)
    atoms = [row for row in table("atoms.csv") if row["id"] == "SiO2"]
    assert [(row["atom"], row["element"]) for row in atoms] == list(
        zip(map(str, range(9)), crystals["SiO2"].elements, strict=True)
    )
    assert [row["id"] for row in table("skipped.csv")] == ["Si"]
    captured = capsys.readouterr()
    assert "1 row skipped" in captured.err
    assert "errors of K_VRH are computed from K in the data" in captured.err
    assert "The ranking by feature weight" in captured.out
    assert "mean absolute error of K_VRH" in captured.out


def test_predictions_are_those_of_predict(folder: Path) -> None:
    assert explain("--root_dir", "data.jsonl", "--target_key", "K") == 0
    assert main(["predict", "--model", "model", "--device", "cpu", "--root_dir", "data.jsonl"]) == 1  # one row is bad
    with Path("predictions.csv").open(newline="") as file:
        predicted = {row["id"]: row["prediction"] for row in csv.DictReader(file)}
    for row in table("crystals.csv"):
        assert float(row["prediction"]) == pytest.approx(float(predicted[row["id"]]), rel=1e-9)
        rest = float(row["prediction"]) - float(row["baseline"]) - float(row["contributions"])
        assert float(row["residual"]) == pytest.approx(rest, abs=1e-9)


def test_features_are_sorted_by_weight_and_named(folder: Path) -> None:
    assert explain("--root_dir", "data.jsonl", "--target_key", "K") == 0
    rows = table("features.csv")
    assert len(rows) == 92
    seen = [row for row in rows if row["in_training"] == "True"]
    assert rows[: len(seen)] == seen
    sizes = [abs(float(row["weight"])) for row in seen]
    assert sizes == sorted(sizes, reverse=True)
    of_oxygen = next(row for row in rows if row["name"] == "electronegativity 3.30 to 3.65")
    assert of_oxygen["feature_group"] == "electronegativity"
    assert (float(of_oxygen["lower"]), float(of_oxygen["upper"])) == pytest.approx((3.3, 3.65))
    content = json.loads(Path("out/explanation.json").read_text())
    assert content["backbone"] == "crysxpp"
    assert [row["name"] for row in content["features"]] == [row["name"] for row in rows]
    assert [check["ranking"] for check in content["checks"]] == ["feature weight", "mean absolute contribution"]
    assert content["n_crystals"] == 11
    assert content["n_skipped"] == 1


def test_one_crystal_in_tables_json_and_pictures(folder: Path) -> None:
    """The JSON file has every number of the tables, and they add up to what predict says."""
    assert explain("--files", "salt.vasp") == 0
    assert {path.name for path in (folder / "out").iterdir()} == FILES | OF_ONE_CRYSTAL
    crystal = json.loads(Path("out/explanation.json").read_text())["crystal"]
    (numbers,) = table("crystals.csv")
    for key in ("prediction", "baseline", "contributions", "residual"):
        assert crystal[key] == float(numbers[key])
    tables = {"atoms": "atoms.csv", "elements": "elements.csv", "features": "features_by_crystal.csv"}
    for key, name in tables.items():
        in_table = [{column: text for column, text in row.items() if column != "id"} for row in table(name)]
        in_json = [
            {column: str("" if value is None else value) for column, value in row.items()} for row in crystal[key]
        ]
        assert in_json == in_table
    assert [(row["atom"], row["element"]) for row in crystal["atoms"]] == [(0, "Na"), (1, "Cl")]
    assert crystal["id"] == numbers["id"] == "salt.vasp"
    assert main(["predict", "--model", "model", "--device", "cpu", "--files", "salt.vasp"]) == 0
    with Path("predictions.csv").open(newline="") as file:
        (predicted,) = csv.DictReader(file)
    change = float(predicted["prediction"]) - crystal["baseline"]
    assert abs(change) > 1e-3
    for key in tables:
        assert sum(row["contribution"] for row in crystal[key]) == pytest.approx(change, rel=1e-3)


def test_features_of_one_crystal_have_their_bins_in_physical_units(folder: Path) -> None:
    """The bins hold the values of iron and oxygen that pymatgen and Pyykko tabulate, and no others are there."""
    Path("salt.vasp").write_text(POSCAR.replace("Na Cl", "Fe O"))
    assert explain("--files", "salt.vasp") == 0
    rows = table("features_by_crystal.csv")
    iron, oxygen = Element("Fe"), Element("O")
    values = {
        "electronegativity": ("", iron.X, oxygen.X),
        "covalent radius": ("pm", SINGLE_BONDS["Fe"], SINGLE_BONDS["O"]),
        "first ionization energy": ("eV", iron.ionization_energy, oxygen.ionization_energy),
        "electron affinity": ("eV", iron.electron_affinity, oxygen.electron_affinity),
        "atomic volume": ("cm3/mol", iron.molar_volume, oxygen.molar_volume),
    }
    for group, (unit, *expected) in values.items():
        bins = [row for row in rows if row["feature_group"] == group]
        assert {row["unit"] for row in bins} == {unit}
        ranges = sorted((float(row["lower"]), float(row["upper"])) for row in bins)
        assert sum(int(row["n_atoms"]) for row in bins) == 2
        for value in expected:
            assert any(lower <= value <= upper for lower, upper in ranges)
        assert all(any(lower <= value <= upper for value in expected) for lower, upper in ranges)
    without = [row for row in rows if row["feature_group"] not in values]
    assert {row["name"] for row in without} >= {"group 8", "group 16", "period 4", "d block", "valence electrons 6"}
    assert all(row["lower"] == row["upper"] == row["unit"] == "" for row in without)


def test_one_crystals_own_features_are_shown_instead_of_the_weights(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain("--files", "salt.vasp") == 0
    out = capsys.readouterr().out
    assert "features by weight" not in out
    assert "salt.vasp: K_VRH" in out
    strongest, *_ = table("features_by_crystal.csv")
    first = out.split("contributions of its features:\n")[1].splitlines()[0]
    assert first.split(maxsplit=1)[1] == strongest["name"]
    assert float(first.split()[0]) == pytest.approx(float(strongest["contribution"]), rel=1e-3)


def test_pictures_of_a_crystal_do_not_outlive_its_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--files", "salt.vasp") == 0
    Path("other.vasp").write_text(POSCAR.replace("Na Cl", "Mg O"))
    capsys.readouterr()
    assert explain("--files", "salt.vasp", "other.vasp") == 0
    assert "features by weight:" in capsys.readouterr().out
    assert {path.name for path in (folder / "out").iterdir()} == FILES
    assert json.loads(Path("out/explanation.json").read_text())["crystal"] is None


def test_without_targets(folder: Path, save_small_model: Save, capsys: pytest.CaptureFixture[str]) -> None:
    """A backbone without weights, a class, single files: what changes is the prediction."""
    save_small_model(folder / "model", "gatgnn", classification_threshold=100.0)
    assert explain("--files", "salt.vasp") == 0
    content = json.loads(Path("out/explanation.json").read_text())
    assert content["explained"] == "probability of class 1"
    assert [check["ranking"] for check in content["checks"]] == ["mean absolute contribution"]
    assert "no targets are known" in capsys.readouterr().out
    assert "weight" not in table("features.csv")[0]
    assert explain("--files", "salt.vasp", "--explained", "0") == 0
    probability = float(table("crystals.csv")[0]["prediction"])
    assert json.loads(Path("out/explanation.json").read_text())["explained"] == "probability of class 0"
    assert 0 < probability < 1


def test_only_features_that_matter_are_shown_and_strange_elements_named(
    folder: Path, save_small_model: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plutonium was not in training; what it has that no training crystal had contributes all the same."""
    save_small_model(folder / "model", "gatgnn")
    Path("odd.vasp").write_text(POSCAR.replace("Na Cl", "Pu Cl"))
    assert explain("--files", "odd.vasp") == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    listed = lines[lines.index("contributions of its features:") + 1 : -2]
    present = {row["name"]: abs(float(row["contribution"])) for row in table("features_by_crystal.csv")}
    assert [line.split(maxsplit=1)[1] for line in listed] == sorted(present, key=lambda name: -present[name])[:10]
    assert "in no training structure: Pu;" in captured.err
    rows = {row["name"]: row for row in table("features.csv")}
    assert [row["name"] for row in rows.values()][: len(present)] == sorted(present, key=lambda name: -present[name])
    assert rows["f block"]["in_training"] == "False"


@pytest.mark.parametrize(
    ("scaler", "names", "targets", "reason"),
    [
        (TargetScaler(n_targets=1), ("K",), [2.5], None),
        (TargetScaler(n_targets=1), (), [], "the model predicts K_VRH, the data have no targets"),
        (TargetScaler(n_targets=1), ("K", "G"), [[1, 2]], "the model predicts K_VRH, the data have K, G"),
        (TargetScaler(n_targets=1, classes=(0.0, 1.0)), ("K",), [1, 0, 0], None),
        (TargetScaler(n_targets=1, classes=(0.0, 1.0)), ("K",), [0, 2, 7], "K has 2, the model's classes are 0, 1"),
        (TargetScaler(n_targets=1, classes=(0.0, 1.0), threshold=5.0), ("K",), [0, 2, 7], None),
    ],
)
def test_targets_that_are_not_the_models_measure_no_errors(
    scaler: TargetScaler, names: tuple[str, ...], targets: list[object], reason: str | None
) -> None:
    model = SimpleNamespace(scaler=scaler, description=SimpleNamespace(target_names=["K_VRH"]))
    store = SimpleNamespace(target_names=names, targets=np.array(targets, dtype=float).reshape(-1, max(1, len(names))))
    assert why_not_measured(model, store) == reason  # type: ignore[arg-type]


def test_a_table_without_the_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--root_dir", "data.jsonl", "--target_key", "G", "--limit", "2") == 2
    assert "data.jsonl" in capsys.readouterr().err
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    Path("data.jsonl").write_text("".join(json.dumps(row | {"K": "unknown"}) + "\n" for row in rows))
    assert explain("--root_dir", "data.jsonl", "--limit", "2") == 0
    captured = capsys.readouterr()
    assert "no targets are read" in captured.err
    assert "mean change of K_VRH" in captured.out
    assert len(table("crystals.csv")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root_dir", "nowhere"], "nowhere does not exist"),
        (["--files", "salt.vasp", "--explained", "G"], "--explained: the model has no target 'G'; it has K_VRH"),
        (["--files", "salt.vasp", "--output_dir", "salt.vasp"], "--output_dir: salt.vasp cannot be written"),
        (["--files", "salt.vasp", "--model", "out"], "out is not a folder"),
        (["--files", "salt.vasp", "--limit", "3"], "--limit: applies to the rows of --root_dir"),
        (["--files", "salt.vasp", "--output_dir", "run"], "--output_dir: run holds a run"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("run").mkdir()
    Path("run/config.json").touch()
    assert explain(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not Path("out").exists()


@pytest.mark.parametrize("name", TABLES_AND_PLOTS)
def test_files_of_something_else_are_left(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("out").mkdir()
    Path("out", name).write_text("of the user")
    assert explain("--files", "salt.vasp") == 2
    assert f"--output_dir: out holds {name} of something else: {REPORT} with" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in Path("out").iterdir()} == {name: "of the user"}


def test_an_explanation_is_replaced(folder: Path) -> None:
    for limit, n_crystals in (("1", 1), ("2", 2)):
        assert explain("--root_dir", "data.jsonl", "--limit", limit) == 0
        assert len(table("crystals.csv")) == n_crystals
    assert {REPORT, *TABLES_AND_PLOTS} == FILES | OF_ONE_CRYSTAL
