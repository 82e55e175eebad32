"""Loss of bond length classes against loops over bonds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crysmm.objectives.corruption import Corruption, Example
from crysmm.objectives.crysae import BondLengthTerm
from crysmm.objectives.reconstruction import DistanceTerm


def made(kind, *arguments, **settings):
    torch.manual_seed(2)
    return kind(1.0, *arguments, **settings).double()


def lengths_by_hand(case):
    return [np.linalg.norm(e.vectors(c), axis=1) for c, e in zip(case.crystals, case.edges, strict=True)]


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
