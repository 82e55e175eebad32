"""Backbones on merged equivalent atoms, against the same backbones on every atom."""

import copy

import numpy as np
import pytest
import torch

from crysmm.config import GraphSettings
from crysmm.config.models import ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.models.networks import build_backbone
from crysmm.testing import supercell

MODELS = {
    "cgcnn": CGCNNConfig(node_features=8, edge_features=10, conv_layers=2),
    "crysxpp": CrysXPPConfig(node_features=8, edge_features=10, conv_layers=2),
    "gatgnn": GATGNNConfig(node_features=8, heads=2, conv_layers=2),
    "alignn": ALIGNNConfig(hidden_features=8, embedding_features=6, alignn_layers=3, gcn_layers=2),
    "alignn, layer norm": ALIGNNConfig(hidden_features=8, embedding_features=6, alignn_layers=2, norm="layer"),
}
ROUNDED = 1e-6  # symmetry-equivalent bonds differ in the last bit of their float32 vectors


def exact_crystals():
    """Return crystals whose bond vectors are exact in float32, so that equivalent ones are equal to the last bit."""
    perovskite = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    half = [[0.125, 0.3125, 0.0625], [0.4375, 0.25, 0.875], [0.6875, 0.5625, 0.21875]]
    inverted = half + (1 - np.array(half)).tolist()
    return {
        "iron": Crystal.from_arrays(2.875 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], ["Fe", "Fe"]),
        "perovskite": Crystal.from_arrays(4 * np.eye(3), perovskite, ["Sr", "Ti", "O", "O", "O"]),
        "tetragonal": Crystal.from_arrays(np.diag([4.0, 4.0, 4.25]), perovskite, ["Ba", "Ti", "O", "O", "O"]),
        "triclinic": Crystal.from_arrays([[5, 0, 0], [1, 6, 0], [-0.5, 1.25, 7]], inverted, ["Cu", "O", "Cl"] * 2),
        "monoclinic": Crystal.from_arrays([[5, 0, 0.75], [0, 6, 0], [0, 0, 7]], inverted, ["Cu", "O", "Cl"] * 2),
        "one atom": Crystal.from_arrays(3 * np.eye(3), [[0, 0, 0]], ["Po"]),
    }


@pytest.fixture(params=list(MODELS))
def backbone(request):
    torch.manual_seed(3)
    return build_backbone(MODELS[request.param], 92, 8.0).double()


def asymmetric(crystal):
    """Strain the crystal and displace its atoms, so that no two are equivalent."""
    random = np.random.default_rng(4)
    moved = crystal.frac_coords + random.normal(scale=0.003, size=crystal.frac_coords.shape)
    strained = crystal.lattice @ (np.eye(3) + random.normal(scale=0.01, size=(3, 3)))
    return Crystal(strained, moved, crystal.atomic_numbers)


def largest_difference(found, expected):
    return float((found - expected).detach().abs().max()) if found.numel() else 0.0


def compare(backbone, crystals, settings, training, tolerance=1e-10):
    """Compare outputs, gradients and running statistics with and without merging; return both connectivities."""
    results = []
    for merge in (False, True):
        network = copy.deepcopy(backbone).train(training)
        batch = collate_crystals(crystals, settings, merge=merge).double()
        embedding = network(batch)
        weights = torch.linspace(-1, 1, embedding.graph.numel(), dtype=torch.float64).view_as(embedding.graph)
        ((embedding.graph * weights).sum() + (embedding.nodes.cos() * weights[0]).sum()).backward()
        results.append((network, embedding, batch))
    (plain, expected, whole), (merged, found, batch) = results
    assert found.nodes.shape == expected.nodes.shape
    assert largest_difference(found.nodes, expected.nodes) < tolerance
    assert largest_difference(found.graph, expected.graph) < tolerance
    for (name, ours), theirs in zip(merged.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            assert largest_difference(ours.grad, theirs.grad) < tolerance * max(1, float(theirs.grad.abs().max())), name
    for (name, ours), theirs in zip(merged.named_buffers(), plain.buffers(), strict=True):
        assert largest_difference(ours.double(), theirs.double()) < tolerance, name
    return whole.connectivity, batch.connectivity


@pytest.mark.parametrize("training", [True, False])
def test_equals_computing_every_atom(backbone, training):
    exact = exact_crystals()
    several = [*exact.values(), supercell(exact["tetragonal"], (1, 2, 1))]
    whole, merged = compare(backbone, several, GraphSettings(), training)
    assert merged.n_triplets < whole.n_triplets / 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["one atom", "triclinic"])
def test_batches_of_one(backbone, name, training):
    """The only atom of a cell represents itself, and one of its six bonds all of them."""
    compare(backbone, [exact_crystals()[name]], GraphSettings(), training)


@pytest.mark.parametrize("strategy", ["cgcnn", "alignn-torch", "radius"])
def test_other_graphs_and_isolated_atoms(backbone, strategy):
    """Atoms with outgoing bonds and no incoming ones are included."""
    settings = GraphSettings(neighbor_strategy=strategy, cutoff=4.0)
    far = Crystal.from_arrays(20 * np.eye(3), [[0, 0, 0]], ["He"])
    exact = exact_crystals()
    compare(backbone, [far, exact["iron"], far, exact["monoclinic"]], settings, training=True)


def test_beside_a_crystal_without_equivalent_atoms(backbone, crystals):
    exact = exact_crystals()
    several = [exact["tetragonal"], asymmetric(crystals["SiO2"]), exact["one atom"]]
    _, merged = compare(backbone, several, GraphSettings(), training=True)
    alone = collate_crystals(several[1:2], GraphSettings())
    assert merged.n_triplets > alone.connectivity.n_triplets


@pytest.mark.parametrize("training", [True, False])
def test_deviates_no_more_than_equivalent_bonds(backbone, crystals, training):
    whole, merged = compare(backbone, list(crystals.values()), GraphSettings(), training, ROUNDED)
    assert merged.n_triplets < whole.n_triplets / 4


def test_multiplicities_count_all_atoms_and_bonds(crystals):
    several = list(crystals.values())
    whole, merged = (collate_crystals(several, GraphSettings(), merge=merge) for merge in (False, True))
    multiplicities = merged.connectivity.multiplicities
    n_edges, n_triplets = len(whole.bond_vectors), whole.connectivity.n_triplets
    assert multiplicities.nodes.total == len(whole.atom_features)
    assert multiplicities.edges.total == int(multiplicities.outgoing.sum()) == n_edges
    assert multiplicities.n_triplets == n_triplets


def test_crystals_without_equivalent_atoms_are_unchanged(crystals):
    batch = collate_crystals([asymmetric(crystals["SiO2"])], GraphSettings(), merge=True)
    assert batch.merged is None
    assert batch.connectivity.multiplicities is None


def test_the_dgl_engine_refuses_merged_atoms(crystals):
    backbone = build_backbone(MODELS["cgcnn"], 92, 8.0, engine="dgl")
    with pytest.raises(ValueError, match="without merging"):
        backbone(collate_crystals([crystals["Cu"]], GraphSettings(), merge=True))


def test_half_precision_adds_no_error_by_merging(backbone, crystals):
    backbone = backbone.float().train()
    batches = [collate_crystals(list(crystals.values()), GraphSettings(), merge=merge) for merge in (False, True)]
    exact = copy.deepcopy(backbone).double()(batches[0].double()).graph
    with torch.autocast("cpu", torch.bfloat16):
        whole, merged = (copy.deepcopy(backbone)(batch).graph.double() for batch in batches)
    spread = float(exact.detach().std())
    errors = [float((found - exact).detach().abs().mean()) / spread for found in (whole, merged)]
    assert errors[1] < 1.5 * errors[0] + 0.002


def test_gradients_in_half_precision_gain_no_error_by_merging(backbone, crystals):
    """Merged gradients deviate from those in float64 hardly more than gradients of every atom."""

    def gradients(merge, exact=False):
        network = copy.deepcopy(backbone)
        network = network.double() if exact else network.float()
        batch = collate_crystals(list(crystals.values()), GraphSettings(), merge=merge)
        with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
            graph = network.train()(batch.double() if exact else batch).graph
        graph.double().cos().sum().backward()
        return torch.cat([weight.grad.double().flatten() for weight in network.parameters() if weight.grad is not None])

    expected = gradients(merge=False, exact=True)
    errors = [float((gradients(merge) - expected).norm() / expected.norm()) for merge in (False, True)]
    assert errors[1] < 1.5 * errors[0] + 0.02
