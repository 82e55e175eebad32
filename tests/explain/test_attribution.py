"""Contributions of atoms and features: what they add up to, and what they are where that is known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import spglib
import torch

from crysmm.config import GraphSettings
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.errors import MissingDependencyError
from crysmm.explain import attribution as atoms
from crysmm.explain.attribution import Explainer
from crysmm.explain.tables import BatchTables, Totals
from crysmm.inference.frozen_network import Inference
from crysmm.inference.saved_models import load_model
from crysmm.io.structure_file import read_structure
from crysmm.models.backbone import crystal_mean

SILICON = Path(__file__).parents[2] / "examples" / "sample_data" / "mp-149.vasp"
FORMULAS = ["SiO2", "Cu", "NaCl", "TiO2"]


@pytest.fixture
def batch(crystals):
    return collate_crystals([crystals[name] for name in FORMULAS], GraphSettings(), ids=FORMULAS)


class Linear(torch.nn.Module):
    """The mean over the atoms of a linear function of their features: every contribution is known."""

    def __init__(self, weights, bias):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.as_tensor(weights))
        self.bias = bias

    def forward(self, batch):
        return crystal_mean(batch.atom_features @ self.weights[:, None], batch.n_atoms) + self.bias


@pytest.mark.parametrize("transform", ["none", "log10"])
def test_a_linear_model_is_taken_apart_exactly(batch, transform):
    weights = np.linspace(-0.3, 0.4, 92)
    scaler = TargetScaler(n_targets=1, transform=transform, mean=(1.5,), std=(2.0,))
    found = Explainer(Linear(weights, 0.1), scaler, 0).contributions(batch)
    n_atoms = batch.n_atoms.repeat_interleave(batch.n_atoms).numpy()[:, None]
    expected = 2.0 * batch.atom_features.numpy() * weights / n_atoms
    baseline = 1.5 + 2.0 * 0.1
    if transform == "none":
        np.testing.assert_allclose(found.features, expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(found.baselines, baseline)
    else:  # the path of 10**x shares a crystal's change out in proportion to the linear contributions
        crystal = np.repeat(np.arange(4), batch.n_atoms.numpy())
        change = np.bincount(crystal, weights=expected.sum(1))
        slope = (10 ** (baseline + change) - 10**baseline) / change
        np.testing.assert_allclose(found.features, expected * slope[crystal][:, None], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"target_transform": "log10"}, {"classification_threshold": 100.0}])
@pytest.mark.parametrize("name", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_contributions_and_baseline_add_up_to_the_prediction(name, settings, save_small_model, tmp_path, batch):
    save_small_model(tmp_path, name, **settings)
    model = load_model(tmp_path)
    found = Explainer(model.network, model.scaler, model.scaler.n_outputs - 1).contributions(batch)
    predicted = Inference(model.network, model.scaler).outputs(batch).predictions[:, -1]
    np.testing.assert_allclose(found.predictions, predicted, rtol=1e-12)
    crystal = np.repeat(np.arange(4), batch.n_atoms.numpy())
    sums = np.bincount(crystal, weights=found.features.sum(1))
    np.testing.assert_allclose(found.predictions - found.baselines - sums, found.residuals, atol=1e-10)
    largest = np.abs(found.predictions - found.baselines).max()
    assert largest > 0
    assert np.abs(found.residuals).max() <= 1e-4 * largest
    assert (found.features[batch.atom_features.numpy() == 0] == 0).all()


def test_equal_atoms_contribute_equally_and_the_batch_does_not_matter(save_small_model, tmp_path, batch, crystals):
    save_small_model(tmp_path)
    model = load_model(tmp_path)
    explainer = Explainer(model.network, model.scaler, 0)
    together = explainer.contributions(batch).features.sum(1)
    silicon, oxygen = together[:3], together[3:9]
    assert np.ptp(silicon) <= 1e-5 * np.abs(silicon).max()
    assert np.ptp(oxygen) <= 1e-5 * np.abs(oxygen).max()
    assert abs(silicon.mean() - oxygen.mean()) > 1e-3 * np.abs(silicon).max()
    alone = explainer.contributions(collate_crystals([crystals["SiO2"]], GraphSettings()))
    np.testing.assert_allclose(alone.features.sum(1), together[:9], rtol=1e-4)


@pytest.mark.parametrize(("strategy", "equal"), [("k-nearest", True), ("cgcnn", False)])
def test_equal_atoms_contribute_equally_where_no_shell_is_cut(strategy, equal, save_small_model, tmp_path):
    """All atoms of silicon are one orbit; of its second shell, twelve at 3.87 Angstrom, ``cgcnn`` takes eight."""
    silicon = read_structure(SILICON)
    symmetry = spglib.get_symmetry_dataset((silicon.lattice, silicon.frac_coords, silicon.atomic_numbers))
    assert symmetry.equivalent_atoms.tolist() == [0] * 8
    save_small_model(tmp_path, neighbor_strategy=strategy)
    model = load_model(tmp_path)
    batch = collate_crystals([silicon], model.settings)
    of_atoms = Explainer(model.network, model.scaler, 0).contributions(batch).features.sum(1)
    spread = np.ptp(of_atoms) / np.abs(of_atoms).max()
    assert spread < 1e-6 if equal else spread > 0.1


@pytest.mark.parametrize("name", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_equivalent_atoms_computed_once_contribute_the_same(name, save_small_model, tmp_path, crystals):
    save_small_model(tmp_path, name, neighbor_strategy="k-nearest")
    model = load_model(tmp_path)
    every, merged = (
        collate_crystals([crystals[name] for name in FORMULAS], model.settings, merge=merge) for merge in (False, True)
    )
    assert len(merged.merged.representatives) < len(every.atomic_numbers)
    explainer = Explainer(model.network, model.scaler, 0)
    expected, found = explainer.contributions(every), explainer.contributions(merged)
    scale = np.abs(expected.features).max()
    np.testing.assert_allclose(found.features, expected.features, atol=1e-5 * scale)
    np.testing.assert_allclose(found.baselines, expected.baselines, atol=1e-5 * scale)
    assert np.abs(found.residuals).max() <= 1e-4 * np.abs(found.predictions - found.baselines).max()


def test_removing_features_is_zeroing_them(save_small_model, tmp_path, batch):
    from dataclasses import replace

    save_small_model(tmp_path)
    model = load_model(tmp_path)
    explainer = Explainer(model.network, model.scaler, 0)
    features = batch.atom_features.clone()
    features[:, [1, 79]] = 0
    expected = explainer.predict(replace(batch, atom_features=features))
    found = explainer.predict(batch, np.array([79, 1]))
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - explainer.predict(batch)).max() > 0


def test_sums_by_element_and_feature(batch):
    """Against loops over the atoms."""
    features = np.random.default_rng(0).normal(size=(len(batch.atomic_numbers), 92))
    found = SimpleNamespace(
        features=features, predictions=np.zeros(4), baselines=np.full(4, 2.0), residuals=np.array([0, -0.5, 0.1, 0])
    )
    tables = BatchTables.of(batch, found)
    by_feature, by_element = np.zeros((4, 92)), {}
    crystal = np.repeat(np.arange(4), batch.n_atoms.numpy())
    for atom, (index, number) in enumerate(zip(crystal.tolist(), batch.atomic_numbers.tolist(), strict=True)):
        by_feature[index] += features[atom]
        count, total = by_element.get((index, number), (0, 0.0))
        by_element[index, number] = (count + 1, total + features[atom].sum())
    np.testing.assert_allclose(tables.features, by_feature)
    keys = zip(tables.element_crystals.tolist(), tables.element_numbers.tolist(), strict=True)
    values = zip(tables.element_atoms.tolist(), tables.element_contributions.tolist(), strict=True)
    assert dict(zip(keys, values, strict=True)) == {key: pytest.approx(value) for key, value in by_element.items()}
    totals = Totals(92)
    totals.add(found, tables)
    totals.add(found, tables)
    assert (totals.n_crystals, totals.n_atoms) == (8, 2 * len(features))
    np.testing.assert_allclose(totals.feature_sizes, 2 * np.abs(by_feature).sum(0))
    oxygen = [value for (_, number), value in by_element.items() if number == 8]
    assert totals.element_crystals[8] == 4
    assert totals.element_atoms[8] == 2 * sum(count for count, _ in oxygen) == 20
    assert totals.element_sums[8] == pytest.approx(2 * sum(total for _, total in oxygen))
    assert (totals.largest_residual, totals.largest_change) == (0.5, 2.0)


def test_without_captum(monkeypatch):
    def missing(name):
        raise ImportError("No module named 'captum'")

    monkeypatch.setattr(atoms, "import_module", missing)
    with pytest.raises(MissingDependencyError, match='pip install "captum'):
        Explainer(Linear(np.ones(92), 0.0), TargetScaler(n_targets=1), 0)
