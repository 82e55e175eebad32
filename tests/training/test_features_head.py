"""Runs without a graph network: a Gaussian process on a potential's features."""

import json

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.preprocessing import StandardScaler

import crysmm
from crysmm.cli.main import main
from crysmm.comparison.arms import parse_arms
from crysmm.config import TrainingConfig
from crysmm.config.loading import make_config as make_checked
from crysmm.data.store import build_store
from crysmm.errors import InputError, ModelFolderError
from crysmm.explain.explanation import refuse_other_input
from crysmm.inference.saved_models import load_model
from crysmm.io.inputs import open_input
from crysmm.training.train import train

HEAD = {"name": "features", "embeddings": "toy"}


@pytest.fixture
def made(make_config, toy):
    """A run on the sample data."""
    return train(make_config(head=HEAD))


@pytest.fixture
def store(make_config):
    config = make_config()
    return build_store(open_input(config, None), config.graph_settings(), cache_dir=config.cache_dir, jobs=1)


def test_a_run_predicts_as_scikit_learn_does(made, toy, store):
    """From the same kernel; pooling, scaling, missing graph and folder included."""
    ids = json.loads((made.folder / "ids_train_val_test.json").read_text())
    rows = {split: [store.ids.index(name) for name in ids[f"id_{split}"]] for split in ("train", "test")}
    means = {split: np.array([toy.of_one(store.crystal(row)).mean(0) for row in rows[split]]) for split in rows}
    head = load_model(made.folder).network.head
    assert len(head.kept) == len(rows["train"])

    scaler, targets = StandardScaler().fit(means["train"]), store.targets[rows["train"]]
    kernel = gaussian_process_of(scaler.transform(means["train"]), (targets - targets.mean()) / targets.std())
    expected = kernel.predict(scaler.transform(means["test"])) * targets.std() + targets.mean()
    predictor = crysmm.load(made.folder)
    found = predictor.predict([store.crystal(row) for row in rows["test"]])
    assert found[:, 0] == pytest.approx(expected, abs=0.02 * targets.std())
    table = (made.folder / "prediction_results_test_set.csv").read_text().splitlines()
    written = {line.split(",")[0]: float(line.split(",")[2]) for line in table[1:]}
    assert [written[name] for name in ids["id_test"]] == pytest.approx(found[:, 0].tolist(), rel=1e-6)


def gaussian_process_of(inputs, targets):
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1, (1e-3, 1e3)) * Matern(3.0, (0.03, 300), nu=1.5) + WhiteKernel(0.1, (1e-4, 10))
    return GaussianProcessRegressor(kernel).fit(inputs, targets[:, 0])


def test_a_run_folder_is_as_of_any_run(made, crystals):
    assert made.metrics["test"]["n"] == 7
    assert "best_epoch" not in made.metrics
    files = {path.name for path in made.folder.iterdir()}
    assert {"metrics.json", "report.html", "README.md", "model.safetensors", "calibration.safetensors"} <= files
    assert "history.csv" not in files
    assert "gaussian-process, features that predicts" in (made.folder / "README.md").read_text()
    assert "no graph network" in (made.folder / "README.md").read_text()
    assert "Learning curves" not in (made.folder / "report.html").read_text()
    assessment = crysmm.load(made.folder).assess([crystals["Cu"], crystals["NaCl"]], coverage=0.5)
    assert (assessment.lower < assessment.predictions).all()
    assert "are not used" in (made.folder / "train.log").read_text()


def test_it_is_a_model_without_a_graph_network(made, make_config, tmp_path):
    with pytest.raises(InputError, match="reads features by toy:5, and their contribution"):
        refuse_other_input(load_model(made.folder))
    head = {"name": "distilled", "teacher": str(made.folder)}
    with pytest.raises(ModelFolderError, match="has no graph network"):
        train(make_config(output_dir=tmp_path / "student", head=head))


def test_several_targets_of_which_some_are_missing(make_config, toy, tmp_path):
    rows = [json.loads(line) for line in SEVERAL.splitlines()]
    made = train(make_config(root_dir=None, limit=None, n_val=2, n_test=2, head=HEAD, target_key="a,b"), records=rows)
    assert set(made.metrics["test"]["per_target"]) == {"a", "b"}


def lattice(size, element, **targets):
    cell = (size * np.eye(3)).tolist()
    row = {"id": f"{element}{size}", "lattice_mat": cell, "elements": [element], "frac_coords": [[0, 0, 0]]}
    return json.dumps(row | targets)


SEVERAL = "\n".join(
    lattice(2.5 + number / 20, element, a=number, **({} if number % 3 else {"b": -number}))
    for number, element in enumerate(["Cu", "Fe", "Al", "Ag"] * 3)
)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"classification_threshold": 1.0}, "classification_threshold"),
        ({"model": {"name": "cgcnn", "link": "log"}}, "model.link"),
        ({"ensemble": 2}, "ensemble"),
        ({"init_from": "decoys-mp"}, "init_from"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, key):
    with pytest.raises(InputError, match=f"--{key}: cannot be used with --head features"):
        make_checked(TrainingConfig, {"head": HEAD, **changes})


def test_a_damaged_description_is_refused(made):
    path = made.folder / "model.json"
    content = json.loads(path.read_text())
    for changes, message in (
        ({"n_kept": 10**9}, "less than or equal to 3000"),
        ({"n_kept": None}, "expected for the head"),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(ModelFolderError, match=message):
            crysmm.load(made.folder)
    path.write_text(json.dumps(content | {"n_kept": 2}))
    with pytest.raises(ModelFolderError, match=r"head\.kept is 17 x 5, expected 2 x 5"):
        crysmm.load(made.folder)


def test_it_is_an_arm_of_a_comparison(make_config, toy, tmp_path):
    (arm,) = parse_arms(["features:head.embeddings=sevennet-0"])
    assert arm.settings["head"] == {"name": "features", "embeddings": "sevennet-0"}
    config = make_config()
    words = ["--root_dir", config.root_dir, "--limit", 30, "--cache_dir", config.cache_dir, "--jobs", 1, "--seeds", 1]
    words += ["--output_dir", tmp_path / "compared", "--epochs", 1, "--n_val", 6, "--n_test", 7]
    assert main(["compare", *map(str, words), "--arms", "constant", "features:head.embeddings=toy"]) == 0
    assert (tmp_path / "compared" / "features" / "seed_123" / "metrics.json").is_file()
