"""DGL graphs: the import of dgl, and crystal and line graphs in ALIGNN's conventions."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crysmm.config.graph import AtomFeatureSet, GraphSettings, NeighborStrategy
from crysmm.config.loading import make_config
from crysmm.crystals.conversion import as_crystal
from crysmm.elements import feature_table
from crysmm.errors import InputError, MissingDependencyError
from crysmm.graphs.neighbors import find_edges

if TYPE_CHECKING:
    import dgl

INSTALL_LINE = 'pip install "dgl>=1.1.3,<2" packaging'


def import_dgl() -> ModuleType:
    """Import the ``dgl`` package so that it writes nothing into the home folder.

    Raises:
        MissingDependencyError: dgl is not installed, or does not load.
    """
    # without a backend in the environment dgl writes its choice to ~/.dgl/config.json
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        return import_module("dgl")
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"DGL graphs need the dgl package, which cannot be imported here ({error}). Install it with\n"
            f"    {INSTALL_LINE}\n"
            "It has wheels for Python up to 3.11. Training and prediction with the default engine do not need it."
        ) from error


def crystal_graph(
    atoms: Any,
    *,
    neighbor_strategy: NeighborStrategy = "k-nearest",
    cutoff: float = 8.0,
    max_neighbors: int = 12,
    atom_features: AtomFeatureSet = "cgcnn",
    as_jarvis: bool = False,
    use_canonize: bool = True,
) -> dgl.DGLGraph:
    """Make the graph of a crystal.

    The keywords are those of :class:`~crysmm.config.graph.GraphSettings` but ``triplet_cutoff``, which belongs to
    :func:`line_graph`.

    Args:
        atoms: JARVIS ``Atoms``, a pymatgen ``Structure``, ``ase.Atoms``, a ``Crystal`` or a dict of one.
        neighbor_strategy: Choice of the neighbors that become bonds (:func:`~crysmm.graphs.neighbors.find_edges`).
        cutoff: Radius of the search, Angstrom.
        max_neighbors: k of ``k-nearest``, ``cgcnn`` and ``alignn-torch``.
        atom_features: Element features of the atoms (:func:`~crysmm.elements.feature_table`).
        as_jarvis: List the edges as JARVIS does, some of them twice.
        use_canonize: Option of JARVIS of that name, with ``as_jarvis``.

    Returns:
        Graph with ``ndata`` ``atom_features`` ``[n_atoms, F]`` float32, ``Z`` ``[n_atoms]`` int64 and
        ``frac_coords`` ``[n_atoms, 3]`` float32; ``edata`` ``r`` ``[n_edges, 3]`` float32, Angstrom, and
        ``images`` ``[n_edges, 3]`` float32. For every edge r = (x_dst + image - x_src) . lattice. Edges are
        sorted by (destination, source, image).

    Raises:
        InputError: The value of a keyword is not allowed, or ``as_jarvis`` is given without ``k-nearest``.
        StructureError: The structure is not usable.
        MissingDependencyError: dgl is not installed.
    """
    dgl = import_dgl()
    given = {
        "neighbor_strategy": neighbor_strategy,
        "cutoff": cutoff,
        "max_neighbors": max_neighbors,
        "atom_features": atom_features,
        "as_jarvis": as_jarvis,
        "use_canonize": use_canonize,
    }
    try:
        settings = make_config(GraphSettings, given)
    except InputError as error:
        raise InputError(str(error).replace("--", "")) from None  # keywords, not options
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
    """Make the line graph, with the bonds as nodes and the angles between successive bonds as edges.

    Bonds e1 = u->v and e2 = v->w are joined for every incoming e1 and outgoing e2 of an atom v. That includes (e, e)
    where e ends at an image of the atom it starts from; DGL's own ``line_graph`` leaves these out, and then a cell and
    its supercell differ.

    Args:
        graph: Graph, or batch of graphs, with ``edata["r"]``.
        as_jarvis: Leave (e, e) out, which gives ``graph.line_graph(shared=True)``, edge for edge.
        triplet_cutoff: Length of the longest bond that is part of a pair, Angstrom; None for any length.

    Returns:
        Graph of ``graph.num_edges()`` nodes with ``ndata["r"]``, the bond vectors, and ``edata["h"]``, the cosine of
        the angle at v, ``-r1 . r2 / (|r1| |r2|)`` (Choudhary and DeCost 2021). Edges are sorted by (e1, e2).
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
    # rounding may leave [-1, 1]
    products = (-vectors[first] * vectors[second]).sum(dim=1)
    angles.edata["h"] = (products / (lengths[first] * lengths[second])).clamp(-1, 1)
    # the line graph of a batch is again a batch, with the bonds and angles of each crystal
    bonds = graph.batch_num_edges()
    crystal_of_bond = torch.repeat_interleave(torch.arange(len(bonds), device=graph.device), bonds)
    angles.set_batch_num_nodes(bonds)
    angles.set_batch_num_edges(torch.bincount(crystal_of_bond[first], minlength=len(bonds)))
    return angles


def _consecutive_bonds(source: Tensor, destination: Tensor, n_nodes: int) -> tuple[Tensor, Tensor]:
    """List all pairs of edges (e1, e2) in which e2 starts where e1 ends, sorted; two ``[n_pairs]`` int64."""
    # e1 is repeated for each of its successors, which are a range of the edges sorted by source
    by_source = torch.argsort(source, stable=True)
    out_degree = torch.bincount(source, minlength=n_nodes)
    first_out = out_degree.cumsum(0) - out_degree
    n_next = out_degree[destination.long()]
    first = torch.repeat_interleave(torch.arange(len(source), device=source.device), n_next)
    place = torch.arange(len(first), device=source.device) - (n_next.cumsum(0) - n_next)[first]
    return first, by_source[first_out[destination.long()][first] + place]
