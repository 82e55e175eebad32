"""Imitation of a teacher's features, atom by atom."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from crysmm.config import PretrainingConfig
from crysmm.objectives.corruption import Example
from crysmm.objectives.imitation import ImitationTerm
from crysmm.objectives.pretraining import build_pretraining
from crysmm.objectives.quality import EncoderQuality

WIDTH = 7


@pytest.fixture
def case(make_case):
    return with_teacher(make_case())


def with_teacher(case):
    """Give a batch random directions of a teacher."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(len(case.nodes), WIDTH, dtype=torch.float64, generator=generator)
    case.batch = replace(case.batch, teacher_features=directions / directions.norm(dim=1, keepdim=True))
    return case


def test_loss_equals_loops_over_crystals_and_atoms(case):
    torch.manual_seed(0)
    term = ImitationTerm(5, WIDTH).double()
    expected = []
    for nodes, teacher in zip(
        case.nodes.split(case.batch.n_atoms.tolist()),
        case.batch.teacher_features.split(case.batch.n_atoms.tolist()),
        strict=True,
    ):
        distances = []
        for atom, direction in zip(nodes, teacher, strict=True):
            predicted = term.decoder(atom)
            distances.append((predicted / predicted.norm() - direction).square().sum())
        expected.append(torch.stack(distances).mean())
    torch.testing.assert_close(term(case.nodes, Example(case.batch, case.batch)), torch.stack(expected))


def test_a_batch_without_a_teacher_is_refused(make_case):
    case = make_case("Cu")
    with pytest.raises(ValueError, match="the batch has no embeddings of a teacher"):
        ImitationTerm(5, WIDTH).double()(case.nodes, Example(case.batch, case.batch))


@pytest.mark.parametrize("backbone", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_the_objective_works_with_every_backbone(backbone, make_case):
    """Ask for clean features where some are hidden."""
    method = {"name": "imitation", "teacher": "toy", "mask_ratio": 0.1, "distance_noise": 0.1}
    config = PretrainingConfig(method=method, model=backbone)
    objective = build_pretraining(config, WIDTH).double()
    case = with_teacher(make_case(strategy=config.neighbor_strategy))
    objective.training_loss(case.batch).backward()
    gradients = [p.grad for p in objective.network.backbone.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    metrics = objective.metrics(case.batch)
    torch.testing.assert_close(metrics["loss"], metrics["imitation"])


def test_quality_is_the_mean_cosine_over_atoms(case):
    objective = build_pretraining(PretrainingConfig(method={"name": "imitation", "teacher": "toy"}), WIDTH).double()
    quality = EncoderQuality(objective, len(case.crystals))
    quality.add(case.batch)
    network = objective.network.eval()
    with torch.no_grad():
        predicted = network.terms()["imitation"].decoder(network(case.batch).nodes)
    expected = functional.cosine_similarity(predicted, case.batch.teacher_features).mean()
    assert quality.result()["imitation_cosine"] == pytest.approx(float(expected))
