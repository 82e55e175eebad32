"""A shipped model from a run folder: the model itself, and a card that says what the run says."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import crysmm
from crysmm.cli.main import main
from crysmm.data.units import number
from crysmm.inference.model_card import read_card

CHECKOUT = Path(__file__).parents[2]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"
SMALL = ["--model.conv_layers", "1", "--model.node_features", "8", "--model.fc_features", "8", "--epochs", "2"]
SMALL += ["--limit", "20", "--root_dir", str(SAMPLE_DATA), "--device", "cpu", "--learning_rate", "0.01"]


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """Run the script in a folder where its models go to ``zoo``; gives its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("crysmm.zoo.ZOO", tmp_path / "zoo")
    monkeypatch.setattr("crysmm.inference.model_teacher.ZOO", tmp_path / "zoo")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ship.py", *arguments, "--zoo", "zoo", "--summary", "What it is."])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(CHECKOUT / "benchmarks" / "ship.py"), run_name="__main__")
        return left.value.code

    return run


def test_model_and_encoder(ship, capsys):
    assert main(["pretrain", *SMALL, "--n_val", "5", "--output_dir", "deep/encoder"]) == 0
    assert ship("deep/encoder", "small-encoder", "--figure", "a student gains 1 GPa") == 0
    head = ["--head", "distilled", "--head.teacher", str(Path("deep/encoder").absolute())]
    assert main(["train", *SMALL, *head, "--n_val", "3", "--n_test", "4", "--output_dir", "deep/run"]) == 0
    assert ship("deep/run", "small") == 0

    metrics = json.loads(Path("deep/run/metrics.json").read_text())["test"]
    card = read_card(Path("zoo/small"))
    assert card.summary == "What it is."
    assert re.match(rf"test MAE {number(metrics['mae'])} ± [\d.]+ GPa \(standard error\), RMSE", card.figure)
    assert "13 for training, 3 for validation, 4 left out" in card.sections["Data"]
    command = card.sections["Command"]
    assert "crysmm train --root_dir sample_data --limit 20 --model.conv_layers 1" in command
    assert "--learning_rate 0.01 --head distilled --head.teacher encoder --output_dir runs/small" in command
    assert str(Path.cwd()) not in Path("zoo/small/model.json").read_text() + card.text()
    structure = SAMPLE_DATA / "mp-149.vasp"
    shipped, original = crysmm.load("small").assess(structure), crysmm.load("deep/run").assess(structure)
    assert np.array_equal(shipped.predictions, original.predictions)
    assert np.array_equal(shipped.distance_percentile, original.distance_percentile)
    assert shipped.upper == np.inf  # three crystals validate
    assert list(shipped.nearest) == list(original.nearest)
    assert len(shipped.nearest[0]) == 5  # named training crystals

    assert ship("deep/run", "of-jarvis", "--source", "jarvis") == 0
    card = read_card(Path("zoo/of-jarvis"))
    assert "JARVIS-Leaderboard" in card.sections["Data"]
    assert "Choudhary" in card.sections["License and citation"]
    card = read_card(Path("zoo/small-encoder"))
    assert card.figure == "a student gains 1 GPa"
    assert "crysmm pretrain --root_dir sample_data" in card.sections["Command"]
    assert "knn purity" in card.sections["Held-out metrics"]
    capsys.readouterr()
    assert main(["zoo"]) == 0
    listed = capsys.readouterr().out
    assert "cgcnn that predicts K_VRH (GPa)" in listed
    assert "encoder cgcnn, pre-trained by decoys" in listed


def test_a_fused_model_without_a_teacher(ship):
    assert main(["pretrain", *SMALL, "--n_val", "5", "--output_dir", "encoder"]) == 0
    assert ship("encoder", "small-encoder") == 0
    head = ["--head", "multimodal", "--head.embeddings", "small-encoder"]
    assert main(["train", *SMALL, *head, "--n_val", "3", "--n_test", "4", "--output_dir", "run"]) == 0
    assert ship("run", "fused") == 0
    assert Path("zoo/fused/model.json").read_bytes() == Path("run/model.json").read_bytes()


def test_refuses_what_it_cannot_ship(ship, save_small_model, capsys):
    save_small_model(Path("run"))
    Path("zoo/there").mkdir(parents=True)
    assert ship("run", "there") == 2
    assert "zoo/there exists already" in capsys.readouterr().err
    Path("run/model.safetensors").write_bytes(bytes(1_000_000))
    assert ship("run", "large") == 2
    assert "has 1,000,000 bytes" in capsys.readouterr().err
    assert not Path("zoo/large").exists()


def test_nothing_is_left_of_what_does_not_load(ship, capsys):
    assert main(["pretrain", *SMALL, "--n_val", "5", "--output_dir", "run"]) == 0
    weights = bytearray(Path("run/model.safetensors").read_bytes())
    weights[-1] ^= 1
    Path("run/model.safetensors").write_bytes(weights)
    assert ship("run", "broken") == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert list(Path("zoo").iterdir()) == []
