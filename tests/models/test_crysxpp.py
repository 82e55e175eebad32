"""CrysXPP: feature selector, penalty, first version, and loading of CGCNN's weights."""

import pytest
import torch
from torch.nn import functional

from crysmm.config import CGCNNConfig, CrysXPPConfig, GraphSettings, TrainingConfig
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.models.backbone import from_batch
from crysmm.models.networks import build_backbone, build_network
from crysmm.objectives.property import PropertyObjective
from crysmm.training.transfer import copy_weights

FIRST = {"name": "crysxpp", "as_first_published": True, "fc_layers": 2, "fc_features": 64}


@pytest.fixture
def batch(crystals):
    return collate_crystals([crystals["SiO2"], crystals["Cu"]], GraphSettings(neighbor_strategy="cgcnn")).double()


def network_of(model, seed=0):
    torch.manual_seed(seed)
    return build_network(TrainingConfig(model=model), n_outputs=1).double().eval()


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ({"name": "crysxpp"}, 80_925),
        # weights, embedding without bias, three convolutions, two hidden layers, output
        (FIRST, 92 + 92 * 64 + 3 * 22_144 + 2 * 65 * 64 + 65),
    ],
)
def test_parameter_counts(model, count):
    assert sum(weight.numel() for weight in network_of(model).parameters()) == count


def test_begins_as_cgcnn(batch):
    """Predict the same with the same seed, because the feature weights are 1 and use no random numbers."""
    torch.testing.assert_close(network_of({"name": "crysxpp"})(batch), network_of({"name": "cgcnn"})(batch))


def test_a_weight_scales_its_feature_in_all_atoms(batch):
    selecting, plain = network_of({"name": "crysxpp"}), network_of({"name": "cgcnn"})
    weights = torch.linspace(-1, 2, 92, dtype=torch.float64)
    with torch.no_grad():
        selecting.backbone.selector.weight.copy_(weights)
        plain.backbone.embedding.weight.mul_(weights)
    torch.testing.assert_close(selecting(batch), plain(batch))


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.0])
def test_penalty_is_the_mean_size_of_the_weights(sparsity):
    backbone = build_backbone(CrysXPPConfig(sparsity=sparsity), 92, 8.0)
    with torch.no_grad():
        backbone.selector.weight.copy_(torch.tensor([-2.0] * 46 + [1.0] * 46))
    penalty = backbone.penalty()
    assert penalty.item() == pytest.approx(sparsity * 1.5)
    penalty.backward()
    expected = [-sparsity / 92] * 46 + [sparsity / 92] * 46
    assert backbone.selector.weight.grad.tolist() == pytest.approx(expected)
    assert build_backbone(CGCNNConfig(), 92, 8.0).penalty() == 0


def test_training_loss_has_the_penalty_and_measures_have_not(crystals):
    config = TrainingConfig(model={"name": "crysxpp", "sparsity": 0.3})
    targets = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    batch = collate_crystals([crystals["SiO2"], crystals["Cu"]], config.graph_settings(), targets=targets.numpy())
    scaler = TargetScaler.fit(targets.numpy(), range(2), config)
    objective = PropertyObjective(network_of({"name": "crysxpp", "sparsity": 0.3}).float(), scaler, "l1")
    measured = objective.metrics(batch)["loss"].mean().item()
    assert objective.training_loss(batch).item() == pytest.approx(measured + 0.3, rel=1e-6)


def test_first_version(batch):
    """Linear without bias, convolutions, every atom scaled to length 1, the mean, two hidden layers."""
    network = network_of(FIRST)
    backbone, (first, _, second, _) = network.backbone, network.head.hidden
    nodes = batch.atom_features @ backbone.embedding.weight.T
    inputs = from_batch(batch, "blocked", False)
    for convolution in backbone.convs:
        nodes = convolution(inputs.graph, nodes, backbone.expansion(inputs.bond_lengths()))
    torch.testing.assert_close(backbone(batch).nodes, nodes)
    directions = nodes / nodes.square().sum(1, keepdim=True).sqrt()
    pooled = torch.stack([part.mean(0) for part in directions.split([9, 1])])
    hidden = functional.softplus(second(functional.softplus(first(pooled))))
    torch.testing.assert_close(network(batch), network.head.output(hidden))


def test_loads_the_weights_of_a_cgcnn(save_small_model, tmp_path):
    """All but the selector's: an encoder pre-trained as CGCNN has no feature weights."""
    source = save_small_model(tmp_path, "cgcnn")
    network = network_of({"name": "crysxpp", "node_features": 8, "fc_features": 8, "conv_layers": 1}, seed=1).float()
    report = copy_weights(network, "crysxpp", tmp_path)
    assert report.left_out == {"backbone.selector.weight": "only in the new network"}
    taken = network.state_dict()
    assert all(torch.equal(taken[name], weight) for name, weight in source.state_dict().items())
    assert (network.backbone.selector.weight == 1).all()
