"""Every backbone gives the same numbers on both engines, on a batch and on DGL graphs."""

import copy

import numpy as np
import pytest
import torch

import crysmm
from crysmm.config import ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig, GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.models.networks import build_backbone

BACKBONES = [
    CGCNNConfig(),
    CrysXPPConfig(),
    GATGNNConfig(),
    ALIGNNConfig(alignn_layers=2, gcn_layers=2, hidden_features=32),
    ALIGNNConfig(alignn_layers=2, gcn_layers=1, hidden_features=32, norm="layer"),
]
GRAPHS = [
    GraphSettings(),
    GraphSettings(neighbor_strategy="cgcnn"),
    GraphSettings(neighbor_strategy="radius", cutoff=4.5),
    GraphSettings(as_jarvis=True),
    GraphSettings(neighbor_strategy="alignn-torch", cutoff=5.0, triplet_cutoff=3.0),
]


def name(value):
    return f"{value.name}-{getattr(value, 'norm', '')}" if hasattr(value, "name") else str(value.neighbor_strategy)


def naming(key):
    """Return a function that puts the name of the tensor before the message of a comparison."""
    return lambda text: f"{key}: {text}"


@pytest.fixture(scope="module")
def mixed(crystals):
    """Return one-atom cells, self-image bonds, unequal degrees and an atom without neighbors within 4.5 Angstrom."""
    alone = Crystal.from_arrays(12 * np.eye(3), [[0, 0, 0], [0.2, 0, 0], [0.5, 0.5, 0.5]], ["Na", "Cl", "Ar"])
    return [crystals["Cu"], crystals["SiO2"], alone, crystals["TiO2"], crystals["CuO"]]


def outputs_and_gradients(backbone, batch, training=True):
    """Return the embeddings, by default in training mode, and the gradient of every weight."""
    backbone = copy.deepcopy(backbone).train(training)
    embedding = backbone(batch)
    (embedding.graph.square().mean() + embedding.nodes.sin().mean()).backward()
    gradients = {key: weight.grad for key, weight in backbone.named_parameters() if weight.grad is not None}
    return {"nodes": embedding.nodes, "graph": embedding.graph, **gradients}


def engines(config, dtype):
    torch.manual_seed(3)
    blocked = build_backbone(config, 92, 8.0, "blocked").to(dtype)
    reference = build_backbone(config, 92, 8.0, "dgl").to(dtype)
    reference.load_state_dict(blocked.state_dict())
    return blocked, reference


@pytest.mark.parametrize("settings", GRAPHS, ids=["k-nearest", "cgcnn", "radius", "as_jarvis", "alignn-torch"])
@pytest.mark.parametrize("config", BACKBONES, ids=name)
def test_float64(config, settings, mixed):
    blocked, reference = engines(config, torch.float64)
    batch = collate_crystals(mixed, settings).double()
    ours, theirs = outputs_and_gradients(blocked, batch), outputs_and_gradients(reference, batch)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        torch.testing.assert_close(ours[key], expected, rtol=1e-10, atol=1e-10, msg=naming(key))


@pytest.mark.parametrize("settings", GRAPHS, ids=["k-nearest", "cgcnn", "radius", "as_jarvis", "alignn-torch"])
@pytest.mark.parametrize("config", BACKBONES, ids=name)
def test_float32(config, settings, mixed):
    """Agree to 1e-5 of the largest entry, in evaluation mode: batch statistics divide rounding by deviations near 0."""
    blocked, reference = engines(config, torch.float32)
    batch = collate_crystals(mixed, settings)
    ours, theirs = (outputs_and_gradients(backbone, batch, training=False) for backbone in (blocked, reference))
    outputs = {"nodes", "graph"}
    largest_gradient = max(value.abs().max() for key, value in theirs.items() if key not in outputs)
    for key, expected in theirs.items():
        largest = expected.abs().max() if key in outputs else largest_gradient
        assert (ours[key] - expected).abs().max() <= 1e-5 * largest, key


@pytest.mark.parametrize("as_jarvis", [False, True])
@pytest.mark.parametrize("config", BACKBONES, ids=name)
def test_dgl_graphs(config, as_jarvis, mixed):
    import dgl

    blocked, reference = engines(config, torch.float64)
    settings = GraphSettings(as_jarvis=as_jarvis)
    expected = outputs_and_gradients(blocked, collate_crystals(mixed, settings).double())
    graphs = [crysmm.crystal_graph(crystal, as_jarvis=as_jarvis) for crystal in mixed]
    line_graphs = [crysmm.line_graph(graph, as_jarvis=as_jarvis) for graph in graphs]
    g, lg = (_double(dgl.batch(some)) for some in (graphs, line_graphs))
    for backbone in (blocked, reference):
        for call in ((g, lg), [g, lg, torch.zeros(len(mixed), 3, 3)]):
            found = outputs_and_gradients(backbone, call)
            for key, value in expected.items():
                torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6, msg=naming(key))
    ours, theirs = outputs_and_gradients(blocked, (g, lg)), outputs_and_gradients(reference, (g, lg))
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-10, atol=1e-10, msg=naming(key))


def _double(graph):
    for frame in (graph.ndata, graph.edata):
        for key in list(frame):
            if frame[key].is_floating_point():
                frame[key] = frame[key].double()
    return graph


def test_line_graph_missing(crystals):
    backbone = build_backbone(ALIGNNConfig(hidden_features=8), 92, 8.0)
    with pytest.raises(TypeError, match="line graph"):
        backbone(crysmm.crystal_graph(crystals["Si"]))


def test_gatgnn_needs_atomic_numbers(crystals):
    graph = crysmm.crystal_graph(crystals["Si"])
    del graph.ndata["Z"]
    with pytest.raises(crysmm.CrysmmError, match="atomic numbers"):
        build_backbone(GATGNNConfig(), 92, 8.0)(graph)
