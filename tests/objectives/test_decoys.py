"""Decoys: which atoms get other elements, and the losses of telling them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from pymatgen.core import Element
from torch.nn import functional

from crysmm.config import PretrainingConfig
from crysmm.elements import feature_table
from crysmm.objectives.corruption import Corruption, Example, substitute
from crysmm.objectives.decoys import BondingTerm, DecoyTerm, ReplacedAtomTerm, bonding, element_tables
from crysmm.objectives.pretraining import build_pretraining


@pytest.fixture
def case(make_case):
    return make_case()


def draws(batch, n=400, ratio=0.3):
    """The crystals of a batch, substituted many times: for each draw the atomic numbers of each crystal."""
    generator = torch.Generator().manual_seed(1)
    return [substitute(batch, ratio, generator).split(batch.n_atoms.tolist()) for _ in range(n)]


def kind_of(old, new):
    """What has been done to a crystal, by looking at it."""
    changed = old != new
    if not changed.any():
        return "real"
    if sorted(old.tolist()) == sorted(new.tolist()) and len(set(old[changed].tolist())) == 2:
        return "exchange"
    elements = set(old[changed].tolist())
    if len(elements) == 1 and changed.sum() == (old == old[changed][0]).sum() and len(set(new[changed].tolist())) == 1:
        return "whole element"
    return "single atoms"


def test_every_kind_of_decoy_comes_about_as_often_as_it_should(case):
    old = case.batch.atomic_numbers.split(case.batch.n_atoms.tolist())
    oxide = list(case.crystals).index(max(case.crystals, key=len))  # ZrO2: 4 Zr, 8 O
    kinds = [kind_of(old[oxide], new[oxide]) for new in draws(case.batch)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert set(shares) == {"real", "exchange", "whole element", "single atoms"}
    assert all(0.15 < share < 0.35 for share in shares.values()), shares


def test_exchanges_keep_the_composition_and_take_some_pairs_or_all(case):
    n_atoms = case.batch.n_atoms.tolist()
    old = case.batch.atomic_numbers.split(n_atoms)
    salt = n_atoms.index(8)  # NaCl: four of each
    changed = {
        int((new[salt] != old[salt]).sum())
        for new in draws(case.batch, ratio=0.3)
        if kind_of(old[salt], new[salt]) == "exchange"
    }
    assert {2, 6} <= changed  # 0.3 of 8 atoms is one pair; four would be rock salt again, so three at most
    assert changed <= {2, 4, 6}  # single atoms may look like an exchange


def test_a_crystal_of_two_atoms_is_never_exchanged(make_case):
    salt = make_case("CsCl", "NaCl")
    assert all(sorted(new[0].tolist()) != [17, 55] or new[0].tolist() == [55, 17] for new in draws(salt.batch, n=100))


def test_elements_of_unequal_numbers_are_exchanged_as_far_as_they_go(make_case):
    case = make_case("SrTiO3")
    old = case.batch.atomic_numbers.tolist()
    new = {tuple(draw[0].tolist()) for draw in draws(case.batch, n=100)}
    strontium, titanium = old.index(38), old.index(22)
    swapped = list(old)
    swapped[strontium], swapped[titanium] = 22, 38
    assert tuple(swapped) in new


def test_new_elements_are_those_of_the_batch(case):
    known = set(case.batch.atomic_numbers.tolist())
    for new in draws(case.batch, n=50):
        assert set(torch.cat(new).tolist()) <= known


def test_a_crystal_alone_can_only_be_rearranged(make_case):
    salt, copper = make_case("NaCl"), make_case("Cu")
    for new in draws(salt.batch, n=50):
        assert set(new[0].tolist()) <= {11, 17}
    for new in draws(copper.batch, n=20):
        assert new[0].tolist() == [29]


def test_share_of_single_atoms(make_case):
    case = make_case(*["ZrO2"] * 20, "Cu")
    old = case.batch.atomic_numbers.split(case.batch.n_atoms.tolist())
    generator = torch.Generator().manual_seed(0)
    shares = []
    for _ in range(50):
        new = substitute(case.batch, 0.25, generator).split(case.batch.n_atoms.tolist())
        for before, after in zip(old[:-1], new[:-1], strict=True):
            if kind_of(before, after) == "single atoms":
                shares.append((before != after).double().mean())
    # a third of the draws from {Zr, O, Cu} weighted by crystals: 20/41 each of Zr and O, so about half change nothing
    assert 0.1 < torch.stack(shares).mean() < 0.25


def test_the_batch_is_left_alone_and_the_same_seed_draws_the_same(case):
    before = case.batch.atomic_numbers.clone()
    one, two, three = (substitute(case.batch, 0.2, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(case.batch.atomic_numbers, before)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_share_of_decoys(make_case):
    """Three quarters are drawn, but by chance a whole element, of few in this batch, is replaced by itself."""
    case = make_case(*["ZrO2", "NaCl", "SiO2"] * 30)
    n_decoys = 0
    for seed in range(10):
        new = substitute(case.batch, 0.3, torch.Generator().manual_seed(seed))
        n_decoys += int(Example(case.batch, replace(case.batch, atomic_numbers=new)).decoys.sum())
    assert 0.63 < n_decoys / 900 < 0.73  # 1/4 (1 + 1 + 7/9) or so


@pytest.fixture
def example(case):
    """A corrupted batch with features in float64."""
    features = torch.from_numpy(feature_table("cgcnn").copy())
    return Corruption(0.2, 0.0, 0.3, features).apply(case.batch, torch.Generator().manual_seed(3))


def test_features_follow_the_elements_but_where_hidden(example):
    table = torch.from_numpy(feature_table("cgcnn").copy()).double()
    expected = table[example.seen.atomic_numbers]
    expected[example.hidden] = 0
    torch.testing.assert_close(example.seen.atom_features, expected)
    assert example.replaced.any()


def test_losses_equal_loops_over_atoms_and_crystals(case, example):
    torch.manual_seed(0)
    atoms, crystals = ReplacedAtomTerm(1.0, 5).double(), DecoyTerm(1.0, 5).double()
    nodes = case.nodes
    atom_losses, crystal_losses, start = [], [], 0
    for n in case.batch.n_atoms.tolist():
        changed = example.seen.atomic_numbers[start : start + n] != example.clean.atomic_numbers[start : start + n]
        for atom in range(n):
            if not example.hidden[start + atom]:
                score = atoms.decoder(nodes[start + atom])[0]
                atom_losses.append(functional.softplus(-score if changed[atom] else score))
        score = crystals.decoder(nodes[start : start + n].mean(0))[0]
        crystal_losses.append(functional.softplus(-score if changed.any() else score))
        start += n
    found = atoms(nodes, example)
    torch.testing.assert_close(found, torch.stack(atom_losses).mean().expand(len(found)), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(crystals(nodes, example), torch.stack(crystal_losses), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backbone", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_the_objective_works_with_every_backbone(backbone, make_case):
    config = PretrainingConfig(method={"name": "decoys", "mask_ratio": 0.1, "distance_noise": 0.1}, model=backbone)
    objective = build_pretraining(config)
    case = make_case(strategy=config.neighbor_strategy)
    objective.double()
    objective.training_loss(case.batch).backward()
    trained = [p for p in objective.network.backbone.parameters() if p.grad is not None]
    assert trained
    assert all(torch.isfinite(p.grad).all() for p in trained)
    metrics = objective.metrics(case.batch)
    expected = metrics["replaced"] + metrics["decoy"] + metrics["bonding"]
    torch.testing.assert_close(metrics["loss"], expected)


def electronegativity(number):
    return Element.from_Z(number).X


def test_bonding_equals_loops_over_bonds(case):
    """Pauling's electronegativities by pymatgen, Cordero's radii by ase; sums bond by bond."""
    found = bonding(case.batch).split(case.batch.n_atoms.tolist())
    for crystal, edges, quantities in zip(case.crystals, case.edges, found, strict=True):
        numbers = [int(number) for number in crystal.atomic_numbers]
        lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
        bonds = [[] for _ in numbers]
        for source, destination, length in zip(edges.source, edges.destination, lengths, strict=True):
            radii = covalent_radii[numbers[source]] + covalent_radii[numbers[destination]]
            bonds[destination].append((source, length, np.exp(-(length / radii - 1) / 0.2)))
        charges = [
            sum(w * (electronegativity(numbers[j]) - electronegativity(number)) for j, _, w in bonds[i])
            / sum(w for _, _, w in bonds[i])
            for i, number in enumerate(numbers)
        ]
        for i, number in enumerate(numbers):
            orders = sum(w for _, _, w in bonds[i])
            polarity = sum(w * (electronegativity(numbers[j]) - electronegativity(number)) ** 2 for j, _, w in bonds[i])
            potential = sum(w * charges[j] for j, _, w in bonds[i])
            mean_length = sum(w * length for _, length, w in bonds[i]) / orders
            expected = [charges[i], orders, mean_length, polarity, polarity / orders, potential, charges[i] * potential]
            np.testing.assert_allclose(quantities[i].numpy(), expected, rtol=1e-5, atol=1e-7)


def test_every_element_has_what_bonding_needs():
    electronegativities, radii = element_tables()
    assert len(electronegativities) == len(radii) == 104
    assert (electronegativities[1:] > 0.5).all()
    assert (radii[1:] > 0.25).all()


def test_bonding_of_salts_and_metals(make_case):
    """Sodium gives its electrons to chlorine; copper keeps them."""
    salt, copper = make_case("NaCl"), make_case("Cu")
    charge = bonding(salt.batch)[:, 0]
    assert (charge[salt.batch.atomic_numbers == 11] > 1).all()
    assert (charge[salt.batch.atomic_numbers == 17] < -1).all()
    torch.testing.assert_close(bonding(copper.batch)[:, [0, 3, 5, 6]], torch.zeros(1, 4, dtype=torch.float64))


def test_atoms_without_bonds_have_zeros(make_case):
    assert not bonding(make_case("Cu", "NaCl", strategy="radius", cutoff=1.0).batch).any()


def test_bonding_loss_is_of_the_true_structure(case):
    torch.manual_seed(0)
    term = BondingTerm(1.0, 5).double()
    features = torch.from_numpy(feature_table("cgcnn").copy())
    example = Corruption(0.2, 0.1, 0.3, features).apply(case.batch, torch.Generator().manual_seed(3))
    torch.testing.assert_close(term(case.nodes, example), term(case.nodes, Example(case.batch, case.batch)))

    quantities = bonding(case.batch)
    atoms = ((quantities - quantities.mean(0)) / quantities.std(0, correction=0)).clamp(-6, 6)
    means = torch.stack([part.mean(0) for part in quantities.split(case.batch.n_atoms.tolist())])
    crystals = ((means - means.mean(0)) / means.std(0, correction=0)).clamp(-6, 6)
    pooled = torch.stack([part.mean(0) for part in case.nodes.split(case.batch.n_atoms.tolist())])
    expected = (term.atom_decoder(case.nodes) - atoms).abs().mean() + (
        term.crystal_decoder(pooled) - crystals
    ).abs().mean(1)
    torch.testing.assert_close(term(case.nodes, example), expected, rtol=1e-3, atol=1e-4)
