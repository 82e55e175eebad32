"""Connectivity: the loss against loops over crystals and pairs, its invariances, and pairs that are drawn."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.engines.blocked import Connectivity
from crysmm.objectives.corruption import Corruption, Example
from crysmm.objectives.reconstruction import NO_PAIR, AtomFeatureTerm, ConnectivityTerm, DistanceTerm

WEIGHTS = [0.1, 1, 1, 1, 1, 1]


def make_term(pooled, max_pairs=4096, width=5):
    torch.manual_seed(1)
    return ConnectivityTerm(1.0, width, max_pairs, pooled).double()


def losses_of(term, case, generator=None):
    return term(case.nodes, Example(case.batch, case.batch), generator)


def sums_by_hand(term, case):
    """Sums of weighted losses and of weights over the pairs of each crystal."""
    decoder, sums, weights = term.decoder, [], []
    for nodes, edges in case.parts():
        counts = Counter(zip(edges.source.tolist(), edges.destination.tolist(), strict=True))
        loss, weight = 0.0, 0.0
        for i, first in enumerate(nodes):
            for j, second in enumerate(nodes):
                target = min(counts[i, j], 5)
                scores = decoder.output(decoder.bilinear(first, second)).log_softmax(0)
                loss = loss - WEIGHTS[target] * scores[target]
                weight += WEIGHTS[target]
        sums.append(loss)
        weights.append(weight)
    return torch.stack(sums), torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize(
    "graph", [{"strategy": "cgcnn"}, {"strategy": "k-nearest"}, {"strategy": "radius", "cutoff": 2.5}]
)
def test_loss_is_that_of_all_pairs(make_case, graph):
    """Within 2.5 Angstrom the metals and the alkali halides but NaCl have no edges at all."""
    case = make_case(**graph)
    sums, weights = sums_by_hand(make_term(False), case)
    torch.testing.assert_close(losses_of(make_term(False), case), sums / weights, rtol=1e-6, atol=0)
    pooled = losses_of(make_term(True), case)
    torch.testing.assert_close(pooled, (sums.sum() / weights.sum()).expand(len(sums)), rtol=1e-6, atol=0)


def test_gradients_are_those_of_all_pairs(make_case):
    case = make_case("SiO2", "Cu", "TiO2")
    term = make_term(False)
    sums, weights = sums_by_hand(term, case)
    wanted = torch.autograd.grad((sums / weights).mean(), [case.nodes, *term.parameters()])
    found = torch.autograd.grad(losses_of(term, case).mean(), [case.nodes, *term.parameters()])
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-12)


def test_every_class_occurs(make_case):
    """Otherwise the tests above would not see a wrong class."""
    case = make_case()
    grid = make_term(True).grid(case.nodes, case.batch)
    assert set(grid.classes.unique().tolist()) == {NO_PAIR, 0, 1, 2, 3, 4, 5}


def test_an_edge_counts_from_its_source_to_its_destination(make_case):
    """Twelve O are nearest to Sr, but not twelve Sr to the three O: the classes are not symmetric."""
    case = make_case("SrTiO3")
    classes = make_term(True).grid(case.nodes, case.batch).classes
    assert not torch.equal(classes, classes.T)
    edges = case.edges[0]
    for i, j in zip(edges.source, edges.destination, strict=True):
        assert classes[i, j] > 0
    assert (classes > 0).sum() == len(set(zip(edges.source.tolist(), edges.destination.tolist(), strict=True)))


def test_atoms_in_another_order(crystals, make_case):
    case, term = make_case("SiO2", "ZrO2"), make_term(False)
    orders = [np.random.default_rng(seed).permutation(len(crystal)) for seed, crystal in enumerate(case.crystals)]
    shuffled = [
        Crystal(crystal.lattice, crystal.frac_coords[order], crystal.atomic_numbers[order])
        for crystal, order in zip(case.crystals, orders, strict=True)
    ]
    nodes = torch.cat([part[order] for (part, _), order in zip(case.parts(), orders, strict=True)])
    batch = collate_crystals(shuffled, GraphSettings(neighbor_strategy="k-nearest")).double()
    same = make_case("SiO2", "ZrO2", strategy="k-nearest")
    torch.testing.assert_close(term(nodes, Example(batch, batch)), losses_of(term, same))


def test_rotated_crystals(make_case):
    case, term = make_case(strategy="k-nearest"), make_term(False)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    rotated = [Crystal(c.lattice @ rotation, c.frac_coords, c.atomic_numbers) for c in case.crystals]
    batch = collate_crystals(rotated, GraphSettings(neighbor_strategy="k-nearest")).double()
    torch.testing.assert_close(term(case.nodes, Example(batch, batch)), losses_of(term, case))


def test_edges_in_another_order(make_case):
    case, term = make_case(), make_term(False)
    edges = case.batch.connectivity
    order = torch.randperm(len(edges.source), generator=torch.Generator().manual_seed(0)).numpy()
    ends = (edges.source.numpy()[order], edges.destination.numpy()[order])
    batch = replace(case.batch, connectivity=Connectivity.sort(*ends, len(case.nodes))[0])
    torch.testing.assert_close(term(case.nodes, Example(batch, batch)), losses_of(term, case))


def test_a_crystal_does_not_see_the_others_of_its_batch(make_case):
    case, term = make_case(), make_term(False)
    together = losses_of(term, case)
    for index, (nodes, _) in enumerate(case.parts()):
        batch = collate_crystals([case.crystals[index]], GraphSettings(neighbor_strategy="cgcnn")).double()
        torch.testing.assert_close(term(nodes, Example(batch, batch)), together[index : index + 1])


@pytest.mark.parametrize("pooled", [False, True])
def test_drawn_pairs_give_the_loss_of_all_on_average(make_case, pooled):
    case = make_case("Cu", "SiO2", "ZrO2")
    full = losses_of(make_term(pooled), case).mean()
    term = make_term(pooled, max_pairs=30)  # 5 by 5 of 9 by 9 and of 12 by 12
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([losses_of(term, case, generator).mean() for _ in range(1500)])
    error = drawn.std() / len(drawn) ** 0.5
    assert error < 0.02 * full
    assert abs(drawn.mean() - full) < 4 * error


def test_every_pair_is_drawn_as_often(make_case):
    """Also an atom with itself: drawing one set of atoms for both ends would draw these too often."""
    case = make_case("SiO2")
    case.nodes = torch.eye(9, dtype=torch.float64)
    term = make_term(True, max_pairs=9, width=9)
    with torch.no_grad():
        term.decoder.bilinear.weight[0] = torch.arange(81.0).view(9, 9)  # the score of class 0 names the pair
        term.decoder.bilinear.bias.zero_()
        term.decoder.output.weight.copy_(torch.eye(6))
        term.decoder.output.bias.zero_()
        generator = torch.Generator().manual_seed(0)
        counts = torch.zeros(81)
        for _ in range(2000):
            counts[term.grid(case.nodes, case.batch, generator).scores[:, 0].flatten().round().long()] += 1
    assert counts.sum() == 2000 * 9
    expected = 2000 / 9
    assert ((counts - expected).abs() < 5 * expected**0.5).all()
    diagonal = counts.view(9, 9).diagonal().mean()
    assert abs(diagonal - expected) < 0.1 * expected


def test_drawn_pairs_keep_their_classes(make_case):
    """The class of a pair that is drawn is the one it has among all pairs."""
    case = make_case("ZrO2", width=12)
    case.nodes = torch.eye(12, dtype=torch.float64)
    all_pairs = make_term(True, width=12).grid(case.nodes, case.batch)
    drawn = make_term(True, max_pairs=49, width=12).grid(case.nodes, case.batch, torch.Generator().manual_seed(3))
    of_scores = {tuple(scores.tolist()): int(c) for scores, c in _pairs(all_pairs)}
    for scores, c in _pairs(drawn):
        assert of_scores[tuple(scores.tolist())] == c
    assert len(list(_pairs(drawn))) == 49


def _pairs(grid):
    scores = (grid.scores.detach() * 1e9).round().transpose(1, 2).flatten(0, 1)
    return zip(scores, grid.classes.flatten(), strict=True)


def test_drawn_pairs_bound_the_memory(make_case):
    case = make_case()
    grid = make_term(True, max_pairs=50).grid(case.nodes, case.batch)  # 7 by 7
    assert grid.scores.shape == (len(case.crystals) * 7, 6, 7)


def test_draws_come_from_the_generator(make_case):
    case, term = make_case("ZrO2"), make_term(True, max_pairs=20)
    first, again = (losses_of(term, case, torch.Generator().manual_seed(5)) for _ in range(2))
    other = losses_of(term, case, torch.Generator().manual_seed(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def made(kind, *arguments, **settings):
    torch.manual_seed(2)
    return kind(1.0, *arguments, **settings).double()


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
