"""Checks that backbones and teachers follow their contracts, and crystals to test with."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.models.backbone import Backbone, Embedding
from crysmm.teachers.teacher import Teacher

SAME = 1e-10  # float64 sums in another order
ROUNDED = 1e-5  # bond vectors of the same crystal in another cell, rounded to float32
SINGLE = 1e-4  # features of a network that computes in float32, relative to the largest


def example_crystals() -> list[Crystal]:
    """Return five small crystals, with one or two elements, bonds of atoms to their images, and unequal degrees."""
    copper = Crystal.from_arrays(3.61 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), [[0, 0, 0]], ["Cu"])
    salt = Crystal.from_arrays(
        5.64 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]), [[0, 0, 0], [0.5, 0.5, 0.5]], ["Na", "Cl"]
    )
    rutile = Crystal.from_arrays(
        np.diag([4.594, 4.594, 2.959]),
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]],
        ["Ti", "Ti", "O", "O", "O", "O"],
    )
    low_symmetry = Crystal.from_arrays(
        [[4.1, 0, 0], [0.4, 5.2, 0], [-0.7, 0.9, 6.3]],
        [[0.03, 0.11, 0.07], [0.52, 0.47, 0.31], [0.21, 0.76, 0.68], [0.77, 0.18, 0.83]],
        ["Li", "Fe", "O", "F"],
    )
    tungsten = Crystal.from_arrays(3.165 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], ["W", "W"])
    return [copper, salt, rutile, low_symmetry, tungsten]


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    """Return the crystal in a larger cell; the copies of an atom are consecutive.

    Args:
        crystal: Crystal to repeat.
        repeats: Number of cells along each lattice vector.
    """
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), axis=-1).reshape(-1, 3)
    coords = (crystal.frac_coords[:, None] + cells).reshape(-1, 3) / np.array(repeats)
    return Crystal(crystal.lattice * np.array(repeats)[:, None], coords, np.repeat(crystal.atomic_numbers, len(cells)))


def check_backbone(backbone: Backbone, settings: GraphSettings | None = None) -> None:
    """Check a backbone against the contract: shapes, batches, symmetries, gradients.

    Args:
        backbone: Backbone as constructed; it is copied, not changed.
        settings: Settings of the graphs to check it on; by default k-nearest, for which all symmetries hold.

    Raises:
        AssertionError: With the clause that does not hold.
    """
    settings = settings or GraphSettings()
    exact = copy.deepcopy(backbone).double().eval()
    _check_shapes_and_batches(exact, settings)
    # For these graphs, a tie at the k-th neighbor, or a shell without a tolerance, depends on the choice of the cell.
    if settings.neighbor_strategy not in ("cgcnn", "alignn-torch") and not settings.as_jarvis:
        _check_symmetries(exact, settings)
    lone_atom, by_radius = _without_bonds(settings)
    for crystals in ([lone_atom], [*example_crystals()[1:3], lone_atom]):
        is_finite = bool(_embed(exact, crystals, by_radius).graph.isfinite().all())
        assert is_finite, "an atom without neighbors: the output is not finite"
    _check_inputs_unchanged(exact, settings)
    if getattr(getattr(exact, "config", None), "merges_equivalent", False):
        _check_merging(exact, settings)
        _check_merging(copy.deepcopy(exact).train(), settings)
    _check_gradients(copy.deepcopy(backbone).train(), settings)


def _embed(backbone: Backbone, crystals: Sequence[Crystal], settings: GraphSettings) -> Embedding:
    with torch.no_grad():
        return backbone(collate_crystals(crystals, settings).double())


def _assert_close(clause: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    # Relative to the largest entry: small ones are differences of large ones. 1e-3 keeps zeros comparable.
    assert difference <= tolerance * max(largest, 1e-3), f"{clause}: differs by {difference:.3g} of {largest:.3g}"


def _check_shapes_and_batches(backbone: Backbone, settings: GraphSettings) -> None:
    """Check the shapes, and that the embedding of a crystal does not depend on the others in its batch."""
    crystals = example_crystals()
    together = _embed(backbone, crystals, settings)
    n_atoms = sum(len(crystal) for crystal in crystals)
    expected = ((n_atoms, backbone.node_features), (len(crystals), backbone.node_features))
    found = (tuple(together.nodes.shape), tuple(together.graph.shape))
    assert found == expected, f"shapes: expected nodes and graph {expected}, got {found}"
    alone = [_embed(backbone, [crystal], settings) for crystal in crystals]
    one = alone[0].graph
    assert one.shape == (1, backbone.node_features), f"batch of one: got {tuple(one.shape)}"
    is_finite = all(bool(part.isfinite().all()) for embedding in (together, alone[0]) for part in embedding)
    assert is_finite, "outputs are not all finite"
    _assert_close("batched equals single (graph)", together.graph, torch.cat([one.graph for one in alone]), SAME)
    _assert_close("batched equals single (nodes)", together.nodes, torch.cat([one.nodes for one in alone]), SAME)


def _check_symmetries(backbone: Backbone, settings: GraphSettings) -> None:
    """Check that the pooled embedding does not depend on how a crystal is described."""
    crystals = example_crystals()
    expected = _embed(backbone, crystals, settings).graph
    changed = {
        **_same_crystals(crystals),
        "atom permutation": [_backward(crystal) for crystal in crystals],
        "supercell equals cell": [supercell(crystal, (2, 1, 1)) for crystal in crystals],
    }
    for clause, others in changed.items():
        _assert_close(clause, _embed(backbone, others, settings).graph, expected, ROUNDED)


def _same_crystals(crystals: Sequence[Crystal]) -> dict[str, list[Crystal]]:
    """Return the crystals with the same atoms in the same order, described in other ways."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)  # not a reflection
    shift = np.array([0.137, -0.291, 0.053])
    random = np.random.default_rng(1)
    return {
        "rotation": [Crystal(c.lattice @ rotation, c.frac_coords, c.atomic_numbers) for c in crystals],
        "translation": [Crystal(c.lattice, c.frac_coords + shift, c.atomic_numbers) for c in crystals],
        "periodic image": [
            Crystal(c.lattice, c.frac_coords + random.integers(-2, 3, size=(len(c), 3)), c.atomic_numbers)
            for c in crystals
        ],
    }


def _backward(crystal: Crystal) -> Crystal:
    """Return the crystal with its atoms in reverse order."""
    return Crystal(crystal.lattice, crystal.frac_coords[::-1], crystal.atomic_numbers[::-1])


def _without_bonds(settings: GraphSettings) -> tuple[Crystal, GraphSettings]:
    """Return a crystal, and settings for which its atom has no neighbors."""
    by_radius = {"neighbor_strategy": "radius", "cutoff": 8.0, "as_jarvis": False}
    return Crystal.from_arrays(30 * np.eye(3), [[0.5, 0.5, 0.5]], ["Ar"]), settings.model_copy(update=by_radius)


def _check_inputs_unchanged(backbone: Backbone, settings: GraphSettings) -> None:
    """Check that the backbone does not change its input, and is deterministic in evaluation mode."""
    batch = collate_crystals(example_crystals(), settings).double()
    tensors = (batch.atom_features, batch.bond_vectors, batch.atomic_numbers, batch.n_atoms)
    before = [tensor.clone() for tensor in tensors]
    first = backbone(batch).graph
    second = backbone(batch).graph
    assert all(torch.equal(*pair) for pair in zip(tensors, before, strict=True)), "the backbone changes its input"
    assert torch.equal(first, second), "two calls on one batch differ"


def _check_merging(backbone: Backbone, settings: GraphSettings) -> None:
    """Compare embeddings and gradients with and without merging symmetry-equivalent atoms."""
    results = []
    for merge in (False, True):
        backbone.zero_grad()
        embedding = backbone(collate_crystals(example_crystals(), settings, merge=merge).double())
        (embedding.graph.cos().sum() + embedding.nodes.sin().sum()).backward()
        gradients = [weight.grad.flatten() for weight in backbone.parameters() if weight.grad is not None]
        results.append((embedding.nodes.detach(), embedding.graph.detach(), torch.cat(gradients)))
    for name, expected, found in zip(("nodes", "graph", "gradients"), *results, strict=True):
        _assert_close(f"equivalent atoms computed once ({name})", found, expected, ROUNDED)


def _check_gradients(backbone: Backbone, settings: GraphSettings) -> None:
    """Check that all weights get finite gradients, also in a batch without bonds and in a batch of one crystal."""
    crystals = example_crystals()
    lone_atom, by_radius = _without_bonds(settings)
    without_bonds = collate_crystals([lone_atom], by_radius)
    for batch in (without_bonds, collate_crystals(crystals[:1], settings), collate_crystals(crystals, settings)):
        backbone.zero_grad()
        embedding = backbone(batch)
        (embedding.graph.square().sum() + embedding.graph.sum()).backward()
        gradients = {name: weight.grad for name, weight in backbone.named_parameters() if weight.requires_grad}
        broken = [name for name, grad in gradients.items() if grad is not None and not bool(grad.isfinite().all())]
        assert not broken, f"the gradient is not finite in {', '.join(broken)}"
    unreached = [name for name, grad in gradients.items() if grad is None]
    assert not unreached, f"no gradient reaches {', '.join(unreached)}"


def check_teacher(teacher: Teacher, again: Teacher | None = None) -> None:
    """Check a teacher against the contract: shapes, batches, symmetries, and a checksum that stays.

    Args:
        teacher: Teacher to check.
        again: The same teacher, loaded a second time, if that is to be checked.

    Raises:
        AssertionError: With the clause that does not hold.
    """
    crystals = example_crystals()
    for text in (teacher.name, teacher.checksum):
        assert isinstance(text, str), f"name and checksum are texts, not {text!r}"
    expected = teacher.embed(crystals)
    shape = (sum(map(len, crystals)), teacher.width)
    assert expected.shape == shape, f"shape: expected {shape}, got {expected.shape}"
    assert np.isfinite(expected).all(), "features are not all finite"
    largest = np.abs(expected).max()
    assert len(np.unique(expected.round(6), axis=0)) > len(crystals), "atoms of different elements have equal features"

    def compare(clause: str, found: np.ndarray, expected: np.ndarray) -> None:
        assert found.shape == expected.shape, f"{clause}: expected shape {expected.shape}, got {found.shape}"
        difference = np.abs(found - expected).max()
        assert difference <= SINGLE * largest, f"{clause}: differs by {difference:.3g} of {largest:.3g}"

    compare("two calls on the same crystals", teacher.embed(crystals), expected)
    compare("batched equals single", np.concatenate([teacher.embed([crystal]) for crystal in crystals]), expected)
    for clause, others in _same_crystals(crystals).items():
        compare(clause, teacher.embed(others), expected)
    starts = np.cumsum([len(crystal) for crystal in crystals])[:-1]
    backward = np.split(teacher.embed([_backward(crystal) for crystal in crystals]), starts)
    compare("order of the atoms", np.concatenate([rows[::-1] for rows in backward]), expected)
    doubled = teacher.embed([supercell(crystal, (2, 1, 1)) for crystal in crystals])
    compare("supercell equals cell", doubled, np.repeat(expected, 2, axis=0))
    if again is not None:
        identity = (again.name, again.width, again.checksum)
        assert identity == (teacher.name, teacher.width, teacher.checksum), f"loaded again, it is {identity}"
        compare("loaded again", again.embed(crystals), expected)
