"""The contract every backbone passes: call :func:`check_backbone` in a test of your own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.data.batch import CrystalBatch, collate_crystals
from crysmm.models.backbone import Backbone, Embedding

SAME = 1e-10  # float64 sums taken in another order
ROUNDED = 1e-5  # the same crystal whose bond vectors were rounded to float32 elsewhere


def example_crystals() -> list[Crystal]:
    """Five small crystals: two elements, one atom in the cell, self-image bonds, unequal degrees."""
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
    """The same crystal in a cell ``repeats`` times as large; the copies of an atom stand together."""
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), axis=-1).reshape(-1, 3)
    coords = (crystal.frac_coords[:, None] + cells).reshape(-1, 3) / np.array(repeats)
    return Crystal(crystal.lattice * np.array(repeats)[:, None], coords, np.repeat(crystal.atomic_numbers, len(cells)))


def check_backbone(backbone: Backbone, settings: GraphSettings | None = None) -> None:
    """Check a backbone against the contract: shapes, batches, symmetries, gradients.

    Args:
        backbone: as constructed; it is copied, not changed.
        settings: graphs to check it on; by default k-nearest, on which all symmetries hold.

    Raises:
        AssertionError: naming the clause that does not hold.
    """
    settings = settings or GraphSettings()
    crystals = example_crystals()
    exact = copy.deepcopy(backbone).double().eval()
    _check_shapes(exact, crystals, settings)
    _check_batches(exact, crystals, settings)
    _check_symmetries(exact, crystals, settings)
    _check_isolated_atom(exact, settings)
    _check_inputs_unchanged(exact, collate_crystals(crystals, settings).double())
    if getattr(getattr(exact, "config", None), "merges_equivalent", False):
        _check_alike(exact, crystals, settings)
        _check_alike(copy.deepcopy(exact).train(), crystals, settings)
    _check_training(copy.deepcopy(backbone).train(), crystals, settings)


def _embed(backbone: Backbone, crystals: list[Crystal], settings: GraphSettings) -> Embedding:
    with torch.no_grad():
        return backbone(collate_crystals(crystals, settings).double())


def _agree(clause: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    assert difference <= tolerance * max(largest, 1e-3), f"{clause}: differs by {difference:.3g} of {largest:.3g}"


def _check_alike(backbone: Backbone, crystals: list[Crystal], settings: GraphSettings) -> None:
    results = []
    for merge in (False, True):
        backbone.zero_grad()
        embedding = backbone(collate_crystals(crystals, settings, merge=merge).double())
        (embedding.graph.cos().sum() + embedding.nodes.sin().sum()).backward()
        gradients = [weight.grad.flatten() for weight in backbone.parameters() if weight.grad is not None]
        results.append((embedding.nodes.detach(), embedding.graph.detach(), torch.cat(gradients)))
    for name, expected, found in zip(("nodes", "graph", "gradients"), *results, strict=True):
        _agree(f"one atom computed for all alike ({name})", found, expected, ROUNDED)


def _check_shapes(backbone: Backbone, crystals: list[Crystal], settings: GraphSettings) -> None:
    embedding = _embed(backbone, crystals, settings)
    n_atoms = sum(len(crystal) for crystal in crystals)
    expected = ((n_atoms, backbone.node_features), (len(crystals), backbone.node_features))
    found = (tuple(embedding.nodes.shape), tuple(embedding.graph.shape))
    assert found == expected, f"shapes: expected nodes and graph {expected}, got {found}"
    one = _embed(backbone, crystals[:1], settings)
    assert one.graph.shape == (1, backbone.node_features), f"batch of one: got {tuple(one.graph.shape)}"
    assert all(bool(part.isfinite().all()) for part in (*embedding, *one)), "outputs are not all finite"


def _check_batches(backbone: Backbone, crystals: list[Crystal], settings: GraphSettings) -> None:
    together = _embed(backbone, crystals, settings)
    alone = [_embed(backbone, [crystal], settings) for crystal in crystals]
    _agree("batched equals single (graph)", together.graph, torch.cat([one.graph for one in alone]), SAME)
    _agree("batched equals single (nodes)", together.nodes, torch.cat([one.nodes for one in alone]), SAME)


def _check_symmetries(backbone: Backbone, crystals: list[Crystal], settings: GraphSettings) -> None:
    if settings.neighbor_strategy in ("cgcnn", "alignn-torch") or settings.as_jarvis:
        return  # a tie cut at the k-th neighbour, or a shell without tolerance, depends on how a crystal is written
    expected = _embed(backbone, crystals, settings).graph
    for clause, change in _symmetries():
        changed = _embed(backbone, [change(crystal) for crystal in crystals], settings).graph
        _agree(clause, changed, expected, ROUNDED)
    larger = _embed(backbone, [supercell(crystal, (2, 1, 1)) for crystal in crystals], settings).graph
    _agree("supercell equals cell", larger, expected, ROUNDED)


def _symmetries() -> Iterator[tuple[str, Callable[[Crystal], Crystal]]]:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    shift = np.array([0.137, -0.291, 0.053])
    yield "rotation", lambda c: Crystal(c.lattice @ rotation, c.frac_coords, c.atomic_numbers)
    yield "translation", lambda c: Crystal(c.lattice, c.frac_coords + shift, c.atomic_numbers)
    yield "atom permutation", lambda c: Crystal(c.lattice, c.frac_coords[::-1], c.atomic_numbers[::-1])
    yield "periodic image", lambda c: Crystal(c.lattice, c.frac_coords + _images(len(c)), c.atomic_numbers)


def _images(n_atoms: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-2, 3, size=(n_atoms, 3))


def _lone_atom() -> Crystal:
    return Crystal.from_arrays(30 * np.eye(3), [[0.5, 0.5, 0.5]], ["Ar"])


def _by_radius(settings: GraphSettings) -> GraphSettings:
    """Settings by which :func:`_lone_atom` has no neighbors."""
    return settings.model_copy(update={"neighbor_strategy": "radius", "cutoff": 8.0, "as_jarvis": False})


def _check_isolated_atom(backbone: Backbone, settings: GraphSettings) -> None:
    alone, by_radius = _lone_atom(), _by_radius(settings)
    for crystals in ([alone], [*example_crystals()[1:3], alone]):
        graph = _embed(backbone, crystals, by_radius).graph
        assert bool(graph.isfinite().all()), "an atom without neighbors: the output is not finite"


def _check_inputs_unchanged(backbone: Backbone, batch: CrystalBatch) -> None:
    tensors = (batch.atom_features, batch.bond_vectors, batch.atomic_numbers, batch.n_atoms)
    before = [tensor.clone() for tensor in tensors]
    first = backbone(batch).graph
    second = backbone(batch).graph
    assert all(torch.equal(*pair) for pair in zip(tensors, before, strict=True)), "the backbone changes its input"
    assert torch.equal(first, second), "two calls on one batch differ"


def _check_training(backbone: Backbone, crystals: list[Crystal], settings: GraphSettings) -> None:
    without_bonds = collate_crystals([_lone_atom()], _by_radius(settings))
    for batch in (without_bonds, collate_crystals(crystals[:1], settings), collate_crystals(crystals, settings)):
        backbone.zero_grad()
        embedding = backbone(batch)
        (embedding.graph.square().sum() + embedding.graph.sum()).backward()
        gradients = {name: weight.grad for name, weight in backbone.named_parameters() if weight.requires_grad}
        broken = [name for name, grad in gradients.items() if grad is not None and not bool(grad.isfinite().all())]
        assert not broken, f"the gradient is not finite in {', '.join(broken)}"
    unreached = [name for name, grad in gradients.items() if grad is None]
    assert not unreached, f"no gradient reaches {', '.join(unreached)}"
