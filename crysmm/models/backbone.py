"""The interface of all backbones: a batch of crystals in, embeddings of atoms and crystals out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.data.batch import CrystalBatch
from crysmm.engines.blocked import BlockedGraph, Connectivity
from crysmm.engines.line_graph import BlockedLineGraph, incomplete_line_graph
from crysmm.engines.segments import Segments, gather
from crysmm.engines.topology import GatherTopology, Topology

if TYPE_CHECKING:
    import dgl

Engine = Literal["blocked", "dgl"]


@dataclass
class GraphInput:
    """A batch of crystals as tensors and topologies.

    Args:
        n_atoms: ``[n_crystals]`` int64; the atoms of a crystal stand together.
        atom_features: ``[n_nodes, F]``, of the atoms of ``graph``.
        atomic_numbers: ``[n_atoms_in_all]`` int64, or ``None`` for DGL graphs that carry no ``Z``.
        bond_vectors: ``[n_edges, 3]``, Angstrom, in the order of ``graph``.
        graph: atoms and bonds.
        line_graph: bonds and pairs of bonds; ``None`` where no layer needs it.
        cosines: ``[n_triplets]`` given with the graph, or ``None`` to compute them from the vectors.
        atoms: for each atom the one of ``graph`` that stands for it; ``None`` where each is there itself.
        leaving_vectors: ``[n_leaving, 3]``, Angstrom, of the edges out, where atoms stand for others.
    """

    n_atoms: Tensor
    atom_features: Tensor
    atomic_numbers: Tensor | None
    bond_vectors: Tensor
    graph: Topology
    line_graph: Topology | None
    cosines: Tensor | None = None
    atoms: Segments | None = None
    leaving_vectors: Tensor | None = None

    def bond_lengths(self) -> Tensor:
        """``[n_edges]``, Angstrom."""
        return torch.linalg.vector_norm(self.bond_vectors, dim=1)

    def bond_cosines(self) -> Tensor:
        """``[n_triplets]`` cosine of the angle between the bonds u->v and v->w at v, as ALIGNN: -r1.r2/(|r1||r2|)."""
        if self.cosines is not None:
            return self.cosines
        if self.line_graph is None:
            raise ValueError("this input was made without a line graph")
        directions = functional.normalize(self.bond_vectors, dim=1, eps=0)
        if self.leaving_vectors is None:
            leaving = self.line_graph.at_destination(directions)
        else:
            assert isinstance(self.line_graph, BlockedLineGraph)
            leaving = self.line_graph.of_leaving(functional.normalize(self.leaving_vectors, dim=1, eps=0))
        products = self.line_graph.at_source(directions) * leaving
        return products.sum(1).neg().clamp(-1, 1)


def from_batch(batch: CrystalBatch, engine: Engine, with_line_graph: bool) -> GraphInput:
    """The input of a backbone from a batch of crystals.

    Raises:
        MissingDependencyError: the dgl engine is asked for and dgl is not installed.
        ValueError: the dgl engine is asked for, and atoms of the batch stand for others.
    """
    edges, merged = batch.connectivity, batch.merged
    if merged is not None:
        if engine == "dgl":
            raise ValueError("the dgl engine needs every atom: make the batch without merging")
        return GraphInput(
            batch.n_atoms,
            batch.atom_features.index_select(0, merged.first),
            batch.atomic_numbers,
            batch.bond_vectors,
            BlockedGraph(edges, len(merged.first)),
            BlockedLineGraph(edges) if with_line_graph else None,
            atoms=merged.atoms,
            leaving_vectors=merged.leaving_vectors,
        )
    n_atoms = len(batch.atom_features)
    graph: Topology = BlockedGraph(edges, n_atoms)
    line_graph: Topology | None = None
    if with_line_graph:
        line_graph = _line_graph(batch)
    if engine == "dgl":
        from crysmm.engines.dgl import DGLTopology

        graph = DGLTopology.from_edges(edges.source, edges.destination, n_atoms)
        if isinstance(line_graph, GatherTopology):
            line_graph = DGLTopology.from_edges(line_graph.source, line_graph.destination, graph.n_edges)
        elif line_graph is not None:
            line_graph = DGLTopology.from_edges(*edges.triplets(), graph.n_edges)
    return GraphInput(batch.n_atoms, batch.atom_features, batch.atomic_numbers, batch.bond_vectors, graph, line_graph)


def _line_graph(batch: CrystalBatch) -> Topology:
    """With all pairs of bonds but those that the graph settings leave out."""
    short = None
    if batch.triplet_cutoff is not None:
        short = torch.linalg.vector_norm(batch.bond_vectors, dim=1) <= batch.triplet_cutoff
    elif not batch.as_jarvis:
        return BlockedLineGraph(batch.connectivity)
    return incomplete_line_graph(batch.connectivity, as_jarvis=batch.as_jarvis, short=short)


def from_dgl(graphs: dgl.DGLGraph | Sequence[dgl.DGLGraph], engine: Engine, with_line_graph: bool) -> GraphInput:
    """The input of a backbone from DGL graphs: ``g``, ``(g, lg)`` or ALIGNN's ``(g, lg, lattice)``.

    ``g`` has ``ndata["atom_features"]`` and ``edata["r"]`` (and ``ndata["Z"]`` for GATGNN), ``lg`` has ``edata["h"]``.

    Raises:
        TypeError: a line graph is needed and none is given.
    """
    graph, line_graph = _unpack(graphs)
    if with_line_graph and line_graph is None:
        raise TypeError("this backbone needs the line graph too: call it with (g, lg), lg = crysmm.line_graph(g)")
    make = _as_dgl if engine == "dgl" else _as_blocked
    return make(graph, line_graph if with_line_graph else None)


def _unpack(graphs: dgl.DGLGraph | Sequence[dgl.DGLGraph]) -> tuple[dgl.DGLGraph, dgl.DGLGraph | None]:
    if not isinstance(graphs, Sequence):
        return graphs, None
    return graphs[0], graphs[1] if len(graphs) > 1 else None


def _as_dgl(graph: dgl.DGLGraph, line_graph: dgl.DGLGraph | None) -> GraphInput:
    from crysmm.engines.dgl import DGLTopology

    return GraphInput(
        graph.batch_num_nodes(),
        graph.ndata["atom_features"],
        graph.ndata.get("Z"),
        graph.edata["r"],
        DGLTopology(graph),
        None if line_graph is None else DGLTopology(line_graph),
        None if line_graph is None else line_graph.edata["h"],
    )


def _as_blocked(graph: dgl.DGLGraph, line_graph: dgl.DGLGraph | None) -> GraphInput:
    """Edges sorted into blocks; a line graph that leaves pairs out is taken as it is listed."""
    device = graph.device
    source, destination = (end.cpu().numpy() for end in graph.edges())
    connectivity, order = Connectivity.sort(source, destination, graph.num_nodes())
    connectivity = connectivity.map(lambda tensor: tensor.to(device))
    edge_order = torch.from_numpy(order).to(device)
    result = GraphInput(
        graph.batch_num_nodes(),
        graph.ndata["atom_features"],
        graph.ndata.get("Z"),
        graph.edata["r"].index_select(0, edge_order),
        BlockedGraph(connectivity, graph.num_nodes()),
        None,
    )
    if line_graph is not None:
        result.line_graph, result.cosines = _sort_line_graph(line_graph, connectivity, torch.argsort(edge_order))
    return result


def _sort_line_graph(line_graph: dgl.DGLGraph, edges: Connectivity, new_number: Tensor) -> tuple[Topology, Tensor]:
    n_edges = len(new_number)
    first, second = (new_number[end.long()] for end in line_graph.edges())
    listed = first * n_edges + second
    complete_first, complete_second = edges.triplets()
    complete = complete_first * n_edges + complete_second
    listed_order, complete_order = torch.argsort(listed), torch.argsort(complete)
    if len(listed) != len(complete) or not torch.equal(listed[listed_order], complete[complete_order]):
        return GatherTopology(first, second, n_edges), line_graph.edata["h"]
    place = torch.empty_like(listed_order)
    place[complete_order] = listed_order
    return BlockedLineGraph(edges), line_graph.edata["h"].index_select(0, place)


class Embedding(NamedTuple):
    """What a backbone knows of a batch.

    ``nodes`` is ``[n_atoms_in_all, d]``, after the last message-passing layer; ``graph`` is ``[n_crystals, d]``,
    pooled.
    """

    nodes: Tensor
    graph: Tensor


class Backbone(nn.Module, ABC):
    """A graph network on crystals.

    A subclass sets ``node_features`` (the width d of both embeddings) and ``needs_line_graph``, and fills in
    :meth:`embed_atoms`, :meth:`pool` and :meth:`readout`. It passes :func:`crysmm.testing.check_backbone`.

    Args:
        engine: ``blocked`` or ``dgl``; the numbers are the same.
    """

    node_features: int
    needs_line_graph: bool = False

    def __init__(self, engine: Engine):
        super().__init__()
        self.engine: Engine = engine

    def forward(self, crystals: CrystalBatch | dgl.DGLGraph | Sequence[dgl.DGLGraph]) -> Embedding:
        """Embed a batch, or DGL graphs: ``g``, ``(g, lg)`` or ALIGNN's ``(g, lg, lattice)``."""
        make = from_batch if isinstance(crystals, CrystalBatch) else from_dgl
        inputs: GraphInput = make(crystals, self.engine, self.needs_line_graph)  # type: ignore[arg-type]
        nodes = self.embed_atoms(inputs)
        if inputs.atoms is not None:
            nodes = gather(nodes, inputs.atoms)
        return Embedding(nodes, self.pool(nodes, inputs))

    def penalty(self) -> Tensor | float:
        """A scalar that the loss of learning a property gets added, from the weights alone; 0 for most backbones."""
        return 0.0

    @abstractmethod
    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """``[n_nodes, node_features]``, of the atoms of ``inputs.graph``, after the last message-passing layer."""

    @abstractmethod
    def pool(self, nodes: Tensor, inputs: GraphInput) -> Tensor:
        """``[n_crystals, node_features]`` from the atoms' embeddings."""

    @abstractmethod
    def readout(self) -> tuple[nn.Sequential, int]:
        """New hidden layers, as the authors put them between pooling and output layer, and their last width."""


def hidden_layers(features_in: int, features: int, layers: int, activation: type[nn.Module]) -> list[nn.Module]:
    """``layers`` linear layers of width ``features``, an activation after each."""
    modules: list[nn.Module] = []
    for layer in range(layers):
        modules += [nn.Linear(features_in if layer == 0 else features, features), activation()]
    return modules
