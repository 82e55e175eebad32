"""Batches of crystals as tensors, assembled without a loop over crystals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.elements import feature_table
from crysmm.engines.blocked import AtomClasses, Connectivity
from crysmm.engines.segments import Segments, map_tensors
from crysmm.graphs.equivalence import Equivalence, find_equivalence
from crysmm.graphs.neighbors import EdgeList, find_edges


@dataclass(frozen=True, eq=False)
class MergedAtoms:
    """Atoms that represent all equivalent ones, see :meth:`Connectivity.merge`.

    Args:
        representatives: Atoms that are computed, ``[n_nodes]`` int64.
        atoms: Assignment of all atoms to their representatives.
        outgoing_vectors: Vectors of the connectivity's outgoing edges, ``[n_outgoing, 3]`` float32, Angstrom.
    """

    representatives: Tensor
    atoms: Segments
    outgoing_vectors: Tensor


@dataclass(frozen=True, eq=False)
class CrystalBatch:
    """Batch of crystals; atoms are concatenated crystal by crystal.

    Args:
        ids: Crystal ids, ``[n_crystals]``.
        n_atoms: Atoms per crystal, ``[n_crystals]`` int64.
        atomic_numbers: Atomic numbers, ``[n_atoms_in_all]`` int64.
        atom_features: Atom features, ``[n_atoms_in_all, F]`` float32.
        bond_vectors: Bond vectors in the order of ``connectivity``, ``[n_edges, 3]`` float32, Angstrom.
        connectivity: Bonds of the atoms, or of the representatives of equivalent atoms.
        as_jarvis: True if the line graph leaves out the pairs (e, e), like DGL's.
        triplet_cutoff: Longest bond in the pairs of the line graph, Angstrom; None for no limit.
        targets: Targets in the units of the input, ``[n_crystals, n_targets]`` float64, NaN where missing; or None.
        labels_per_crystal: Mean number of targets that a crystal has, over the crystals of all processes; None if
            none is missing.
        space_groups: Space group numbers, ``[n_crystals]`` int64, 0 where unknown; None if not determined.
        teacher_features: Atom embeddings of a teacher, ``[n_atoms_in_all, width]`` float32, or None.
        potential_features: Features of the atoms by a potential, ``[n_atoms_in_all, width]`` float32, or None.
        texts: Embeddings of descriptions, ``[n_crystals, width]`` float32 with NaN for a missing one, or tokens,
            ``[n_crystals, longest]`` int32; or None.
        merged: Equivalent atoms, if ``connectivity`` covers representatives only.
    """

    ids: list[str]
    n_atoms: Tensor
    atomic_numbers: Tensor
    atom_features: Tensor
    bond_vectors: Tensor
    connectivity: Connectivity
    as_jarvis: bool
    triplet_cutoff: float | None = None
    targets: Tensor | None = None
    labels_per_crystal: float | None = None
    space_groups: Tensor | None = None
    teacher_features: Tensor | None = None
    potential_features: Tensor | None = None
    texts: Tensor | None = None
    merged: MergedAtoms | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def bond_lengths(self) -> Tensor:
        """Compute the bond lengths, ``[n_edges]``, Angstrom."""
        return torch.linalg.vector_norm(self.bond_vectors, dim=1)

    def to(self, device: torch.device | str) -> CrystalBatch:
        """Return the batch on another device."""
        return map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def double(self) -> CrystalBatch:
        """Return the batch with features and vectors as float64, their float32 values unchanged."""
        return map_tensors(self, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


@dataclass(frozen=True, eq=False)
class CrystalArrays:
    """Crystals and their edges as flat arrays, as stored on disk.

    Args:
        n_atoms: Atoms per crystal, ``[n_crystals]``.
        n_edges: Edges per crystal, ``[n_crystals]``.
        atomic_numbers: Atomic numbers, ``[n_atoms_in_all]``.
        frac_coords: Fractional coordinates, ``[n_atoms_in_all, 3]`` float64.
        lattice: Lattice vectors as rows, ``[n_crystals, 3, 3]`` float64, Angstrom.
        in_degree: Incoming edges of each atom, ``[n_atoms_in_all]``; edges are sorted by destination.
        source: Source atom of each edge, counted within its crystal, ``[n_edges_in_all]``.
        image: Periodic image of each edge, ``[n_edges_in_all, 3]``.
        representative: Representative of each atom, counted within its crystal, ``[n_atoms_in_all]``; see
            :class:`Equivalence`. None if equivalence was not determined.
        edge_class: Class of each edge, counted within its crystal, ``[n_edges_in_all]``, or None.
    """

    n_atoms: np.ndarray
    n_edges: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    lattice: np.ndarray
    in_degree: np.ndarray
    source: np.ndarray
    image: np.ndarray
    representative: np.ndarray | None = None
    edge_class: np.ndarray | None = None

    @classmethod
    def join(
        cls, crystals: Sequence[Crystal], edges: Sequence[EdgeList], classes: Sequence[Equivalence] | None = None
    ) -> CrystalArrays:
        """Concatenate crystals, their edges and their equivalence classes."""
        return cls(
            np.array([len(crystal) for crystal in crystals]),
            np.array([len(edge_list) for edge_list in edges]),
            np.concatenate([crystal.atomic_numbers for crystal in crystals]),
            np.concatenate([crystal.frac_coords for crystal in crystals]),
            np.stack([crystal.lattice for crystal in crystals]),
            np.concatenate(
                [
                    np.bincount(edge_list.destination, minlength=len(crystal))
                    for crystal, edge_list in zip(crystals, edges, strict=True)
                ]
            ),
            np.concatenate([edge_list.source for edge_list in edges]),
            np.concatenate([edge_list.image for edge_list in edges]),
            None if classes is None else np.concatenate([of_crystal.representative for of_crystal in classes]),
            None if classes is None else np.concatenate([of_crystal.edge_class for of_crystal in classes]),
        )

    def classes(self) -> tuple[AtomClasses, np.ndarray] | None:
        """Return the classes of atoms and edges, or None if no edges are equivalent.

        Edge classes, ``[n_edges_in_all]``, are numbered from 0 without gaps.
        """
        if self.representative is None or self.edge_class is None:
            return None
        numbers = self.edge_class + np.repeat(np.cumsum(self.n_edges) - self.n_edges, self.n_edges)
        places = np.cumsum(np.bincount(numbers) > 0) - 1
        if len(places) == 0 or places[-1] + 1 == len(numbers):
            return None
        first_atom = np.repeat(np.cumsum(self.n_atoms) - self.n_atoms, self.n_atoms)
        return AtomClasses.of(self.representative + first_atom), places[numbers]


def make_batch(
    arrays: CrystalArrays,
    settings: GraphSettings,
    ids: list[str],
    targets: np.ndarray | None = None,
    *,
    merge: bool = False,
) -> CrystalBatch:
    """Assemble a batch from crystals with known edges.

    Args:
        arrays: Crystals and their edges.
        settings: Graph settings of the edges.
        ids: Crystal ids, ``[n_crystals]``.
        targets: Targets, ``[n_crystals, n_targets]``, NaN where missing; or None.
        merge: True to keep one representative of equivalent atoms, if any are equivalent.
    """
    n_atoms_in_all = len(arrays.atomic_numbers)
    first_atom = np.cumsum(arrays.n_atoms) - arrays.n_atoms
    crystal = np.repeat(np.arange(len(arrays.n_edges)), arrays.n_edges)
    source = arrays.source.astype(np.int64) + first_atom[crystal]
    destination = np.repeat(np.arange(n_atoms_in_all), arrays.in_degree)
    classes = arrays.classes() if merge else None
    if classes is None:
        connectivity, kept = Connectivity.sort(source, destination, n_atoms_in_all)
    else:
        atoms, edge_classes = classes
        connectivity, incoming, outgoing = Connectivity.merge(source, destination, atoms, edge_classes)
        kept = np.concatenate((incoming, outgoing))
    # only edges that are computed get a vector; take needs a third of the time of fancy indexing
    steps = arrays.frac_coords.take(destination.take(kept), axis=0) + arrays.image.take(kept, axis=0)
    steps -= arrays.frac_coords.take(source.take(kept), axis=0)
    lattices = arrays.lattice.take(crystal.take(kept), axis=0)
    vectors = torch.from_numpy(np.einsum("ei,eij->ej", steps, lattices).astype(np.float32))
    merged = None
    if classes is not None:
        vectors, outgoing_vectors = vectors.split([len(incoming), len(outgoing)])
        segments = Segments.of(atoms.node, len(atoms.representatives))
        merged = MergedAtoms(torch.from_numpy(atoms.representatives), segments, outgoing_vectors)
    return CrystalBatch(
        ids=ids,
        n_atoms=torch.from_numpy(arrays.n_atoms.astype(np.int64)),
        atomic_numbers=torch.from_numpy(arrays.atomic_numbers.astype(np.int64)),
        atom_features=torch.from_numpy(feature_table(settings.atom_features)[arrays.atomic_numbers]),
        bond_vectors=vectors,
        connectivity=connectivity,
        as_jarvis=settings.as_jarvis,
        triplet_cutoff=settings.triplet_cutoff,
        targets=None if targets is None else torch.from_numpy(np.array(targets, dtype=np.float64)),
        labels_per_crystal=None if targets is None else labels_per_crystal(targets),
        merged=merged,
    )


def labels_per_crystal(targets: np.ndarray) -> float | None:
    """Return the mean number of targets that a crystal has, or None if none is missing; NaN is a missing one."""
    present = ~np.isnan(targets)
    return None if present.all() else float(present.sum() / len(targets))


def collate_crystals(
    crystals: Sequence[Crystal],
    settings: GraphSettings,
    ids: Sequence[str] | None = None,
    targets: np.ndarray | None = None,
    *,
    merge: bool = False,
) -> CrystalBatch:
    """Find the edges of crystals and assemble a batch; arguments as in :func:`make_batch`.

    Raises:
        StructureError: Atoms of a crystal overlap.
    """
    edges = [find_edges(crystal, settings) for crystal in crystals]
    pairs = zip(crystals, edges, strict=True)
    classes = [find_equivalence(*pair, settings) for pair in pairs] if merge else None
    names = [str(index) for index in range(len(crystals))] if ids is None else list(ids)
    return make_batch(CrystalArrays.join(crystals, edges, classes), settings, names, targets, merge=merge)
