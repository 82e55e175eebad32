"""The backbones against their papers' formulas, written out with loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from crysmm.config import ALIGNNConfig, CGCNNConfig, CrysXPPConfig, GATGNNConfig, GraphSettings, TrainingConfig
from crysmm.data.batch import collate_crystals
from crysmm.errors import InputError
from crysmm.graphs.neighbors import find_edges
from crysmm.io.inputs import open_source
from crysmm.models.backbone import Embedding, crystal_sum, from_batch
from crysmm.models.cgcnn import CGCNN
from crysmm.models.networks import build_backbone, build_network
from crysmm.testing import check_backbone

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
CONFIGS = [
    CGCNNConfig(),
    CrysXPPConfig(),
    CrysXPPConfig(as_first_published=True),
    GATGNNConfig(),
    ALIGNNConfig(hidden_features=32),
    ALIGNNConfig(hidden_features=32, norm="layer"),
]


@pytest.mark.parametrize(
    "config", CONFIGS, ids=["cgcnn", "crysxpp", "crysxpp-first", "gatgnn", "alignn", "alignn-layer-norm"]
)
def test_contract(config):
    torch.manual_seed(0)
    check_backbone(build_backbone(config, 92, 8.0))


@pytest.mark.parametrize("name", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_a_name_is_a_backbone_with_its_defaults(name):
    torch.manual_seed(0)
    expected = build_backbone(TrainingConfig(model={"name": name}).model, 92, 8.0).state_dict()
    torch.manual_seed(0)
    found = build_backbone(name).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_another_name_gets_the_nearest():
    with pytest.raises(InputError, match="aligne: there is no such backbone; did you mean alignn"):
        build_backbone("aligne")


class Broken(CGCNN):
    """CGCNN with a factor on its embeddings, in which subclasses make mistakes."""

    def __init__(self):
        super().__init__(CGCNNConfig(conv_layers=1, node_features=8), 92, 8.0)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def factor(self, inputs):
        return self.scale

    def embed_atoms(self, inputs):
        return super().embed_atoms(inputs) * self.factor(inputs)


class Squeezed(Broken):
    def pool(self, nodes, inputs):
        return super().pool(nodes, inputs).squeeze()


class CountingTheBatch(Broken):
    def factor(self, inputs):
        return self.scale * len(inputs.n_atoms)


class SeeingAxes(Broken):
    def factor(self, inputs):
        return self.scale * (1 + inputs.graph.sum(inputs.bond_vectors.abs())[:, :1])


class TakingTheFirstAtom(Broken):
    def pool(self, nodes, inputs):
        return nodes[inputs.n_atoms.cumsum(0) - inputs.n_atoms]


class SummingAtoms(Broken):
    def pool(self, nodes, inputs):
        return crystal_sum(nodes, inputs.n_atoms)


class DividingByNeighbors(Broken):
    def factor(self, inputs):
        return self.scale / inputs.graph.sum(torch.ones_like(inputs.bond_vectors))[:, :1]


class ChangingInputs(Broken):
    def factor(self, inputs):
        inputs.atom_features.add_(1)
        return self.scale


class LeavingOutWeights(Broken):
    def factor(self, inputs):
        return 1.0


class InfiniteSlope(Broken):
    def factor(self, inputs):
        return 1 + (self.scale * inputs.graph.sum(torch.ones_like(inputs.bond_vectors))[:, :1]).sqrt()


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (Squeezed, "batch of one"),
        (CountingTheBatch, "batched equals single"),
        (SeeingAxes, "rotation"),
        (TakingTheFirstAtom, "atom permutation"),
        (SummingAtoms, "supercell equals cell"),
        (DividingByNeighbors, "atom without neighbors"),
        (ChangingInputs, "changes its input"),
        (LeavingOutWeights, "no gradient reaches scale"),
        (InfiniteSlope, "gradient is not finite in scale"),
    ],
)
def test_contract_names_the_broken_clause(broken, clause):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=clause):
        check_backbone(broken())


def test_contract_holds_without_a_mistake():
    torch.manual_seed(0)
    check_backbone(Broken())


@pytest.mark.parametrize(("model", "count"), [({"name": "cgcnn"}, 80_833), ({"name": "alignn"}, 4_026_753)])
def test_published_parameter_counts(model, count):
    network = build_network(TrainingConfig(model=model), n_outputs=1)
    assert sum(weight.numel() for weight in network.parameters()) == count


def test_gatgnn_parameter_count():
    """Section by section: two embeddings, three attention layers, composition attention, two layers, output."""
    layer = 256 * 128 + 4 * 128 + 64 + 2 * 4 + 2 * 64
    expected = (93 + 42) * 64 + 3 * layer + (64 + 103 + 1) * 32 + 33 + 2 * 65 * 64 + 65
    network = build_network(TrainingConfig(model={"name": "gatgnn"}), n_outputs=1)
    assert sum(weight.numel() for weight in network.parameters()) == expected


def test_wrong_atom_features():
    with pytest.raises(InputError, match=r"atom_input_features is 11.*give 92"):
        build_backbone(CGCNNConfig(atom_input_features=11), 92, 8.0)


@pytest.fixture
def batch(crystals):
    return collate_crystals([crystals["SiO2"], crystals["Cu"]], GraphSettings(neighbor_strategy="cgcnn")).double()


def edges_of(batch):
    edges = batch.connectivity
    return list(zip(edges.source.tolist(), edges.destination.tolist(), strict=True))


def test_cgcnn_convolution(batch):
    """Equation 5 of the paper, atom by atom, with batch statistics."""
    torch.manual_seed(1)
    convolution = build_backbone(CGCNNConfig(), 92, 8.0).convs[0].double()
    nodes = torch.randn(len(batch.atomic_numbers), 64, dtype=torch.float64)
    lengths = batch.bond_vectors.norm(dim=1)
    centers = torch.arange(41, dtype=torch.float64) * 0.2
    expanded = torch.exp(-(((lengths[:, None] - centers) / 0.2) ** 2))
    pairs = edges_of(batch)
    z = torch.stack([torch.cat((nodes[i], nodes[j], e)) for (j, i), e in zip(pairs, expanded, strict=True)])
    gated = convolution.fc_full(z)
    gated = (gated - gated.mean(0)) / (gated.var(0, unbiased=False) + 1e-5).sqrt()
    messages = torch.zeros_like(nodes)
    for (_, i), row in zip(pairs, gated, strict=True):
        messages[i] += torch.sigmoid(row[:64]) * functional.softplus(row[64:])
    messages = (messages - messages.mean(0)) / (messages.var(0, unbiased=False) + 1e-5).sqrt()
    expected = functional.softplus(nodes + messages)

    found = convolution.train()(from_batch(batch, "blocked", False).graph, nodes, expanded)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_gatgnn_layer(batch):
    """Augmented attention, head by head, in eval mode."""
    torch.manual_seed(1)
    backbone = build_backbone(GATGNNConfig(heads=2, node_features=8), 92, 8.0).double().eval()
    layer = backbone.layers[0]
    nodes = torch.randn(len(batch.atomic_numbers), 8, dtype=torch.float64)
    bonds = torch.randn(len(batch.bond_vectors), 8, dtype=torch.float64)
    scale = (1 + 1e-5) ** -0.5  # batch normalization with running mean 0 and variance 1
    expected = torch.zeros_like(nodes)
    for atom in range(len(nodes)):
        entering = [(e, j) for e, (j, i) in enumerate(edges_of(batch)) if i == atom]
        heads = []
        for head in range(2):
            weight, attention = layer.weight[8 * head : 8 * head + 8], layer.attention[head]
            own = [functional.softplus(weight @ torch.cat((nodes[atom], bonds[e]))) for e, _ in entering]
            other = [functional.softplus(weight @ torch.cat((nodes[j], bonds[e]))) for e, j in entering]
            scores = [functional.softplus(attention @ torch.cat(pair)) for pair in zip(own, other, strict=True)]
            alpha = functional.softplus(torch.stack(scores) * scale).softmax(0)
            heads.append(sum(a * x for a, x in zip(alpha, other, strict=True)))
        expected[atom] = functional.softplus((sum(heads) / 2 + layer.bias) * scale)

    found = layer(from_batch(batch, "blocked", False).graph, nodes, bonds)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_gatgnn_composition_attention(batch):
    torch.manual_seed(1)
    attention = build_backbone(GATGNNConfig(), 92, 8.0).global_attention.double()
    nodes = torch.randn(10, 64, dtype=torch.float64)
    found = attention(nodes, batch.atomic_numbers, batch.n_atoms)
    quartz = torch.zeros(103, dtype=torch.float64)
    quartz[13], quartz[7] = 1 / 3, 2 / 3
    hidden = [functional.softplus(attention.hidden(torch.cat((node, quartz)))) for node in nodes[:9]]
    expected = torch.cat([attention.score(row) for row in hidden]).softmax(0)
    torch.testing.assert_close(found[:9, 0], expected, rtol=1e-10, atol=1e-10)
    assert found[9, 0] == 1


def test_alignn_convolution(crystals):
    """Edge-gated convolution of the line graph, pair by pair, in eval mode."""
    torch.manual_seed(1)
    backbone = build_backbone(ALIGNNConfig(hidden_features=8), 92, 8.0).double().eval()
    layer = backbone.alignn_layers[0].edge_update
    batch = collate_crystals([crystals["SiO2"]], GraphSettings()).double()
    line_graph = from_batch(batch, "blocked", True).line_graph
    first, second = batch.connectivity.triplets()
    bonds = torch.randn(len(batch.bond_vectors), 8, dtype=torch.float64)
    angles = torch.randn(len(first), 8, dtype=torch.float64)
    gates = layer.src_gate(bonds)[first] + layer.dst_gate(bonds)[second] + layer.edge_gate(angles)
    scale = (1 + 1e-5) ** -0.5
    expected = torch.empty_like(bonds)
    for bond in range(len(bonds)):
        into = torch.where(second == bond)[0]
        weights = torch.sigmoid(gates[into])
        mean = (weights * layer.dst_update(bonds)[first[into]]).sum(0) / (weights.sum(0) + 1e-6)
        expected[bond] = bonds[bond] + functional.silu((layer.src_update(bonds[bond]) + mean) * scale)
    found, new_angles = layer(line_graph, bonds, angles)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(new_angles, angles + functional.silu(gates * scale), rtol=1e-10, atol=1e-10)


def test_gaussians():
    """CGCNN and GATGNN: 41 to 8 Angstrom, exp(-(d - mu)^2 / 0.2^2); ALIGNN divides by the spacing, not its square."""
    values = torch.tensor([-0.9, 0.31, 2.345, 7.77], dtype=torch.float64)

    def gaussians(centers, width):
        return torch.stack([torch.exp(-((value - torch.tensor(centers).double()) ** 2) / width) for value in values])

    alignn = build_backbone(ALIGNNConfig(hidden_features=8), 92, 8.0)
    cases = [
        (build_backbone(CGCNNConfig(), 92, 8.0).expansion, gaussians([0.2 * n for n in range(41)], 0.04)),
        (build_backbone(GATGNNConfig(), 92, 8.0).expansion, gaussians([0.2 * n for n in range(41)], 0.04)),
        (build_backbone(CGCNNConfig(edge_features=9), 92, 4.0).expansion, gaussians([n / 2 for n in range(9)], 0.25)),
        (alignn.edge_embedding[0], gaussians([8 * n / 79 for n in range(80)], 8 / 79)),
        (alignn.angle_embedding[0], gaussians([-1 + 2 * n / 39 for n in range(40)], 2 / 39)),
    ]
    for expansion, expected in cases:
        torch.testing.assert_close(expansion.double()(values), expected, rtol=0, atol=1e-6)


def test_gatgnn_layers_read_embedded_atoms_and_bonds(batch):
    backbone = build_backbone(GATGNNConfig(), 92, 8.0).double().eval()
    read = []
    backbone.layers[0].register_forward_pre_hook(lambda layer, inputs: read.append(inputs[1:]))
    backbone(batch)
    ((nodes, edges),) = read
    raw = backbone.edge_embedding(backbone.expansion(batch.bond_vectors.norm(dim=1)))
    torch.testing.assert_close(edges, torch.where(raw > 0, raw, 0.2 * raw))
    torch.testing.assert_close(nodes, backbone.embedding(batch.atom_features))


@pytest.mark.parametrize(
    ("name", "activations"), [("cgcnn", ["before", "after"]), ("gatgnn", ["after", "after"]), ("alignn", [])]
)
def test_readouts_of_the_authors(name, activations):
    """CGCNN: softplus, 64 -> 128, softplus; GATGNN: twice 64 -> 64, softplus; ALIGNN: nothing; then the output."""
    torch.manual_seed(1)
    network = build_network(TrainingConfig(model={"name": name}), n_outputs=2)
    pooled = torch.randn(3, network.backbone.node_features)
    expected = functional.softplus(pooled) if "before" in activations else pooled
    linear = [module for module in network.head.hidden if isinstance(module, torch.nn.Linear)]
    assert len(linear) == activations.count("after")
    for layer in linear:
        expected = functional.softplus(layer(expected))
    found = network.head(Embedding(torch.zeros(9, network.backbone.node_features), pooled), None)
    torch.testing.assert_close(found, network.head.output(expected))


@pytest.mark.parametrize(("link", "inverse"), [("identity", lambda y: y), ("log", torch.log), ("logit", torch.logit)])
def test_links(link, inverse, crystals):
    torch.manual_seed(1)
    plain = build_network(TrainingConfig(), n_outputs=1).eval()
    linked = build_network(TrainingConfig(model={"name": "cgcnn", "link": link}), n_outputs=1).eval()
    linked.load_state_dict(plain.state_dict())
    crystals = collate_crystals([crystals["Si"], crystals["NaCl"]], GraphSettings())
    torch.testing.assert_close(inverse(linked(crystals)), plain(crystals), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("as_jarvis", [False, True])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_short_bonds_are_penalized(norm, as_jarvis, merge, crystals):
    """The logarithm of the output rises by 0.1 for each Angstrom below 2.4, over all edges of the crystal."""
    settings = {"name": "alignn", "hidden_features": 8, "norm": norm, "link": "log"}
    penalized = {"short_bond_penalty": 0.1, "short_bond_length": 2.4}
    plain, network = (
        build_network(TrainingConfig(model=model), n_outputs=2).double().eval()
        for model in (settings, {**settings, **penalized})
    )
    network.load_state_dict(plain.state_dict())
    several = [crystals[name] for name in ("SiO2", "Cu", "Si", "ZrO2")]
    graph = GraphSettings(as_jarvis=as_jarvis)
    batch = collate_crystals(several, graph, merge=merge).double()
    assert (batch.merged is not None) == (merge and not as_jarvis)
    rises = (network(batch).log() - plain(batch).log()).detach()
    for crystal, rise in zip(several, rises.tolist(), strict=True):
        lengths = np.linalg.norm(find_edges(crystal, graph).vectors(crystal), axis=1)
        expected = sum(0.1 * (2.4 - length) for length in lengths if length < 2.4)
        assert rise == pytest.approx([expected, expected], abs=1e-5)
    assert rises.max() > 1
    assert rises.min() == 0  # copper has no such bonds


def test_bond_cosines_are_angles(crystals):
    """In silicon every angle between nearest bonds is tetrahedral, or straight back along the bond."""
    batch = collate_crystals([crystals["Si"]], GraphSettings(max_neighbors=4)).double()
    cosines = from_batch(batch, "blocked", True).bond_cosines()
    found = {round(float(value), 4) for value in cosines}
    assert found == {-0.3333, 1.0}


@pytest.mark.parametrize(("config", "bound"), [(CGCNNConfig(), 0.05), (GATGNNConfig(), 0.05), (ALIGNNConfig(), 0.03)])
def test_bf16_is_near_32_bits(config, bound):
    """Embeddings of sample crystals with random weights deviate little, relative to their standard deviation."""
    crystals = [row.read().crystal for row in open_source(SAMPLE_DATA, limit=16).rows()]
    batch = collate_crystals(crystals, GraphSettings())
    torch.manual_seed(2)
    backbone = build_backbone(config, 92, 8.0)
    with torch.no_grad():
        exact = backbone(batch).graph
        with torch.autocast("cpu", torch.bfloat16):
            near = backbone(batch).graph.float()
    error = (near - exact).square().mean().sqrt() / (exact - exact.mean(0)).square().mean().sqrt()
    assert error < bound
