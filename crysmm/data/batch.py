"""A batch of crystals as tensors, put together without a loop over crystals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crysmm.config.graph import GraphSettings
from crysmm.crystal import Crystal
from crysmm.engines.blocked import Connectivity
from crysmm.graphs.features import feature_table
from crysmm.graphs.neighbors import EdgeList, find_edges


@dataclass(frozen=True, eq=False)
class CrystalBatch:
    """Crystals side by side: their atoms stand together, crystal by crystal.

    Args:
        ids: one a crystal.
        n_atoms: ``[n_crystals]`` int64.
        atomic_numbers: ``[n_atoms_in_all]`` int64.
        atom_features: ``[n_atoms_in_all, F]`` float32.
        lattice: ``[n_crystals, 3, 3]`` float32, Angstrom, rows are the lattice vectors.
        bond_vectors: ``[n_edges, 3]`` float32, Angstrom, in the order of ``connectivity``.
        connectivity: who is bonded to whom.
        as_jarvis: the line graph leaves out the pairs (e, e), as DGL's does.
        triplet_cutoff: the line graph leaves out the pairs with a bond longer than this, Angstrom; ``None`` for none.
        targets: ``[n_crystals, n_targets]`` float64 in the units of the input, or ``None``.
        space_groups: ``[n_crystals]`` int64, 1 to 230 or 0 where unknown; ``None`` where not looked for.
        teacher_nodes: ``[n_atoms_in_all, width]`` float32, a teacher's embeddings of the atoms, or ``None``.
        texts: of the crystals' descriptions ``[n_crystals, width]`` float32 embeddings, NaN where one has none, or
            ``[n_crystals, longest]`` int32 tokens; or ``None``.
    """

    ids: list[str]
    n_atoms: Tensor
    atomic_numbers: Tensor
    atom_features: Tensor
    lattice: Tensor
    bond_vectors: Tensor
    connectivity: Connectivity
    as_jarvis: bool
    triplet_cutoff: float | None = None
    targets: Tensor | None = None
    space_groups: Tensor | None = None
    teacher_nodes: Tensor | None = None
    texts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> CrystalBatch:
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> CrystalBatch:
        """The same batch in pinned memory, from where it is copied to a GPU faster."""
        return self._map(lambda tensor: tensor.pin_memory())

    def double(self) -> CrystalBatch:
        """The same batch with float64 features and vectors, as they are (rounded to float32)."""
        return self._map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def _map(self, change: Callable[[Tensor], Tensor]) -> CrystalBatch:
        return replace(
            self,
            n_atoms=change(self.n_atoms),
            atomic_numbers=change(self.atomic_numbers),
            atom_features=change(self.atom_features),
            lattice=change(self.lattice),
            bond_vectors=change(self.bond_vectors),
            connectivity=self.connectivity.map(change),
            targets=None if self.targets is None else change(self.targets),
            space_groups=None if self.space_groups is None else change(self.space_groups),
            teacher_nodes=None if self.teacher_nodes is None else change(self.teacher_nodes),
            texts=None if self.texts is None else change(self.texts),
        )


@dataclass(frozen=True, eq=False)
class CrystalArrays:
    """Several crystals and their edges as flat arrays, the form they have on disk.

    Args:
        n_atoms: ``[n_crystals]``.
        n_edges: ``[n_crystals]``.
        atomic_numbers: ``[n_atoms_in_all]``.
        frac_coords: ``[n_atoms_in_all, 3]`` float64.
        lattice: ``[n_crystals, 3, 3]`` float64, Angstrom.
        in_degree: ``[n_atoms_in_all]`` edges into each atom; they stand together.
        source: ``[n_edges_in_all]``, counted within the crystal.
        image: ``[n_edges_in_all, 3]``.
    """

    n_atoms: np.ndarray
    n_edges: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    lattice: np.ndarray
    in_degree: np.ndarray
    source: np.ndarray
    image: np.ndarray

    @classmethod
    def join(cls, crystals: Sequence[Crystal], edges: Sequence[EdgeList]) -> CrystalArrays:
        """The arrays of some crystals, one list of edges each."""
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
        )


def make_batch(
    arrays: CrystalArrays, settings: GraphSettings, ids: list[str], targets: np.ndarray | None = None
) -> CrystalBatch:
    """The batch of some crystals whose edges are known.

    Args:
        arrays: the crystals.
        settings: what their graphs were made with.
        ids: one a crystal.
        targets: ``[n_crystals, n_targets]`` or ``None``.
    """
    n_atoms_in_all = len(arrays.atomic_numbers)
    first_atom = np.cumsum(arrays.n_atoms) - arrays.n_atoms
    crystal = np.repeat(np.arange(len(arrays.n_edges)), arrays.n_edges)
    source = arrays.source.astype(np.int64) + first_atom[crystal]
    destination = np.repeat(np.arange(n_atoms_in_all), arrays.in_degree)
    steps = arrays.frac_coords[destination] + arrays.image - arrays.frac_coords[source]
    vectors = np.einsum("ei,eij->ej", steps, arrays.lattice[crystal])
    connectivity, order = Connectivity.sort(source, destination, n_atoms_in_all)
    return CrystalBatch(
        ids=ids,
        n_atoms=torch.from_numpy(arrays.n_atoms.astype(np.int64)),
        atomic_numbers=torch.from_numpy(arrays.atomic_numbers.astype(np.int64)),
        atom_features=torch.from_numpy(feature_table(settings.atom_features)[arrays.atomic_numbers]),
        lattice=torch.from_numpy(arrays.lattice.astype(np.float32)),
        bond_vectors=torch.from_numpy(vectors[order].astype(np.float32)),
        connectivity=connectivity,
        as_jarvis=settings.as_jarvis,
        triplet_cutoff=settings.triplet_cutoff,
        targets=None if targets is None else torch.from_numpy(np.array(targets, dtype=np.float64)),
    )


def collate_crystals(
    crystals: Sequence[Crystal],
    settings: GraphSettings,
    ids: Sequence[str] | None = None,
    targets: np.ndarray | None = None,
) -> CrystalBatch:
    """The batch of some crystals, their edges found here.

    Raises:
        StructureError: a crystal has atoms that overlap.
    """
    arrays = CrystalArrays.join(crystals, [find_edges(crystal, settings) for crystal in crystals])
    names = [str(index) for index in range(len(crystals))] if ids is None else list(ids)
    return make_batch(arrays, settings, names, targets)
