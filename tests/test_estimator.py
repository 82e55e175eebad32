"""The estimator against scikit-learn's own checks, its tools, and ``crysmm.train``."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
from ase.io import write as ase_write
from joblib import parallel_backend
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import crysmm
from crysmm.crystals.crystal import Crystal
from crysmm.data import estimate
from crysmm.errors import InputError, StructureError
from crysmm.estimator import CrystalRegressor

RUN = {
    "check_dict_unchanged", "check_do_not_raise_errors_in_init_or_set_params", "check_estimator_cloneable",
    "check_estimator_repr", "check_estimator_tags_renamed", "check_estimators_partial_fit_n_features",
    "check_estimators_unfitted", "check_fit_check_is_fitted", "check_get_params_invariance", "check_mixin_order",
    "check_n_features_in_after_fitting", "check_no_attributes_set_in_init", "check_non_transformer_estimators_n_iter",
    "check_parameters_default_constructible", "check_regressor_multioutput", "check_set_params",
    "check_supervised_y_no_nan", "check_valid_tag_types",
}  # fmt: skip
PASS_TOO = {
    "check_dont_overwrite_parameters", "check_estimators_dtypes", "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params", "check_estimators_pickle", "check_f_contiguous_array_estimator",
    "check_fit2d_1feature", "check_fit_idempotent", "check_fit_score_takes_y", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_pipeline_consistency", "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input", "check_regressor_data_not_an_array", "check_regressors_int",
    "check_regressors_no_decision_function",
}  # fmt: skip
"""Checks that pass as well, left out here as each of them trains one network or more."""
NOT_FOR_STRUCTURES = {
    "check_estimator_sparse_tag": "there are no sparse structures",
    "check_estimator_sparse_array": "there are no sparse structures",
    "check_estimator_sparse_matrix": "there are no sparse structures",
    "check_array_api_input": "needs arrays",
    "check_fit2d_1sample": "expects another message where one structure cannot be split",
    "check_regressors_train": "expects an accurate fit of random numbers, which takes many epochs",
}


class OfRows(CrystalRegressor):
    """Estimator of rows of numbers, each of which becomes a crystal, as scikit-learn's checks know only such rows."""

    def fit(self, X, y):  # noqa: N803 - scikit-learn's name
        return super().fit(cells(X), y)

    def predict(self, X):  # noqa: N803
        return super().predict(cells(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def cells(rows) -> list[Crystal]:
    elements = np.array([55, 17], dtype=np.uint8)
    lattices = [np.diag(4 + np.tanh(np.resize(row, 3))) for row in np.asarray(rows, dtype=float)]
    return [Crystal(lattice, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), elements) for lattice in lattices]


@pytest.fixture(scope="module")
def structures() -> list[Crystal]:
    return cells(np.random.default_rng(0).normal(size=(16, 3)))


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_s_own_checks() -> None:
    ran = set()
    for estimator, check in estimator_checks_generator(OfRows(epochs=1)):
        name = check.func.__name__
        assert name in RUN | PASS_TOO | NOT_FOR_STRUCTURES.keys(), f"{name} is new; say whether it is for structures"
        if name in RUN:
            check(estimator)
            ran.add(name)
    assert ran == RUN


def test_search_over_a_pipeline(structures) -> None:
    """Every parameter reaches the training; each fold is predicted once, in order."""
    volumes = np.array([abs(np.linalg.det(crystal.lattice)) for crystal in structures])
    pipeline = Pipeline([("model", CrystalRegressor(settings={"model": {"name": "cgcnn", "conv_layers": 1}}))])
    search = GridSearchCV(pipeline, {"model__epochs": [1, 2]}, cv=KFold(2), scoring="neg_mean_absolute_error")
    search.fit(structures, volumes)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_.named_steps["model"]
    assert best.metrics_["epochs"] == search.best_params_["model__epochs"]
    assert best.predictor_.model.config.model.conv_layers == 1
    assert search.predict(structures[:3]).shape == (3,)


def test_the_training_is_that_of_train(structures, tmp_path, capsys) -> None:
    targets = [[float(number), number**2] for number in range(len(structures))]
    estimator = CrystalRegressor("gatgnn", epochs=1, batch_size=8, val_ratio=0.25, random_state=7)
    found = estimator.fit(structures, targets).predict(structures[:4])
    assert capsys.readouterr().out == ""
    rows = zip(structures, targets, strict=True)
    records = [{"id": str(number), "structure": crystal, "y": y} for number, (crystal, y) in enumerate(rows)]
    crysmm.train(
        records=records, output_dir=tmp_path / "run", target_key="y", model="gatgnn", epochs=1, batch_size=8,
        val_ratio=0.25, test_ratio=0, random_seed=7, progress=False, cache_dir=tmp_path / "cache",
    )  # fmt: skip
    np.testing.assert_array_equal(found, crysmm.load(tmp_path / "run").predict(structures[:4]))
    assert found.shape == (4, 2)


def test_a_single_structure_is_predicted(structures) -> None:
    model = CrystalRegressor({"name": "cgcnn", "node_features": 8}, epochs=1).fit(structures, np.arange(16))
    assert model.predict(structures[2]).tolist() == model.predict([structures[2]]).tolist()
    with pytest.raises(StructureError, match=r"structure 0 .*SSS: the file does not exist"):
        model.predict("SSS")


def test_texts_of_files_are_structures(structures) -> None:
    files = [io.StringIO() for _ in structures]
    for file, structure in zip(files, structures, strict=True):
        ase_write(file, structure.to_ase(), format="vasp")
    texts = pd.Series([file.getvalue() for file in files])
    found = CrystalRegressor({"name": "cgcnn", "node_features": 8}, epochs=1).fit(texts, np.arange(16))
    np.testing.assert_allclose(found.predict(texts), found.predict(structures), atol=1e-3)
    with pytest.raises(InputError, match="the structures are a table of DataFrame; give its column"):
        CrystalRegressor().fit(texts.to_frame(), np.arange(16))


def test_what_cannot_be_used_is_named(structures, tmp_path) -> None:
    with pytest.raises(InputError, match="the targets are not numbers"):
        CrystalRegressor().fit(structures[:2], ["a", "b"])
    for ratio in (-1, 1.0):
        with pytest.raises(InputError, match="val_ratio: expected a number between 0 and 1"):
            CrystalRegressor(val_ratio=ratio).fit(structures, np.arange(16))
    with pytest.raises(InputError, match=r"16 structures need as many targets; got an array \(3,\)"):
        CrystalRegressor().fit(structures, [1, 2, 3])
    for number in (np.nan, np.inf):  # as scikit-learn's own estimators do
        with pytest.raises(ValueError, match=rf"target of structure 2 \(counted from 0\) is {number}; expected finite"):
            CrystalRegressor().fit(structures[:3], [1, 2, number])
        with pytest.raises(ValueError, match=rf"structure 1 \(counted from 0\) is \[4.0, {number}\]; expected"):
            CrystalRegressor().fit(structures[:2], [[1, 2], [4, number]])
    with pytest.raises(StructureError, match=r"structure 1 \(counted from 0\): the file does not exist"):
        CrystalRegressor().fit([structures[0], tmp_path / "nowhere.cif"], [1, 2])
    overlapping = {"lattice_mat": 4 * np.eye(3), "frac_coords": [[0, 0, 0], [0.01, 0, 0]], "elements": ["Cu", "Cu"]}
    with pytest.raises(StructureError, match=r"structure 16 \(counted from 0\): atoms .* apart"):
        CrystalRegressor().fit([*structures, overlapping], np.arange(17))
    with pytest.raises(InputError, match="predicts numbers"):
        CrystalRegressor(settings={"classification_threshold": 0.5}).fit(structures, np.arange(16))
    with pytest.raises(InputError, match="epohs: unknown setting; did you mean epochs"):
        CrystalRegressor(settings={"epohs": 3}).fit(structures, np.ones(16))


def test_a_structure_too_large_to_train_on_is_named(structures, monkeypatch) -> None:
    monkeypatch.setattr("crysmm.training.prepare.memory_limit", lambda device: estimate.PROCESS_MEMORY + 100_000)
    places = np.c_[np.arange(10) / 10 + np.arange(10) ** 2 / 2000, np.zeros((10, 2))]  # no two equivalent
    big = Crystal(np.diag([40.0, 4, 4]), places, np.full(10, 29, dtype=np.uint8))
    with pytest.raises(StructureError, match=r"^structure 3 \(counted from 0\): too large: 10 atoms"):
        CrystalRegressor({"name": "cgcnn", "node_features": 8}).fit([*structures[:3], big], np.arange(4))


def test_fits_in_threads_leave_the_screen_as_it_is(structures, capsys) -> None:
    screen = sys.stdout
    model = CrystalRegressor({"name": "cgcnn", "node_features": 8}, epochs=1)
    with parallel_backend("threading", n_jobs=3):
        cross_val_score(model, structures, np.arange(16.0), cv=3, scoring="neg_mean_absolute_error")
    assert sys.stdout is screen
    assert capsys.readouterr().out == ""
