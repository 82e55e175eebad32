"""Losses of atoms, bonds and symmetry against loops over crystals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crysmm.objectives.corruption import Corruption, Example
from crysmm.objectives.crysgnn import SpaceGroupTerm
from crysmm.objectives.reconstruction import AtomFeatureTerm, BondLengthTerm, DistanceTerm
from crysmm.objectives.terms import mean_losses


def made(kind, *arguments, **settings):
    torch.manual_seed(2)
    return kind(1.0, *arguments, **settings).double()


def lengths_by_hand(case):
    return [np.linalg.norm(e.vectors(c), axis=1) for c, e in zip(case.crystals, case.edges, strict=True)]


def test_mean_within_crystals_or_over_all():
    sums, totals = torch.tensor([2.0, 9.0, 0.0]), torch.tensor([1.0, 3.0, 0.0])
    assert mean_losses(sums, totals, pooled=True).tolist() == [11 / 4] * 3
    assert mean_losses(sums, totals, pooled=False).tolist() == [2, 3, 2.5]  # the last does not change the mean


@pytest.mark.parametrize("pooled", [False, True])
def test_mean_of_nothing_is_zero_with_a_gradient(pooled):
    sums = torch.zeros(3, requires_grad=True)
    losses = mean_losses(sums * 1, torch.zeros(3), pooled)
    losses.sum().backward()
    assert losses.tolist() == [0, 0, 0]
    assert sums.grad.isfinite().all()


def feature_losses_by_hand(term, case, hidden=None):
    """Each crystal's losses of single bits."""
    first_atom, losses = 0, []
    for nodes, _ in case.parts():
        losses.append([])
        for i, node in enumerate(nodes, first_atom):
            if hidden is None or hidden[i]:
                bits = case.batch.atom_features[i].tolist()
                for logit, bit in zip(term.decoder(node).tolist(), bits, strict=True):
                    losses[-1].append(math.log1p(math.exp(logit)) - bit * logit)
        first_atom += len(nodes)
    return losses


def test_features_are_averaged_crystal_by_crystal_or_over_all_atoms(make_case):
    case = make_case()
    expected = feature_losses_by_hand(made(AtomFeatureTerm, 5, 92, pooled=False), case)
    example = Example(case.batch, case.batch)
    found = made(AtomFeatureTerm, 5, 92, pooled=False)(case.nodes, example)
    assert found.tolist() == pytest.approx([np.mean(losses) for losses in expected])
    found = made(AtomFeatureTerm, 5, 92, pooled=True)(case.nodes, example)
    assert found.tolist() == pytest.approx([np.mean(np.concatenate(expected))] * len(expected))


@pytest.mark.parametrize("pooled", [False, True])
def test_only_hidden_atoms_are_asked_for(make_case, pooled):
    case, term = make_case(), made(AtomFeatureTerm, 5, 92, pooled=pooled)
    example = Corruption(0.15, 0).apply(case.batch, torch.Generator().manual_seed(0))
    losses = feature_losses_by_hand(term, case, example.hidden)
    assert [] in losses  # crystals without a hidden atom
    means = [np.mean(part) for part in losses if part]
    expected = np.mean(np.concatenate(losses)) if pooled else np.mean(means)
    found = term(case.nodes, example)
    assert found.mean().item() == pytest.approx(expected)
    found.mean().backward()
    touched = case.nodes.grad.any(1)
    assert torch.equal(touched, example.hidden)


def test_features_asked_for_are_the_clean_ones(make_case):
    """Of a hidden atom the encoder sees zeros, and zeros are not the answer."""
    case, term = make_case(), made(AtomFeatureTerm, 5, 92, pooled=True)
    example = Corruption(0.5, 0).apply(case.batch)
    wrong = Example(example.seen, example.seen, example.hidden)
    assert term(case.nodes, example)[0] != term(case.nodes, wrong)[0]


def bond_losses_by_hand(term, case):
    losses = []
    for (nodes, edges), lengths in zip(case.parts(), lengths_by_hand(case), strict=True):
        losses.append([])
        for i, j, length in zip(edges.source, edges.destination, lengths, strict=True):
            target = 0 if length < 1.5 else 1 if length < 2.5 else 2 if length < 3.5 else 3 if length < 4.5 else 4
            scores = term.decoder.output(term.decoder.bilinear(nodes[i], nodes[j])).log_softmax(0)
            losses[-1].append(-scores[target].item())
    return losses


def test_bond_lengths(make_case):
    case, term = make_case(), made(BondLengthTerm, 5)
    rounded = {min(max(round(length), 1), 5) for lengths in lengths_by_hand(case) for length in lengths}
    assert rounded == {2, 3, 4, 5}
    expected = [np.mean(losses) for losses in bond_losses_by_hand(term, case)]
    assert term(case.nodes, Example(case.batch, case.batch)).tolist() == pytest.approx(expected)


def test_very_short_and_very_long_bonds(make_case):
    case, term = make_case("Cu"), made(BondLengthTerm, 5)
    for length, target in [(0.3, 0), (1.2, 0), (1.8, 1), (4.4, 3), (5.2, 4), (7.9, 4)]:
        vectors = torch.zeros_like(case.batch.bond_vectors)
        vectors[:, 0] = length
        batch = replace(case.batch, bond_vectors=vectors)
        scores = term.decoder.output(term.decoder.bilinear(case.nodes[0], case.nodes[0])).log_softmax(0)
        assert term(case.nodes, Example(batch, batch)).item() == pytest.approx(-scores[target].item())


def test_crystals_without_bonds_do_not_change_the_mean(make_case):
    case, term = make_case(strategy="radius", cutoff=2.5), made(BondLengthTerm, 5)
    losses = bond_losses_by_hand(term, case)
    assert [] in losses
    found = term(case.nodes, Example(case.batch, case.batch))
    assert found.mean().item() == pytest.approx(np.mean([np.mean(part) for part in losses if part]))


def test_no_bonds_at_all(make_case):
    case = make_case("Cu", "Fe", strategy="radius", cutoff=2.0)
    assert len(case.batch.bond_vectors) == 0
    example = Corruption(0, 0.1).apply(case.batch)
    for term in (made(BondLengthTerm, 5), made(DistanceTerm, 5, 8.0, 0.1, pooled=True)):
        losses = term(case.nodes, example)
        losses.mean().backward()
        assert losses.tolist() == [0, 0]
        assert all(not parameter.grad.any() for parameter in term.parameters())


def distance_losses_by_hand(term, case, example):
    seen = example.seen.bond_vectors.norm(dim=1)
    clean = example.clean.bond_vectors.norm(dim=1)
    edges = example.clean.connectivity
    crystal = np.repeat(np.arange(len(case.crystals)), [len(c) for c in case.crystals])
    losses = [[] for _ in case.crystals]
    centers = torch.linspace(0, 8, 41, dtype=torch.float64)
    for i, j, length, wanted in zip(edges.source, edges.destination, seen, clean, strict=True):
        expanded = torch.exp(-(((length - centers) / 0.2) ** 2))
        hidden = term.source(case.nodes[i]) + term.destination(case.nodes[j]) + term.length(expanded)
        error = abs((term.output(hidden * torch.sigmoid(hidden)) - (wanted - length) / 0.1).item())
        losses[crystal[i]].append(0.5 * error**2 if error < 1 else error - 0.5)
    return losses


@pytest.mark.parametrize("pooled", [False, True])
def test_distances(make_case, pooled):
    case, term = make_case("Cu", "SiO2", "TiO2"), made(DistanceTerm, 5, 8.0, 0.1, pooled=pooled)
    example = Corruption(0, 0.1).apply(case.batch, torch.Generator().manual_seed(0))
    losses = distance_losses_by_hand(term, case, example)
    expected = [np.mean(np.concatenate(losses))] * 3 if pooled else [np.mean(part) for part in losses]
    assert term(case.nodes, example).tolist() == pytest.approx(expected)


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
