"""Distillation against numbers worked out by plain loops, and what learns from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crysmm.config import TrainingConfig
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError
from crysmm.models.networks import build_network
from crysmm.objectives.distillation import DistillationObjective, make_projection
from crysmm.objectives.property import PropertyObjective, fit_weights

NAMES = ("Cu", "SiO2", "TiO2")  # 1, 9 and 6 atoms: means over crystals and over atoms differ
TARGETS = np.array([[137.0], [38.0], [212.0]])
TEACHER_WIDTH = 5


@pytest.fixture
def config():
    return TrainingConfig(model={"name": "cgcnn", "conv_layers": 1, "node_features": 8, "fc_features": 8})


@pytest.fixture
def batch(config, crystals):
    """Three crystals of different sizes, each with embeddings of length 1 as a teacher's."""
    chosen = [crystals[name] for name in NAMES]
    batch = collate_crystals(chosen, config.graph_settings(), targets=TARGETS)
    nodes = np.random.default_rng(0).normal(size=(16, TEACHER_WIDTH))
    nodes /= np.linalg.norm(nodes, axis=1, keepdims=True)
    return replace(batch, teacher_features=torch.from_numpy(nodes.astype(np.float32)))


@pytest.fixture
def make_objective(config):
    def make(delta, kind="auto", matched="atoms"):
        scaler = TargetScaler.fit(TARGETS, range(3), config)
        torch.manual_seed(0)
        network = build_network(config, scaler.n_outputs)
        projection = make_projection(kind, 8, TEACHER_WIDTH, seed=0)
        return DistillationObjective(network, scaler, "l1", delta, projection, matched=matched)

    return make


def test_missing_targets_leave_the_distillation_loss_alone(config, crystals, batch):
    """Of two targets, SiO2 lacks one and TiO2 the other."""
    targets = np.array([[137.0, 1.0], [38.0, np.nan], [np.nan, 3.0]])
    scaler = TargetScaler.fit(targets, range(3), config)
    network = build_network(config, 2)
    weights = fit_weights(None, targets, targets)
    objective = DistillationObjective(network, scaler, "l1", 0.3, make_projection("auto", 8, TEACHER_WIDTH, 0), weights)
    given = replace(batch, targets=torch.from_numpy(targets), labels_per_crystal=4 / 3)
    outputs = network(given).detach().double().numpy()
    encoded = scaler.encode(torch.from_numpy(targets)).numpy()
    labels = np.nanmean(np.abs(outputs - encoded))
    expected = 0.3 * labels + 0.7 * np.mean(by_loops(objective, batch))
    assert objective.training_loss(given).item() == pytest.approx(expected, rel=1e-5)


def by_loops(objective, batch):
    """The distillation loss of each crystal, atom by atom and feature by feature."""
    with torch.no_grad():
        student = objective.projection(objective.network.backbone(batch).nodes).double().numpy()
    teacher = batch.teacher_features.double().numpy()
    losses, atom = [], 0
    for n_atoms in batch.n_atoms.tolist():
        total = 0.0
        for _ in range(n_atoms):
            length = sum(value**2 for value in student[atom]) ** 0.5
            for mine, its in zip(student[atom], teacher[atom], strict=True):
                total += (mine / length - its) ** 2
            atom += 1
        losses.append(total / (n_atoms * TEACHER_WIDTH))
    return losses


def test_distillation_is_a_mean_over_atoms_and_features_then_over_crystals(make_objective, batch):
    objective = make_objective(0.0).eval()
    expected = by_loops(objective, batch)
    assert objective.metrics(batch)["distillation"].tolist() == pytest.approx(expected, rel=1e-5)
    assert objective.training_loss(batch).item() == pytest.approx(np.mean(expected), rel=1e-5)
    over_atoms = np.average(expected, weights=batch.n_atoms.numpy())
    assert abs(over_atoms - np.mean(expected)) > 1e-3 * np.mean(expected)


def mean_of(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def cosine(a, b):
    lengths = [sum(value**2 for value in vector) ** 0.5 for vector in (a, b)]
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths[0] / lengths[1]


def pooled_by_loops(batch):
    """The mean of the teacher's embeddings over the atoms of each crystal."""
    atoms, rows = iter(batch.teacher_features.tolist()), []
    for n_atoms in batch.n_atoms.tolist():
        rows.append(mean_of([next(atoms) for _ in range(n_atoms)]))
    return rows


@pytest.mark.parametrize(("delta", "factor"), [(0.0, 1), ("rising", TEACHER_WIDTH)])
def test_crystals_are_matched_by_their_direction(make_objective, batch, delta, factor):
    objective = make_objective(delta, matched="crystals").eval()
    with torch.no_grad():
        student = objective.projection(objective.network.backbone(batch).graph).double().tolist()
    # for unit vectors a and b, |a - b|^2 = 2 - 2 a.b
    pairs = zip(student, pooled_by_loops(batch), strict=True)
    expected = [(2 - 2 * cosine(mine, its)) / TEACHER_WIDTH for mine, its in pairs]
    assert objective.metrics(batch)["distillation"].tolist() == pytest.approx(expected, rel=1e-5)
    assert objective.training_loss(batch).item() == pytest.approx(factor * np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("delta", [0.0, "rising"])
def test_relations_are_matched_by_the_similarities_of_crystals(make_objective, batch, delta):
    objective = make_objective(delta, matched="relations").eval()
    with torch.no_grad():
        student = objective.network.backbone(batch).graph.double().tolist()
    similar = []
    for crystals in (student, pooled_by_loops(batch)):
        center = mean_of(crystals)
        centered = [[value - middle for value, middle in zip(row, center, strict=True)] for row in crystals]
        similar.append([[cosine(a, b) for b in centered] for a in centered])
    pairs = zip(*similar, strict=True)
    expected = [mean_of([[(x - y) ** 2] for x, y in zip(mine, its, strict=True)])[0] for mine, its in pairs]
    assert objective.metrics(batch)["distillation"].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert objective.training_loss(batch).item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert max(expected) > 0.01


def test_a_crystal_alone_has_no_relations(make_objective, config, crystals):
    objective = make_objective(0.0, matched="relations")
    alone = collate_crystals([crystals["Cu"]], config.graph_settings(), targets=TARGETS[:1])
    loss = objective.training_loss(replace(alone, teacher_features=torch.ones(1, TEACHER_WIDTH)))
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in objective.parameters())


def test_a_student_that_embeds_as_its_teacher_has_no_loss(make_objective, batch):
    objective = make_objective(0.0).eval()
    with torch.no_grad():
        projected = objective.projection(objective.network.backbone(batch).nodes)
    same = projected / projected.norm(dim=1, keepdim=True)
    assert objective.training_loss(replace(batch, teacher_features=same)).item() < 1e-12
    opposite = objective.training_loss(replace(batch, teacher_features=-same)).item()
    assert opposite == pytest.approx(2**2 / TEACHER_WIDTH, rel=1e-5)


@pytest.mark.parametrize("delta", [0.0, 0.3, 1.0])
def test_delta_weighs_the_two_losses(make_objective, batch, delta):
    objective = make_objective(delta).eval()
    metrics = objective.metrics(batch)
    expected = delta * metrics["loss"].mean() + (1 - delta) * metrics["distillation"].mean()
    assert objective.training_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert objective.monitor == "mae"


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_rising_delta_is_the_share_of_the_steps_done(make_objective, batch, progress):
    """The distillation loss is then the squared distance of the unit vectors, a sum over their features."""
    objective = make_objective("rising").eval()
    objective.progress = progress
    labels = objective.metrics(batch)["loss"].mean().item()
    distance = TEACHER_WIDTH * np.mean(by_loops(objective, batch))
    expected = progress * labels + (1 - progress) * distance
    assert objective.training_loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_metrics_of_the_labels_are_those_without_a_teacher(make_objective, batch):
    objective = make_objective(0.3).eval()
    vanilla = PropertyObjective(objective.network, objective.scaler, "l1").metrics(batch)
    metrics = objective.metrics(batch)
    assert metrics.keys() - vanilla.keys() == {"distillation"}
    assert all(torch.equal(metrics[name], values) for name, values in vanilla.items())


def gradients(objective, batch):
    objective.zero_grad()
    objective.training_loss(batch).backward()
    return {name: weight.grad for name, weight in objective.named_parameters()}


def test_student_and_projection_learn_from_the_teacher(make_objective, batch):
    objective = make_objective(0.0)
    found = gradients(objective, batch)
    learning = {name for name, gradient in found.items() if gradient is not None and gradient.abs().max() > 0}
    assert {"network.backbone.embedding.weight", "projection.weight", "projection.bias"} <= learning
    assert not any("head" in name for name in learning)


def test_with_delta_1_gradients_are_those_of_the_labels_alone(make_objective, batch):
    objective = make_objective(1.0)
    found = gradients(objective, batch)
    vanilla = gradients(PropertyObjective(objective.network, objective.scaler, "l1"), batch)
    assert all(torch.equal(found[name], gradient) for name, gradient in vanilla.items())
    assert not found["projection.weight"].any()


def test_the_student_computes_once(make_objective, batch, monkeypatch):
    objective = make_objective(0.5)
    calls = []
    objective.network.backbone.register_forward_hook(lambda *_: calls.append(1))
    objective.training_loss(batch)
    objective.metrics(batch)
    assert len(calls) == 2


def test_classes_are_learned_from_a_teacher_too(batch, crystals):
    config = TrainingConfig(classification_threshold=100.0)
    scaler = TargetScaler.fit(TARGETS, range(3), config)
    network = build_network(config, scaler.n_outputs)
    projection = make_projection("auto", 64, TEACHER_WIDTH, seed=0)
    objective = DistillationObjective(network, scaler, "l1", 0.5, projection).eval()
    metrics = objective.metrics(batch)
    assert set(metrics) == {"loss", "error", "distillation"}
    expected = (metrics["loss"].mean() + metrics["distillation"].mean()) / 2
    assert objective.training_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_without_embeddings_is_refused(make_objective, batch):
    with pytest.raises(ValueError, match="no embeddings of a teacher"):
        make_objective(1.0).training_loss(replace(batch, teacher_features=None))


@pytest.mark.parametrize(
    ("kind", "student", "projected"),
    [("auto", 5, False), ("auto", 8, True), ("linear", 5, True), ("linear", 8, True), ("none", 5, False)],
)
def test_projection(kind, student, projected):
    rows = torch.ones(3, student)
    layer = make_projection(kind, student, 5, seed=0)
    assert layer(rows).shape == (3, 5)
    assert (layer(rows) is not rows) == projected == bool(list(layer.parameters()))


def test_widths_that_differ_need_a_projection():
    with pytest.raises(InputError, match=r"atom embeddings have 8 and 5 features; give --head.projection auto"):
        make_projection("none", 8, 5, seed=0)


def test_making_a_projection_leaves_random_states_alone(monkeypatch):
    """Those of GPUs too, which seeding torch changes whatever is forked."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("GPUs were seeded"))
    torch.random.default_generator.manual_seed(3)
    expected = torch.rand(4)
    torch.random.default_generator.manual_seed(3)
    first, again, other = (make_projection("linear", 8, 5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_a_projection_begins_as_any_linear_layer():
    layer, usual = make_projection("linear", 400, 300, seed=0), torch.nn.Linear(400, 300)
    assert layer.weight.abs().max().item() == pytest.approx(400**-0.5, rel=1e-3)
    assert layer.weight.std().item() == pytest.approx(usual.weight.std().item(), rel=0.02)
    assert 0 < layer.bias.abs().max().item() <= 400**-0.5
