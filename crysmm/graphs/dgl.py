"""DGL graphs: the one door to dgl, the crystal graph and its line graph in ALIGNN's conventions."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor

from crysmm.config.graph import AtomFeatures, GraphSettings, NeighborStrategy
from crysmm.crystal import as_crystal
from crysmm.elements import feature_table
from crysmm.errors import InputError, MissingDependencyError
from crysmm.graphs.neighbors import find_edges

if TYPE_CHECKING:
    import dgl

INSTALL_LINE = 'pip install "dgl>=1.1.3,<2" packaging'


def import_dgl() -> ModuleType:
    """The ``dgl`` package, imported so that it writes nothing into the home folder.

    Raises:
        MissingDependencyError: dgl is not installed, or is installed and does not load.
    """
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        return import_module("dgl")
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"DGL graphs need the dgl package, which cannot be imported here ({error}). Install it with\n"
            f"    {INSTALL_LINE}\n"
            "It has wheels for Python up to 3.11. Training and prediction with the default engine do without it."
        ) from error


def crystal_graph(
    atoms: Any,
    *,
    neighbor_strategy: NeighborStrategy = "k-nearest",
    cutoff: float = 8.0,
    max_neighbors: int = 12,
    atom_features: AtomFeatures = "cgcnn",
    as_jarvis: bool = False,
    use_canonize: bool = True,
) -> dgl.DGLGraph:
    """The graph of a crystal; the keywords are those of :class:`~crysmm.config.graph.GraphSettings`.

    All but ``triplet_cutoff``, which is the line graph's.

    Args:
        atoms: JARVIS ``Atoms``, a pymatgen ``Structure``, ``ase.Atoms``, a ``Crystal`` or a dict of one.
        neighbor_strategy: which neighbours become bonds (:func:`~crysmm.graphs.neighbors.find_edges`).
        cutoff: radius of the search, Angstrom.
        max_neighbors: k of ``k-nearest``, ``cgcnn`` and ``alignn-torch``.
        atom_features: the element features (:func:`~crysmm.elements.feature_table`).
        as_jarvis: the edges JARVIS lists, some of them twice.
        use_canonize: with ``as_jarvis``, JARVIS' option of that name.

    Returns:
        A graph with ``ndata`` ``atom_features`` ``[n_atoms, F]`` float32, ``Z`` ``[n_atoms]`` int64 and
        ``frac_coords`` ``[n_atoms, 3]`` float32; ``edata`` ``r`` ``[n_edges, 3]`` float32, Angstrom, and
        ``images`` ``[n_edges, 3]`` float32. For every edge r = (x_dst + image - x_src) . lattice. Edges are
        sorted by (destination, source, image).

    Raises:
        InputError: a keyword's value is not allowed, or ``as_jarvis`` is given without ``k-nearest``.
        StructureError: the structure is not usable.
        MissingDependencyError: dgl is not installed.
    """
    dgl = import_dgl()
    try:
        settings = GraphSettings(
            neighbor_strategy=neighbor_strategy,
            cutoff=cutoff,
            max_neighbors=max_neighbors,
            atom_features=atom_features,
            as_jarvis=as_jarvis,
            use_canonize=use_canonize,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{problem['loc'][0]}: {problem['msg']}, got {problem['input']!r}") from None
    crystal = as_crystal(atoms)
    edges = find_edges(crystal, settings)
    graph = dgl.graph(
        (torch.from_numpy(edges.source).long(), torch.from_numpy(edges.destination).long()), num_nodes=len(crystal)
    )
    graph.ndata["atom_features"] = torch.from_numpy(feature_table(atom_features)[crystal.atomic_numbers])
    graph.ndata["Z"] = torch.from_numpy(crystal.atomic_numbers).long()
    graph.ndata["frac_coords"] = torch.from_numpy(crystal.frac_coords).float()
    graph.edata["r"] = torch.from_numpy(edges.vectors(crystal)).float()
    graph.edata["images"] = torch.from_numpy(edges.image).float()
    return graph


def line_graph(graph: dgl.DGLGraph, *, as_jarvis: bool = False, triplet_cutoff: float | None = None) -> dgl.DGLGraph:
    """The line graph: its nodes are the bonds, its edges the angles between a bond and the next.

    Bonds e1 = u->v and e2 = v->w are joined for every e1 into and e2 out of an atom v. That includes (e, e) where
    e ends at an image of the atom it starts from; DGL's own ``line_graph`` leaves these out, and then a cell and
    its supercell differ.

    Args:
        graph: a graph with ``edata["r"]`` (a batch of them as well).
        as_jarvis: leave (e, e) out, to have what ``graph.line_graph(shared=True)`` gives, edge for edge.
        triplet_cutoff: leave out pairs with a bond longer than this, Angstrom.

    Returns:
        A graph of ``graph.num_edges()`` nodes with ``ndata["r"]``, the bond vectors, and ``edata["h"]``, the cosine
        of the angle at v, ``-r1 . r2 / (|r1| |r2|)`` (Choudhary and DeCost 2021). Edges are sorted by (e1, e2).
    """
    dgl = import_dgl()
    source, destination = graph.edges()
    first, second = _consecutive_bonds(source, destination, graph.num_nodes())
    vectors = graph.edata["r"]
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    kept = first != second if as_jarvis else torch.ones_like(first, dtype=torch.bool)
    if triplet_cutoff is not None:
        short = lengths <= triplet_cutoff
        kept = kept & short[first] & short[second]
    first, second = first[kept], second[kept]
    angles = dgl.graph((first, second), num_nodes=graph.num_edges(), idtype=graph.idtype, device=graph.device)
    angles.ndata["r"] = vectors
    products = (-vectors[first] * vectors[second]).sum(dim=1)
    angles.edata["h"] = (products / (lengths[first] * lengths[second])).clamp(-1, 1)
    bonds = graph.batch_num_edges()
    crystal_of_bond = torch.repeat_interleave(torch.arange(len(bonds), device=graph.device), bonds)
    angles.set_batch_num_nodes(bonds)
    angles.set_batch_num_edges(torch.bincount(crystal_of_bond[first], minlength=len(bonds)))
    return angles


def _consecutive_bonds(source: Tensor, destination: Tensor, n_nodes: int) -> tuple[Tensor, Tensor]:
    """All pairs of edges (e1, e2), e2 starting where e1 ends, sorted; two ``[n_pairs]`` int64."""
    by_source = torch.argsort(source, stable=True)
    out_degree = torch.bincount(source, minlength=n_nodes)
    first_out = out_degree.cumsum(0) - out_degree
    n_next = out_degree[destination.long()]
    first = torch.repeat_interleave(torch.arange(len(source), device=source.device), n_next)
    place = torch.arange(len(first), device=source.device) - (n_next.cumsum(0) - n_next)[first]
    return first, by_source[first_out[destination.long()][first] + place]
