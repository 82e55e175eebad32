import errno
import hashlib
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from crysmm.cli.main import main
from crysmm.config import TrainingConfig
from crysmm.inference.model_card import read_card
from crysmm.models.networks import build_network
from crysmm.training.transfer import copy_weights

POSCAR = "rock salt\n5.64\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
SIZES = {"conv_layers": 1, "node_features": 4, "fc_features": 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a checkpoint of a small CrysXPP by the authors' names, and a structure file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    network = build_network(TrainingConfig(model={"name": "crysxpp", **SIZES}), 1)
    names = {"selector.weight": "mask", "head.hidden.1": "conv_to_fc", "head.output": "fc_out"}
    weights = {}
    for name, value in network.state_dict().items():
        name = name.removeprefix("backbone.")
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        weights[name] = value
    normalizer = {"mean": torch.tensor(0.5), "std": torch.tensor(2.0)}
    torch.save({"state_dict": weights, "normalizer": normalizer}, "model_best.pth.tar")
    Path("salt.vasp").write_text(POSCAR)
    return tmp_path


def convert(*arguments: str) -> int:
    return main(["convert", "--from", "crysxpp", "model_best.pth.tar", "--output_dir", "model", *arguments])


def test_convert_predict_explain_and_start_from_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert() == 0
    shown = capsys.readouterr()
    assert shown.out == (
        "crysxpp from crysxpp written to model; use it with: crysmm predict --model model --files POSCAR\n"
    )
    assert "note: graphs of the 12 nearest neighbors within 8 Angstrom" in shown.err
    assert "the elements in its training structures are unknown" in shown.err
    assert {path.name for path in (folder / "model").iterdir()} == {"README.md", "model.json", "model.safetensors"}
    card = read_card(folder / "model")
    assert card.summary.endswith("converted from model_best.pth.tar, a checkpoint of crysxpp.")
    assert hashlib.sha256(Path("model_best.pth.tar").read_bytes()).hexdigest() in card.sections["Command"]
    assert "no warning about other elements" in card.sections["Limits"]

    assert main(["predict", "--model", "model", "--files", "salt.vasp", "--jobs", "1"]) == 0
    assert "elements" not in capsys.readouterr().err
    arguments = ["--model", "model", "--files", "salt.vasp", "--output_dir", "why", "--jobs", "1"]
    assert main(["explain", *arguments]) == 0
    assert "elements" not in capsys.readouterr().err

    student = build_network(TrainingConfig(model={"name": "cgcnn", **SIZES}), 1)
    report = copy_weights(student, "cgcnn", "model")
    assert list(report.left_out) == ["backbone.selector.weight"]


def test_an_error_is_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Linear(2, 2), "model_best.pth.tar")
    assert convert() == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "crysmm: error: model_best.pth.tar holds objects of the class torch.nn.modules.linear.Linear"
    )
    assert error.count("\n") == 1
    assert not (folder / "model").exists()


def test_a_disk_full_after_the_weights_leaves_an_empty_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: object) -> None:
        assert (folder / "model" / "model.safetensors").exists()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("crysmm.inference.model_folder.write_json_atomic", full)
        assert convert() == 2
    assert "model/model.json: No space left on device" in capsys.readouterr().err
    assert list((folder / "model").iterdir()) == []
    assert convert() == 0


def test_a_folder_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert() == 0
    before = (folder / "model" / "model.json").read_bytes()
    assert convert() == 2
    assert "--output_dir: model is not empty; name a new folder" in capsys.readouterr().err
    assert (folder / "model" / "model.json").read_bytes() == before


def test_whose_it_is_must_be_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["convert", "model_best.pth.tar", "--output_dir", "model"])
    assert "--from" in capsys.readouterr().err
