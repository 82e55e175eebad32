"""Gaussian processes against scikit-learn's own predictions, and the regression that keeps a sample of the crystals."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.preprocessing import StandardScaler

from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.models import gaussian_process
from crysmm.models.backbone import Embedding
from crysmm.models.gaussian_process import GaussianProcessHead, PooledFeatures, solve
from crysmm.testing import GraphSettings


@pytest.fixture(scope="module")
def table():
    """Features and two standardized targets of 150 people: disease progression, and age, which some lack."""
    features, progression = load_diabetes(return_X_y=True)
    age, features = features[:150, 0], features[:150, 1:]
    targets = StandardScaler().fit_transform(np.c_[progression[:150], age])
    targets[::3, 1] = np.nan
    return features, targets


def predict(head, features):
    crystals = torch.from_numpy(features)
    return head.double()(Embedding(crystals, crystals), None).numpy()


def test_predictions_are_those_of_scikit_learn(table):
    """Of each target on its own, from the labels that are there."""
    features, targets = table
    head = GaussianProcessHead(9, 120, 2)
    head.fit(features[:120], targets[:120], seed=1)
    scaled = StandardScaler().fit(features[:120]).transform(features)
    found = predict(head, features[120:])
    for target in range(2):
        labeled = np.flatnonzero(~np.isnan(targets[:120, target]))
        kernel = ConstantKernel() * Matern(4.0, nu=1.5) + WhiteKernel(0.1, (1e-4, 10.0))
        regressor = GaussianProcessRegressor(kernel).fit(scaled[labeled], targets[labeled, target])
        assert found[:, target] == pytest.approx(regressor.predict(scaled[120:]), abs=2e-3)
    assert not np.isnan(found).any()
    assert np.ptp(found[:, 0]) > 0.5


def test_a_network_in_float32_predicts_as_precisely():
    """Where noise is weak, the weights are 10,000 times the targets and nearly cancel."""
    random = np.random.default_rng(0)
    features = random.normal(size=(350, 20)) @ random.normal(size=(20, 128))
    targets = StandardScaler().fit_transform((np.sin(features[:, 0] / 30) + features[:, 1] / 20)[:, None])
    head = GaussianProcessHead(128, 300, 1)
    head.fit(features[:300], targets[:300], seed=1)
    crystals = torch.from_numpy(features[300:]).float()
    found = head.float()(Embedding(crystals, crystals), None).numpy()
    assert head.weights.abs().max() > 1e4
    assert np.abs(found - targets[300:]).mean() < 0.006


def test_a_sample_of_the_crystals_carries_all_labels(table, monkeypatch):
    """Equation 8.14 of Rasmussen and Williams, some crystals at a time; with all crystals, the exact process."""
    monkeypatch.setattr(gaussian_process, "ROWS_AT_ONCE", 40)
    features, targets = StandardScaler().fit_transform(table[0]), table[1][:, 0]
    kernel, noise = Matern(3.0, nu=1.5), 0.2

    def weights(kept):
        inputs = torch.from_numpy(features), torch.from_numpy(targets), torch.from_numpy(features[kept])
        return solve(*inputs, 3.0, noise).numpy()

    kept = np.arange(0, 150, 5)
    between, own = kernel(features[kept], features), kernel(features[kept])
    expected = np.linalg.solve(noise * own + between @ between.T, between @ targets)
    assert weights(kept) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    exact = np.linalg.solve(kernel(features) + noise * np.eye(150), targets)
    assert weights(np.arange(150)) == pytest.approx(exact, rel=1e-4, abs=1e-5)


def test_equal_crystals_are_no_obstacle(table):
    features, targets = (np.repeat(array[:20], 3, axis=0) for array in table)
    head = GaussianProcessHead(9, 60, 1)
    head.fit(features, targets[:, :1], seed=1)
    assert np.isfinite(predict(head, features)).all()


def test_a_prediction_does_not_depend_on_the_others(table):
    features, targets = table
    head = GaussianProcessHead(9, 120, 1)
    head.fit(features[:120], targets[:120, :1], seed=1)
    together = predict(head, features)
    alone = np.concatenate([predict(head, features[row : row + 1]) for row in range(0, 150, 30)])
    assert together[::30] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("merge", [False, True])
def test_the_embedding_of_a_crystal_is_the_mean_of_its_features(crystals, merge):
    pair: list[Crystal] = [crystals["Cu"], crystals["SiO2"]]
    batch = collate_crystals(pair, GraphSettings(), merge=merge)
    features = torch.arange(30.0).reshape(10, 3)
    nodes, graph = PooledFeatures(3)(batch, features)
    assert torch.equal(nodes, features)
    assert torch.allclose(graph, torch.stack([features[0], features[1:].mean(0)]))
