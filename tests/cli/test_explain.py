import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from crysmm.cli.main import main
from crysmm.crystal import Crystal
from crysmm.models.heads import PropertyNetwork

POSCAR = "rock salt\n5.64\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
FILES = {
    "atoms.csv", "crystals.csv", "elements.csv", "elements.png", "elements_of_all.csv", "explanation.json",
    "features.csv", "features.png", "features_by_crystal.csv", "skipped.csv",
}  # fmt: skip
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
    assert "1 rows left out" in captured.err
    assert "The ranking by feature weight" in captured.out
    assert "mean absolute error of K_VRH" in captured.out


def test_predictions_are_those_of_predict(folder: Path) -> None:
    assert explain("--root_dir", "data.jsonl", "--target_key", "K") == 0
    assert main(["predict", "--model", "model", "--device", "cpu", "--root_dir", "data.jsonl"]) == 0
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
    assert float(of_oxygen["low"]) == pytest.approx(3.3)
    content = json.loads(Path("out/explanation.json").read_text())
    assert content["backbone"] == "crysxpp"
    assert [row["name"] for row in content["features"]] == [row["name"] for row in rows]
    assert [check["ranking"] for check in content["checks"]] == ["feature weight", "mean absolute contribution"]
    assert content["n_crystals"] == 11
    assert content["n_skipped"] == 1


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


def test_a_table_without_the_target(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--root_dir", "data.jsonl", "--target_key", "G", "--limit", "2") == 0
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
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert explain(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not Path("out").exists()
