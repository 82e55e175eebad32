"""NT-Xent against the formula in loops and a library, its invariances, and the symmetry terms against loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from crysmm.objectives.corruption import Example
from crysmm.objectives.crysgnn import CrystalSystemTerm, SpaceGroupTerm, nt_xent

LABELS = torch.tensor([6, 6, 1, 3, 6, 1, 2, 0, 3, 3])


def embeddings(seed=0):
    return torch.randn(len(LABELS), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(points, labels, temperature):
    def similarity(a, b):
        return math.exp(float(points[a] @ points[b] / points[a].norm() / points[b].norm()) / temperature)

    losses = []
    for a in range(len(labels)):
        for p in range(len(labels)):
            if a != p and labels[a] == labels[p]:
                negatives = sum(similarity(a, n) for n in range(len(labels)) if labels[n] != labels[a])
                losses.append(-math.log(similarity(a, p) / (similarity(a, p) + negatives)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_is_the_formula(temperature):
    loss = nt_xent(embeddings(), LABELS, temperature)
    assert loss.item() == pytest.approx(by_hand(embeddings(), LABELS, temperature), rel=1e-12)


@pytest.mark.parametrize("labels", [LABELS, torch.zeros(10, dtype=torch.int64), torch.tensor([1] + [0] * 9)])
def test_nt_xent_and_its_gradients_equal_the_library(labels):
    ours, theirs = embeddings().requires_grad_(), embeddings().requires_grad_()
    loss, expected = nt_xent(ours, labels, 0.07), NTXentLoss(temperature=0.07)(theirs, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)


def test_crystals_in_another_order():
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(1))
    shuffled = nt_xent(embeddings()[order], LABELS[order], 0.07)
    torch.testing.assert_close(shuffled, nt_xent(embeddings(), LABELS, 0.07))


def test_scale_of_each_embedding_does_not_matter():
    scales = torch.linspace(0.1, 50, len(LABELS), dtype=torch.float64)
    scaled = nt_xent(embeddings() * scales[:, None], LABELS, 0.07)
    torch.testing.assert_close(scaled, nt_xent(embeddings(), LABELS, 0.07))


def test_rotation_of_all_embeddings_does_not_matter():
    rotation = torch.linalg.qr(embeddings(1)[:4])[0]
    rotated = nt_xent(embeddings() @ rotation, LABELS, 0.07)
    torch.testing.assert_close(rotated, nt_xent(embeddings(), LABELS, 0.07))


def test_names_of_the_labels_do_not_matter():
    renamed = torch.tensor([3, 0, 6, 2, 4, 5, 1])[LABELS]
    assert nt_xent(embeddings(), renamed, 0.07) == nt_xent(embeddings(), LABELS, 0.07)


def test_other_labels_give_another_loss():
    assert nt_xent(embeddings(), LABELS.roll(1), 0.07) != nt_xent(embeddings(), LABELS, 0.07)


@pytest.mark.parametrize("n", [1, 7])
def test_without_a_positive_pair_the_loss_is_zero_and_has_a_gradient(n):
    points = embeddings()[:n].requires_grad_()
    loss = nt_xent(points, torch.arange(n), 0.07)
    loss.backward()
    assert loss.item() == 0
    assert not points.grad.any()


def test_a_large_batch_fits_in_memory():
    """Computing every negative pair for every positive one, as the library does, would take 50 GB."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(512, 16, generator=generator).requires_grad_()
    loss = nt_xent(points, torch.randint(0, 4, (512,), generator=generator), 0.07)
    loss.backward()
    assert points.grad.isfinite().all()


def test_term_contrasts_means_of_the_crystals_that_are_known(make_case):
    case = make_case()
    case.batch.space_groups[[2, 7]] = 0
    losses = CrystalSystemTerm(1.0, 0.07)(case.nodes, Example(case.batch, case.batch))
    pooled = torch.stack([nodes.mean(0) for nodes, _ in case.parts()]).detach()
    systems = torch.tensor([6, 6, 6, 6, 6, 5, 6, 6, 3, 4, 1, 1])  # cubic ... hexagonal ... tetragonal, trigonal
    known = [index for index in range(12) if index not in (2, 7)]
    assert losses.tolist() == pytest.approx([by_hand(pooled[known], systems[known], 0.07)] * 12)


def test_term_where_nothing_is_known(make_case):
    case = make_case("Cu", "NaCl", "CuO")
    case.batch.space_groups.zero_()
    losses = CrystalSystemTerm(1.0, 0.07)(case.nodes, Example(case.batch, case.batch))
    losses.mean().backward()
    assert losses.tolist() == [0, 0, 0]
    assert not case.nodes.grad.any()


def made(kind, *arguments, **settings):
    torch.manual_seed(2)
    return kind(1.0, *arguments, **settings).double()


def test_space_groups(make_case):
    case, term = make_case(), made(SpaceGroupTerm, 5)
    expected = []
    for (nodes, _), group in zip(case.parts(), case.batch.space_groups, strict=True):
        expected.append(-term.decoder(nodes.mean(0)).log_softmax(0)[group - 1].item())
    assert term(case.nodes, Example(case.batch, case.batch)).tolist() == pytest.approx(expected)
    case.batch.space_groups[[0, 5]] = 0
    found = term(case.nodes, Example(case.batch, case.batch)).mean()
    assert found.item() == pytest.approx(np.mean([loss for i, loss in enumerate(expected) if i not in (0, 5)]))


def test_unknown_space_groups_give_no_gradient(make_case):
    case, term = make_case("Cu", "NaCl"), made(SpaceGroupTerm, 5)
    case.batch.space_groups.zero_()
    losses = term(case.nodes, Example(case.batch, case.batch))
    losses.mean().backward()
    assert losses.tolist() == [0, 0]
    assert not term.decoder.weight.grad.any()


def test_a_batch_without_space_groups_is_refused(make_case):
    case = make_case("Cu")
    batch = replace(case.batch, space_groups=None)
    with pytest.raises(ValueError, match="build its store with symprec"):
        made(SpaceGroupTerm, 5)(case.nodes, Example(batch, batch))
