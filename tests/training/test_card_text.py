"""The card that is written with every model says what the run's own files say, and leaves a user's README.md alone."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from crysmm.cli.main import main
from crysmm.config import PretrainingConfig
from crysmm.config.models import CGCNNConfig, FeaturesConfig
from crysmm.data.units import number
from crysmm.inference.model_card import MARK, read_card
from crysmm.training.pretrain import pretrain
from crysmm.training.train import train


@pytest.fixture(scope="module")
def run(make_settings, tmp_path_factory):
    """The folder of a finished run, and its settings."""
    config = make_settings(tmp_path_factory.mktemp("card") / "moduli", n_val=10)
    return train(config).folder, config


def results(folder, split):
    with (folder / f"prediction_results_{split}_set.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_figures_are_those_of_the_tables(run):
    folder, _ = run
    figures = read_card(folder).sections["Held-out metrics"].splitlines()
    for line, split in zip(figures, ("test", "val"), strict=False):
        rows = results(folder, split)
        errors = [abs(float(row["target"]) - float(row["prediction"])) for row in rows]
        error, scatter = np.mean(errors), scipy.stats.sem(errors)
        assert line.startswith(f"- {split} MAE {number(error)} ± {number(scatter)} GPa (standard error), RMSE ")
        assert f" on {len(rows)} crystals" in line
    rows = results(folder, "test")
    held = np.mean([float(row["lower"]) <= float(row["target"]) <= float(row["upper"]) for row in rows])
    assert f"- 90% intervals: hold {held:.1%} of the test targets" in figures[2]


def test_says_what_a_reader_asks(run):
    folder, config = run
    card = read_card(folder)
    assert card.name == "moduli"
    assert card.summary == "cgcnn that predicts K_VRH, trained on 13 crystals."
    split = json.loads((folder / "ids_train_val_test.json").read_text())
    formulas = {row["id"]: (config.root_dir / f"{row['id']}.vasp").read_text() for row in results(folder, "train")}
    elements = {symbol for name in split["id_train"] for symbol in formulas[name].splitlines()[5].split()}
    assert "13 for training, 10 for validation, 7 left out of both (split: random, seed 123)" in card.sections["Data"]
    (listed,) = [
        line for line in card.sections["Data"].splitlines() if line.startswith(f"The {len(elements)} elements")
    ]
    assert set(listed.rstrip(".").partition(": ")[2].split(", ")) == elements
    assert f"not seen: {len(elements)}" not in card.sections["Limits"]
    assert "conv_layers 1, node_features 8, fc_features 8" in card.sections["Model"]
    assert "License: not chosen" in card.sections["License and citation"]
    assert "10.1103/PhysRevLett.120.145301" in card.sections["License and citation"]
    assert "crysmm 0.1.0, torch" in card.sections["Command"]
    assert str(folder.parent) not in card.text()


def test_command_makes_the_same_predictions(run, tmp_path, monkeypatch):
    folder, config = run
    command = read_card(folder).sections["Command"].splitlines()[1]
    words = shlex.split(command)
    assert words[:4] == ["crysmm", "train", "--root_dir", "sample_data"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample_data").symlink_to(config.root_dir)
    machine = ["--device", "cpu", "--cache_dir", str(config.cache_dir), "--progress", "false"]
    assert main([*words[1:], *machine]) == 0
    assert results(tmp_path / "runs" / "moduli", "test") == results(folder, "test")


def test_lines_of_use_are_python_that_works(run, monkeypatch, capsys):
    folder, config = run
    block = read_card(folder).sections["Use"].split("```")[1].removeprefix("python\n")
    assert len(block.splitlines()) == 4
    monkeypatch.chdir(folder.parent)
    exec(block.replace("POSCAR", str(config.root_dir / "mp-149.vasp")), {})
    assert float(capsys.readouterr().out.strip("[]\n")) > 0


def test_a_readme_of_the_users_is_left_alone(make_config, capsys):
    config = make_config(epochs=1)
    config.output_dir.mkdir()
    (config.output_dir / "README.md").write_text("# Mine\n")
    train(config)
    train(config.model_copy(update={"overwrite": True}))
    assert (config.output_dir / "README.md").read_text() == "# Mine\n"
    assert "README.md is not a card that crysmm has written, and is left as it is" in capsys.readouterr().out


def test_a_run_that_is_replaced_takes_its_card_along(make_config):
    folder = train(make_config(epochs=1)).folder
    before = (folder / "README.md").read_text()
    train(make_config(epochs=2, overwrite=True))
    assert "best epoch 1 of 1" in before
    assert "of 2." in read_card(folder).sections["Command"]
    assert (folder / "README.md").read_text().endswith(MARK + "\n")


def test_classes_and_ensemble(make_config):
    config = make_config(classification_threshold=100, ensemble=2, epochs=1, limit=60)
    result = train(config)
    card = read_card(result.folder)
    assert (
        card.summary
        == "2 networks (cgcnn) that predict the class of K_VRH (1 above 100, else 0), trained on 47 crystals."
    )
    right = [row["target"] == row["prediction"] for row in results(result.folder, "test")]
    accuracy, scatter = number(np.mean(right)), number(scipy.stats.sem(np.array(right, dtype=float)))
    assert card.figure.startswith(f"test accuracy {accuracy} ± {scatter} (standard error), ROC-AUC ")
    assert "--ensemble 2" in card.sections["Command"]
    assert read_card(result.folder / "member_2").summary.startswith("cgcnn that predicts the class")


@pytest.mark.parametrize(
    "key", ["gap</p><script>alert(1)</script>", "gap\n## Limits\nnone", "`gap`", "[gap](http://x)"]
)
def test_names_of_the_data_are_text(key, make_config, crystals):
    """Nothing of a target's name is read as HTML, a heading, code or a link; another card is read back whole."""
    atoms = crystals["Si"].to_jarvis().to_dict()
    records = [{"jid": str(row), "atoms": atoms, key: row * 1.0} for row in range(20)]
    result = train(make_config(root_dir=None, target_key=key, epochs=1), records)
    text = (result.folder / "README.md").read_text()
    for outside in text.split("```")[::2]:
        assert not any(
            mark in outside.replace(MARK, "") for mark in ("<script", "](http", "\n## Limits\nnone", "`gap`")
        )
    assert list(read_card(result.folder).sections).count("Limits") == text.count("\n## Limits\n") == 1


def test_encoder(make_settings, tmp_path):
    settings = make_settings(tmp_path / "encoder").model_dump(include=PretrainingConfig.model_fields.keys())
    folder = pretrain(PretrainingConfig(**settings | {"n_test": 0, "epochs": 1})).folder
    card = read_card(folder)
    assert card.summary == "encoder cgcnn, which predicts no property, pre-trained by decoys on 24 crystals."
    quality = json.loads((folder / "metrics.json").read_text())["quality"]
    assert f"decoy accuracy {number(quality['decoy_accuracy'])} on" in card.sections["Held-out metrics"]
    assert "--model.conv_layers 1" in card.sections["Use"]
    assert "--init_from encoder" in card.sections["Use"]


def test_the_papers_of_the_models_behind_are_cited(make_config, tmp_path):
    """Papers of the model that training starts from, and of the potential whose features are in a file."""
    config = make_config(epochs=1)
    started = config.model_copy(update={"model": CGCNNConfig(), "init_from": Path("crysgnn-mp")})
    assert "CrysGNN" in read_card(train(started).folder).sections["License and citation"]
    features = tmp_path / "embeddings.parquet"
    words = ["--model", "imitation-jarvis", "--root_dir", str(config.root_dir), "--output", str(features)]
    main(["embed", *words, "--cache_dir", str(config.cache_dir)])
    alone = config.model_copy(update={"head": FeaturesConfig(embeddings=str(features)), "overwrite": True})
    assert "Graph Neural Network Interatomic" in read_card(train(alone).folder).sections["License and citation"]
