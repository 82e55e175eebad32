"""What the encoder gets to see."""

from dataclasses import replace

import pytest
import torch

from crysmm.objectives.corruption import Corruption


def test_nothing_is_done_by_default(make_case):
    batch = make_case().batch
    example = Corruption(0, 0).apply(batch)
    assert example.seen is batch
    assert example.clean is batch
    assert example.hidden is None


@pytest.mark.parametrize(("ratio", "expected"), [(0.15, 8), (0.5, 27), (0.001, 1)])
def test_masking_hides_a_share_of_the_atoms_and_nothing_else(make_case, ratio, expected):
    batch = make_case().batch
    before = batch.atom_features.clone()
    example = Corruption(ratio, 0).apply(batch)
    assert len(batch.atom_features) == 54
    assert example.hidden.sum() == expected
    assert not example.seen.atom_features[example.hidden].any()
    assert torch.equal(example.seen.atom_features[~example.hidden], before[~example.hidden])
    assert torch.equal(batch.atom_features, before)
    assert example.seen.bond_vectors is batch.bond_vectors
    assert example.clean is batch


def test_every_atom_is_hidden_as_often(make_case):
    batch = make_case().batch
    generator = torch.Generator().manual_seed(0)
    counts = sum(Corruption(0.25, 0).apply(batch, generator).hidden.double() for _ in range(2000))
    assert ((counts - 500).abs() < 5 * (2000 * 0.25 * 0.75) ** 0.5).all()


def test_a_crystal_of_one_atom_can_be_hidden_whole(make_case):
    example = Corruption(0.15, 0).apply(make_case("Cu").batch)
    assert example.hidden.tolist() == [True]


def test_noise_changes_lengths_and_keeps_directions(make_case):
    batch = make_case().batch
    before = batch.bond_vectors.clone()
    seen = Corruption(0, 0.1).apply(batch, torch.Generator().manual_seed(0)).seen
    lengths, noisy = before.norm(dim=1), seen.bond_vectors.norm(dim=1)
    torch.testing.assert_close(seen.bond_vectors / noisy[:, None], before / lengths[:, None])
    noise = noisy - lengths
    assert len(noise) == 648
    assert abs(noise.mean()) < 4 * 0.1 / len(noise) ** 0.5
    assert noise.std().item() == pytest.approx(0.1, rel=0.1)
    assert len(noise.unique()) == len(noise)  # each edge has its own
    assert torch.equal(batch.bond_vectors, before)
    assert seen.atom_features is batch.atom_features


def test_no_bond_gets_too_short(make_case):
    """As short as 0.1 Angstrom, the least that two atoms may be apart; not turned around."""
    batch = make_case("SiO2", "ZrO2").batch
    batch = replace(batch, bond_vectors=batch.bond_vectors / 4)
    seen = Corruption(0, 1.0).apply(batch, torch.Generator().manual_seed(0)).seen
    lengths = seen.bond_vectors.norm(dim=1)
    assert lengths.min().item() == pytest.approx(0.1)
    assert ((seen.bond_vectors * batch.bond_vectors).sum(1) > 0).all()


def test_without_a_generator_torchs_seed_decides(make_case):
    batch, corruption = make_case().batch, Corruption(0.2, 0.1)
    torch.manual_seed(3)
    first, second = corruption.apply(batch), corruption.apply(batch)
    torch.manual_seed(3)
    again = corruption.apply(batch)
    assert torch.equal(first.hidden, again.hidden)
    assert torch.equal(first.seen.bond_vectors, again.seen.bond_vectors)
    assert not torch.equal(first.hidden, second.hidden)
    assert not torch.equal(first.seen.bond_vectors, second.seen.bond_vectors)
