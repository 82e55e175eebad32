"""What runs keep of their validation split, and what their models say with it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize

import crysmm
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, ModelFolderError
from crysmm.io.structure_file import read_structure
from crysmm.training.train import train

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_settings):
    """A run with enough validation crystals for intervals of 90%."""
    return train(make_settings(tmp_path_factory.mktemp("trust") / "run", limit=60, n_val=20, n_test=15, epochs=8))


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def structures(rows):
    return [SAMPLE_DATA / f"{row['id'].removesuffix('.vasp')}.vasp" for row in rows]


def fitted(error, *known):
    """Return a function to expected errors, fitted without gradients from the formula in the documentation."""
    lowest, deviation = np.quantile(known[2], 0.01), known[2].std()

    def logarithms(far, n_atoms, prediction):
        sizes = np.clip(n_atoms, known[1].min(), known[1].max())
        height = np.maximum(prediction - lowest, 0) / deviation
        return np.log(far + 0.01), np.log(sizes), np.log(height + 0.01)

    def log_expected(parameters, *crystals):
        products = zip(parameters[1:], logarithms(*crystals), strict=True)
        return parameters[0] + sum(exponent * values for exponent, values in products)

    def loss(parameters):
        expected = log_expected(parameters, *known)
        pairs = zip(parameters[1:], logarithms(*known), strict=True)
        prior = 5 * sum((exponent * values.std()) ** 2 for exponent, values in pairs)
        return (expected + error * np.exp(-expected)).sum() + prior

    best = np.array([np.log(error.mean()), 0.0, 0.0, 0.0])
    for _ in range(3):  # the simplex may get stuck
        options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
        best = minimize(loss, best, method="Nelder-Mead", options=options).x
    return lambda *crystals: np.exp(log_expected(best, *crystals))


def test_intervals_are_the_conformal_ones(run):
    """Computed again from the tables of predictions and the embeddings: the 19th of 20 ratios to expected errors."""
    predictor = crysmm.load(run.folder, device="cpu")
    rows = {split: table(run.folder / f"prediction_results_{split}_set.csv") for split in ("train", "val", "test")}
    embeddings = {split: predictor.embed(structures(rows[split])) for split in rows}

    def distances(points, nearest):
        apart = np.linalg.norm(points[:, None] - embeddings["train"][None], axis=2)
        return np.sort(apart, axis=1)[:, nearest].mean(axis=1)

    usual = np.median(distances(embeddings["train"], slice(1, 6)))
    far = {split: distances(embeddings[split], slice(0, 5)) for split in ("val", "test")}
    n_atoms = {split: np.array([len(read_structure(file)) for file in structures(rows[split])]) for split in far}
    known = {split: (far[split] / usual, n_atoms[split], column(rows[split], "prediction")) for split in far}
    error = np.abs(column(rows["val"], "target") - column(rows["val"], "prediction"))
    ratios = np.empty(20)
    for fold in range(5):
        own = np.arange(20) % 5 == fold
        expected = fitted(error[~own], *(values[~own] for values in known["val"]))
        ratios[own] = error[own] / expected(*(values[own] for values in known["val"]))
    radius = np.sort(ratios)[18] * fitted(error, *known["val"])(*known["test"])
    prediction = column(rows["test"], "prediction")
    lower, upper = np.maximum(prediction - radius, 0), prediction + radius  # no modulus is negative
    np.testing.assert_allclose(column(rows["test"], "lower"), lower, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(column(rows["test"], "upper"), upper, rtol=1e-3)
    nearer = 100 * (far["val"][None] < far["test"][:, None]).mean(axis=1)
    np.testing.assert_allclose(column(rows["test"], "distance_percentile"), nearer)

    inside = np.abs(column(rows["test"], "target") - prediction) <= radius
    found = run.metrics["test"]["intervals"]
    assert (found["asked"], found["n_validation"]) == (0.9, 20)
    assert found["covered"] == pytest.approx(inside.mean())
    assert found["covered_between"][0] < inside.mean() < found["covered_between"][1]
    assert found["median_width"] == pytest.approx(np.median(upper - lower), rel=1e-3)
    assert found["lowest"] == 0
    assert f"90% intervals: hold {inside.mean():.1%} of the test targets" in (run.folder / "train.log").read_text()


def test_only_the_test_split_has_intervals(run):
    for split in ("train", "val"):
        assert list(table(run.folder / f"prediction_results_{split}_set.csv")[0]) == [
            "id",
            "target",
            "prediction",
            "unit",
        ]


def test_predictor_says_what_the_run_said(run, tmp_path):
    predictor = crysmm.load(run.folder, device="cpu")
    rows = table(run.folder / "prediction_results_test_set.csv")
    files = structures(rows)
    assessment = predictor.assess(files)
    np.testing.assert_array_equal(assessment.predictions, predictor.predict(files))
    for name in ("lower", "upper"):
        np.testing.assert_allclose(getattr(assessment, name)[:, 0], column(rows, name), rtol=1e-5)
    np.testing.assert_allclose(assessment.distance_percentile, column(rows, "distance_percentile"))
    assert assessment.domain == [row["domain"] for row in rows]
    half = predictor.assess(files, coverage=0.5)
    assert (half.upper - half.lower < assessment.upper - assessment.lower).all()
    certain = predictor.assess(files[0], coverage=0.99)  # 20 crystals cannot say
    assert (certain.lower, certain.upper) == (0, np.inf)
    for coverage in (0, 1, 1.5):
        with pytest.raises(InputError, match="expected a number between 0 and 1"):
            predictor.assess(files, coverage=coverage)


def test_nearest_training_crystals_are_named(run):
    """By embeddings compared here with those of all training crystals; each of these is its own nearest."""
    predictor = crysmm.load(run.folder, device="cpu")
    training, test = (table(run.folder / f"prediction_results_{split}_set.csv") for split in ("train", "test"))
    embeddings = predictor.embed(structures(training))
    for row, neighbors in zip(test, predictor.assess(structures(test)).nearest, strict=True):
        apart = np.linalg.norm(embeddings - predictor.embed(structures([row])), axis=1)
        nearest = np.argsort(apart)[:5]
        assert [neighbor.crystal.id for neighbor in neighbors] == [training[place]["id"] for place in nearest]
        targets = [(float(training[place]["target"]),) for place in nearest]
        assert [neighbor.crystal.targets for neighbor in neighbors] == targets
        np.testing.assert_allclose([neighbor.distance for neighbor in neighbors], apart[nearest], rtol=1e-4)
    (itself, *_), *_ = predictor.assess(structures(training[:1])).nearest
    target = float(training[0]["target"])
    assert itself.crystal == (training[0]["id"], read_structure(structures(training[:1])[0]).formula, (target,))
    assert itself.distance < 1e-4


def test_a_calibration_with_a_wrong_list_of_training_crystals_is_refused(run, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(run.folder, folder)
    path = folder / "calibration.safetensors"
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    names = json.loads(tensors.pop("training_crystals").tobytes())
    save_file(tensors, path, metadata)
    with pytest.raises(ModelFolderError, match="it holds "):
        crysmm.load(folder)
    for wrong in (json.dumps(names[1:]), json.dumps([["id"]] * len(names)), "{"):
        changed = tensors | {"training_crystals": np.frombuffer(wrong.encode(), dtype=np.uint8)}
        save_file(changed, path, metadata)
        with pytest.raises(ModelFolderError, match=f"does not name {len(names)} training crystals"):
            crysmm.load(folder)


def test_a_crystal_unlike_all_others_is_flagged(run):
    """Fluorine atoms seven Angstrom apart, one in the cell, beside the validation crystals, which are not flagged."""
    predictor = crysmm.load(run.folder, device="cpu")
    strange = Crystal.from_arrays(10 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), [[0, 0, 0]], ["F"])
    assessment = predictor.assess(strange)
    assert assessment.distance_percentile == [100]
    assert assessment.domain == [
        "F in no training structure; farther from the training structures than all validation structures"
    ]
    usual = predictor.assess(structures(table(run.folder / "prediction_results_val_set.csv")))
    assert (assessment.upper - assessment.lower > np.median(usual.upper - usual.lower)).all()
    assert sum("farther" in note for note in usual.domain) <= 1


def test_table_of_predict(run, tmp_path, capsys):
    from crysmm.cli.main import main

    files = structures(table(run.folder / "prediction_results_test_set.csv"))[:2]
    arguments = ["predict", "--model", str(run.folder), "--device", "cpu", "--output", str(tmp_path / "out.csv")]
    assert main([*arguments, "--files", *map(str, files), str(tmp_path / "missing.cif")]) == 1
    rows = table(tmp_path / "out.csv")
    assert list(rows[0]) == [
        "id",
        "prediction",
        "lower",
        "upper",
        "distance_percentile",
        "domain",
        "unit",
        "reason",
        "note",
    ]
    assessment = crysmm.load(run.folder, device="cpu").assess(files)
    np.testing.assert_allclose(column(rows[:2], "lower"), assessment.lower[:, 0], rtol=1e-9)
    assert [rows[2][name] for name in ("prediction", "lower", "upper", "distance_percentile", "domain")] == [""] * 5
    capsys.readouterr()
    assert main([*arguments, "--files", str(files[0]), "--coverage", "0.99"]) == 0
    assert "intervals of 99% are infinite: they need 99 validation structures, the model had 20" in (
        capsys.readouterr().err
    )
    assert table(tmp_path / "out.csv")[0]["upper"] == "inf"


def test_a_handful_of_validation_crystals_gives_infinite_intervals_and_says_so(make_config, capsys):
    result = train(make_config(epochs=1))  # 6 validation crystals
    assert result.metrics["test"]["intervals"] == {
        "asked": 0.9, "n_validation": 6, "covered": 1.0, "median_width": None, "lowest": 0.0,
        "covered_between": pytest.approx([7 / (7 + 1.96**2), 1.0], rel=1e-3),  # Wilson's formula for 7 of 7
        "reason": "finite intervals need 9 validation crystals",
    }  # fmt: skip
    assert {row["upper"] for row in table(result.folder / "prediction_results_test_set.csv")} == {"inf"}
    assert "90% intervals: infinite; finite intervals need 9 validation crystals, there are 6" in (
        capsys.readouterr().out
    )


def test_logarithms_have_positive_asymmetric_intervals(make_config):
    result = train(make_config(target_transform="log10", n_val=10, epochs=1))
    rows = table(result.folder / "prediction_results_test_set.csv")
    lower, center, upper = (column(rows, name) for name in ("lower", "prediction", "upper"))
    assert (lower > 0).all()
    np.testing.assert_allclose(center / lower, upper / center)


def test_classes_have_distances_and_no_intervals(make_config):
    result = train(make_config(classification_threshold=60.0, epochs=1))
    (row, *_) = table(result.folder / "prediction_results_test_set.csv")
    names = ["id", "target", "prediction", "probability_0", "probability_1", "distance_percentile", "domain"]
    assert list(row) == names
    assert "intervals" not in result.metrics["test"]
    assessment = crysmm.load(result.folder, device="cpu").assess(structures([row]))
    assert assessment.lower is None
    assert assessment.distance_percentile == [float(row["distance_percentile"])]


def test_a_folder_without_calibration_predicts(run, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(run.folder / name, old)
    files = structures(table(run.folder / "prediction_results_test_set.csv"))
    assessment = crysmm.load(old, device="cpu").assess(files)
    np.testing.assert_array_equal(assessment.predictions, crysmm.load(run.folder, device="cpu").predict(files))
    assert assessment.lower is None is assessment.distance_percentile
    assert any("in no training structure" in note for note in assessment.domain)


def test_a_calibration_of_another_model_or_a_damaged_one_is_refused(run, make_config, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(run.folder, folder)
    other = train(make_config(epochs=1)).folder / "calibration.safetensors"
    shutil.copy(other, folder)
    with pytest.raises(ModelFolderError, match="belongs to another model than the weights beside it"):
        crysmm.load(folder)
    content = (run.folder / "calibration.safetensors").read_bytes()
    (folder / "calibration.safetensors").write_bytes(content[:-9])
    with pytest.raises(ModelFolderError, match=r"calibration.safetensors is damaged"):
        crysmm.load(folder)
    with safe_open(run.folder / "calibration.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    tensors = load_file(run.folder / "calibration.safetensors")
    tensors["training_embeddings"][0, 0] = np.nan
    save_file(tensors, folder / "calibration.safetensors", metadata)
    with pytest.raises(ModelFolderError, match=r"calibration.safetensors is damaged: an embedding is not finite"):
        crysmm.load(folder)
    save_file(tensors | {"training_crystals": np.array(0, np.uint8)}, folder / "calibration.safetensors", metadata)
    with pytest.raises(ModelFolderError, match=r"calibration.safetensors is damaged: it holds"):
        crysmm.load(folder)


def test_an_audit_of_data_with_other_targets_is_refused(run, tmp_path, capsys):
    """The same ids, as where a table was given in another unit since."""
    from crysmm.cli.main import main

    shutil.copytree(SAMPLE_DATA, tmp_path / "data")
    rows = [line.split(",") for line in (SAMPLE_DATA / "id_prop.csv").read_text().splitlines()]
    changed = [f"{name},{value if value == 'K_VRH' else float(value) * 1000}" for name, value in rows]
    (tmp_path / "data" / "id_prop.csv").write_text("\n".join(changed) + "\n")
    assert main(["audit", "--model", str(run.folder), "--root_dir", str(tmp_path / "data")]) == 2
    assert "the data are not those of the run" in capsys.readouterr().err


def test_an_audit_of_no_run_is_refused(run, tmp_path, capsys):
    from crysmm.cli.main import main

    shutil.copytree(run.folder, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").unlink()
    assert main(["audit", "--model", str(tmp_path / "copy")]) == 2
    assert "is not the folder of a run of crysmm train: config.json is missing" in capsys.readouterr().err
