from pathlib import Path

import pytest

from crysmm.cli.main import main
from crysmm.inference.model_card import MARK, SECTIONS, Card
from crysmm.zoo import shipped_names


@pytest.fixture
def zoo(tmp_path, monkeypatch, save_small_model) -> Path:
    folder = tmp_path / "zoo"
    monkeypatch.setattr("crysmm.zoo.ZOO", folder)
    for name in ("cgcnn-bulk", "gatgnn-bulk"):
        save_small_model(folder / name, name.split("-")[0])
        sections = dict.fromkeys(SECTIONS, "text") | {"Held-out metrics": f"- MAE of {name} 9 GPa\n- more"}
        (folder / name / "README.md").write_text(Card(name, f"About {name}.", sections).text())
    return folder


def test_list(zoo, capsys):
    assert main(["zoo"]) == 0
    shown = capsys.readouterr().out
    size = (zoo / "cgcnn-bulk" / "model.safetensors").stat().st_size / 1e6
    assert shown.startswith(
        "cgcnn-bulk\n  About cgcnn-bulk.\n"
        f"  cgcnn that predicts K_VRH (GPa); 5 elements, {size:.2f} MB\n"
        "  held out: MAE of cgcnn-bulk 9 GPa\n\ngatgnn-bulk\n"
    )
    assert "crysmm predict --model NAME" in shown


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_group(has_folder, tmp_path, monkeypatch, capsys):
    """A group is listed, and is not taken where one model is needed, nor for a folder of its name."""
    monkeypatch.chdir(tmp_path)
    if has_folder:
        (tmp_path / "jarvis").mkdir()
    assert main(["zoo", "jarvis"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line and line[0] != " "] == [
        name for name in shipped_names() if name.startswith("jarvis-")
    ]
    assert main(["explain", "--model", "jarvis", "--files", "POSCAR", "--output_dir", "new"]) == 2
    reason = "is not a crysmm model folder" if has_folder else "is short for several shipped models, and one is needed"
    assert f"jarvis {reason}" in capsys.readouterr().err


def test_card(zoo, capsys):
    assert main(["zoo", "gatgnn-bulk"]) == 0
    shown, card = capsys.readouterr().out, (zoo / "gatgnn-bulk" / "README.md").read_text()
    assert card.startswith(shown)
    assert card.removeprefix(shown).strip() == MARK


def test_unknown_name(zoo, capsys):
    assert main(["zoo", "gatgnn"]) == 2
    assert (
        "gatgnn: no shipped model has this name; the shipped models are cgcnn-bulk, gatgnn-bulk"
        in capsys.readouterr().err
    )


def test_a_model_without_a_card(zoo, capsys):
    (zoo / "cgcnn-bulk" / "README.md").unlink()
    assert main(["zoo"]) == 2
    assert "README.md cannot be read" in capsys.readouterr().err


def test_an_empty_zoo(zoo, monkeypatch, capsys):
    monkeypatch.setattr("crysmm.zoo.ZOO", zoo / "nothing")
    assert main(["zoo"]) == 0
    assert capsys.readouterr().out == "This package ships no models.\n"
