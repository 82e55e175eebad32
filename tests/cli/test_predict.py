import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crysmm.cli.main import main
from crysmm.crystals.crystal import Crystal
from crysmm.inference.predictor import load
from crysmm.models.networks import PropertyNetwork

POSCAR = "rock salt\n5.64\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"


@pytest.fixture
def folder(tmp_path: Path, save_small_model: Callable[..., PropertyNetwork], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model and a folder of structures, one of which is bad."""
    monkeypatch.chdir(tmp_path)
    save_small_model(tmp_path / "model")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "salt.vasp").write_text(POSCAR)
    (tmp_path / "new" / "wide.vasp").write_text(POSCAR.replace("5.64", "5.9"))
    (tmp_path / "new" / "empty.cif").write_text("")
    return tmp_path


def predict(*arguments: str) -> int:
    return main(["predict", "--model", "model", "--device", "cpu", *arguments])


def table(path: str = "predictions.csv") -> dict[str, dict[str, str]]:
    with Path(path).open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--files", "new/salt.vasp", "new/wide.vasp") == 0
    rows = table()
    assert rows.keys() == {"salt.vasp", "wide.vasp"}
    assert rows["salt.vasp"]["prediction"] != rows["wide.vasp"]["prediction"]
    captured = capsys.readouterr()
    assert f"salt.vasp,{rows['salt.vasp']['prediction']}," in captured.out
    assert "2 of 2 structures predicted: predictions.csv" in captured.out
    assert captured.err.count("warning") == 1
    assert "the model has no calibration: there are no intervals, and nothing shows which structures" in captured.err


def test_rows_to_keep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--files", "new/salt.vasp", "new/wide.vasp") == 0
    best = max(table().items(), key=lambda row: float(row[1]["prediction"]))[0]
    assert predict("--root_dir", "new", "--keep", "highest 1 K_VRH", "--output", "best.csv") == 1
    assert table("best.csv").keys() == {best}
    captured = capsys.readouterr()
    assert "2 of 3 structures predicted, 1 kept: best.csv" in captured.out
    assert "1 not predicted:\n" in captured.err
    assert predict("--root_dir", "new", "--keep", "bulk > 3") == 2
    assert "no number is called 'bulk'; there are K_VRH, prediction" in capsys.readouterr().err


def test_starts_fast(folder: Path, save_small_model: Callable[..., PropertyNetwork]) -> None:
    """What training needs takes seconds to import, and some of torch's own functions import it unasked."""
    save_small_model(folder / "alignn", "alignn")
    code = (
        "import sys\n"
        "from crysmm.cli.main import main\n"
        "main(['predict', '--model', 'alignn', '--root_dir', 'new', '--device', 'cpu'])\n"
        "print([name for name in ('lightning_fabric', 'torch._dynamo', 'joblib') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_folder_without_targets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--root_dir", "new", "--output", "deep/out.csv", "--batch_size", "1", "--jobs", "1") == 1
    rows = table("deep/out.csv")
    assert rows["empty.cif"]["prediction"] == ""
    assert rows["empty.cif"]["reason"]
    assert float(rows["salt.vasp"]["prediction"])
    warning = capsys.readouterr().err
    assert "1 not predicted" in warning
    assert "empty.cif" in warning


def test_folder_with_id_prop(folder: Path) -> None:
    (folder / "new" / "id_prop.csv").write_text("wide.vasp,1.5\nsalt.vasp,na\n")
    assert predict("--root_dir", "new") == 0
    assert list(table()) == ["wide.vasp", "salt.vasp"]
    (folder / "new" / "id_prop.csv").write_text("salt.vasp\nwide.vasp\n")
    assert predict("--root_dir", "new") == 0
    assert list(table()) == ["salt.vasp", "wide.vasp"]


def test_table_of_structures(folder: Path, crystals: dict[str, Crystal], capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open("new.jsonl.gz", "wt") as file:
        for name, crystal in crystals.items():
            arrays = {"lattice_mat": crystal.lattice.tolist(), "frac_coords": crystal.frac_coords.tolist()}
            file.write(json.dumps({"name": name, "elements": crystal.elements, **arrays}) + "\n")
    assert predict("--root_dir", "new.jsonl.gz", "--id_key", "name") == 0
    assert list(table()) == list(crystals)
    captured = capsys.readouterr()
    assert "elements in no training structure" in captured.err
    assert "Ti (2)" in captured.err
    assert "SrTiO3," not in captured.out  # twelve rows are not printed


def test_nothing_that_can_be_predicted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("--files", "new/empty.cif", "nowhere.cif") == 2
    assert "no structure could be predicted" in capsys.readouterr().err
    assert all(row["reason"] for row in table().values())


def test_files_that_the_table_does_not_name_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new/id_prop.csv").write_text("salt,1.5\n")
    assert predict("--root_dir", "new") == 0
    assert table().keys() == {"salt"}
    assert "no row of the table in new names them: empty.cif, wide.vasp; there are 2" in capsys.readouterr().err
    Path("new/id_prop.csv").write_text("salt,1.5\nwide,2.5\nempty,3.5\n")
    assert predict("--root_dir", "new") == 1
    assert "no row of the table" not in capsys.readouterr().err


def test_a_table_without_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new/id_prop.csv").write_text("id,target\n")
    assert predict("--root_dir", "new") == 2
    assert "the input has no structures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "new", "--files", "a.cif"], "not a crysmm model folder; expected model.json"),
        (["--model", "model", "--root_dir", "nowhere"], "nowhere does not exist"),
        (["--model", "model", "--files", "new/salt.vasp", "--device", "cuda:99"], "--device: cuda:99 is not available"),
        (["--model", "model", "--files", "new/salt.vasp", "--device", "gpu"], "--device: expected auto, cpu, cuda or"),
        (["--model", "model", "--files", "new/salt.vasp", "--output", "new"], "new is a folder"),
        (
            ["--model", "model", "--files", "new/salt.vasp", "--output", "a.xlsx"],
            "a.xlsx: predictions are written as CSV or",
        ),
        (["--model", "model", "--files", "new/salt.vasp", "--output", "a.csv.gz"], "with .csv or .parquet"),
        (["--model", "model", "--files", "new/salt.vasp", "--output", "-"], "-: predictions are written as CSV"),
        (["--model", "model", "--files", "new/salt.vasp", "--id_key", "name"], "--id_key: applies to the rows of"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["predict", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not any(Path(name).exists() for name in ("predictions.csv", "a.xlsx", "a.csv.gz"))


@pytest.mark.parametrize(
    "arguments", [[], ["--files"], ["--files", "a", "--root_dir", "b"], ["--files", "a", "--batch_size", "0"]]
)
def test_wrong_options_leave_with_2(folder: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        predict(*arguments)
    assert exit_info.value.code == 2


# Brucite without its hydrogen, and the same atoms under another formula
BRUCITE = """data_brucite
_chemical_formula_sum 'H2 Mg O2'
_cell_length_a 3.142
_cell_length_b 3.142
_cell_length_c 4.766
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_space_group_name_H-M_alt 'P -3 m 1'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mg1 0 0 0
O1 0.3333 0.6667 0.2203
"""


def test_how_a_file_was_read_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new/brucite.cif").write_text(BRUCITE)
    Path("new/other.cif").write_text(BRUCITE.replace("Mg O2", "Zn O2"))
    assert predict("--files", "new/brucite.cif", "new/other.cif") == 1
    note = "100% of the hydrogen in the formula 'H2 Mg O2' has no positions"
    assert table()["brucite.cif"]["note"] == note
    assert "the formula contradicts the atoms" in table()["other.cif"]["reason"]
    warnings = capsys.readouterr().err
    assert f"1 predicted, with a note on how they were read:\n  new/brucite.cif: {note}" in warnings
    with pytest.warns(UserWarning, match="of the hydrogen in the formula"):
        load("model").predict(["new/brucite.cif"])
