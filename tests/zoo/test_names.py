"""A shipped model is had by its name, wherever a model folder is asked for."""

import csv
import json
import shutil
from pathlib import Path

import pytest

import crysmm
from crysmm.cli.main import main
from crysmm.errors import ModelFolderError
from crysmm.inference.saved_models import load_encoder
from crysmm.zoo import resolve, shipped_names

CHECKOUT = Path(__file__).parents[2]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"
SMALL = ["--model.conv_layers", "1", "--model.node_features", "8", "--model.fc_features", "8", "--epochs", "1"]
SMALL += ["--limit", "12", "--n_val", "2", "--n_test", "2", "--root_dir", str(SAMPLE_DATA), "--device", "cpu"]


@pytest.fixture
def zoo(tmp_path, monkeypatch, save_small_model):
    """A zoo with one model, and a working directory elsewhere."""
    folder = tmp_path / "zoo"
    save_small_model(folder / "cgcnn-bulk")
    monkeypatch.setattr("crysmm.zoo.ZOO", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_names(zoo):
    assert shipped_names() == ["cgcnn-bulk"]
    assert resolve("cgcnn-bulk") == resolve(Path("cgcnn-bulk")) == zoo / "cgcnn-bulk"
    assert resolve("other") == Path("other")


def test_a_folder_of_that_name_in_the_working_directory_wins(zoo, save_small_model):
    save_small_model(Path("cgcnn-bulk"), "gatgnn")
    assert crysmm.load("cgcnn-bulk").model.config.model.name == "gatgnn"
    shutil.rmtree("cgcnn-bulk")
    assert crysmm.load("cgcnn-bulk").model.config.model.name == "cgcnn"


@pytest.mark.parametrize("load", [crysmm.load, load_encoder])
def test_an_unknown_name_lists_those_there_are(zoo, load):
    with pytest.raises(ModelFolderError, match=r"cgcnn-balk is not a folder.*shipped model \(cgcnn-bulk\)"):
        load("cgcnn-balk")


def test_predict_by_name(zoo):
    file = SAMPLE_DATA / "mp-149.vasp"
    assert main(["predict", "--model", "cgcnn-bulk", "--files", str(file)]) == 0
    with open("predictions.csv", newline="") as table:
        (row,) = csv.DictReader(table)
    assert float(row["prediction"]) == crysmm.load(zoo / "cgcnn-bulk").predict(file)[0]


def test_train_from_a_name(zoo, capsys):
    assert main(["train", "--init_from", "cgcnn-bulk", "--output_dir", "run", *SMALL]) == 0
    assert f"weights from {zoo / 'cgcnn-bulk'}: " in capsys.readouterr().out
    assert json.loads(Path("run/config.json").read_text())["init_from"] == "cgcnn-bulk"


def test_learn_from_a_teacher_by_name(zoo, capsys):
    head = ["--head", "distilled", "--head.teacher", "cgcnn-bulk"]
    assert main(["train", *head, "--output_dir", "run", *SMALL]) == 0
    assert "teacher cgcnn-bulk: 8 features per atom" in capsys.readouterr().out
    assert crysmm.load("run").predict(SAMPLE_DATA / "mp-149.vasp").shape == (1,)


@pytest.mark.parametrize("option", ["--init_from", "--head.teacher"])
def test_an_unknown_name_stops_a_training(zoo, option, capsys):
    head = ["--head", "distilled"] if option == "--head.teacher" else []
    assert main(["train", *head, option, "cgcnn-balk", "--output_dir", "run", *SMALL]) == 2
    assert "the name of a shipped model (crysmm zoo lists them)" in capsys.readouterr().err
    assert not Path("run/metrics.json").exists()
