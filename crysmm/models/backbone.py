"""Interface of all backbones, a batch of crystals in, embeddings of atoms and crystals out; layers they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crysmm.config.run import Engine
from crysmm.data.batch import CrystalBatch
from crysmm.engines.blocked import BlockedGraph, Connectivity
from crysmm.engines.line_graph import BlockedLineGraph, incomplete_line_graph
from crysmm.engines.linear import precise
from crysmm.engines.segments import Segments, gather, map_tensors
from crysmm.engines.topology import GatherTopology, Topology

if TYPE_CHECKING:
    import dgl

SMALLEST_EXPONENT = -126.0  # base-2 exponent of the smallest normal fp32 number; subnormals are several times slower


@dataclass
class GraphInput:
    """Features of atoms, bonds and angles, and the topologies that join them: everything a backbone reads.

    Args:
        n_atoms: Number of atoms of each crystal, whose atoms are contiguous, ``[n_crystals]`` int64.
        atom_features: Features of the nodes of ``graph``, ``[n_nodes, F]``.
        atomic_numbers: Atomic numbers, ``[n_atoms_in_all]`` int64; None for DGL graphs without ``Z``.
        bond_vectors: Vectors of the edges of ``graph``, ``[n_edges, 3]``, Angstrom.
        graph: Atoms and bonds.
        line_graph: Bonds and pairs of bonds; None where no layer needs it.
        cosines: Bond cosines given with the graph, ``[n_triplets]``; None to compute them from the vectors.
        atoms: Assignment of all atoms to the nodes that represent them; None where every atom is a node.
        outgoing_vectors: Vectors of the outgoing edges of equivalent atoms, ``[n_outgoing, 3]``, Angstrom.
    """

    n_atoms: Tensor
    atom_features: Tensor
    atomic_numbers: Tensor | None
    bond_vectors: Tensor
    graph: Topology
    line_graph: Topology | None
    cosines: Tensor | None = None
    atoms: Segments | None = None
    outgoing_vectors: Tensor | None = None

    def bond_lengths(self) -> Tensor:
        """Compute the bond lengths, ``[n_edges]``, Angstrom."""
        return torch.linalg.vector_norm(self.bond_vectors, dim=1)

    def bond_cosines(self) -> Tensor:
        """Compute the cosine at v for bonds u->v and v->w as ALIGNN does, -r1.r2 / (|r1| |r2|), ``[n_triplets]``."""
        if self.cosines is not None:
            return self.cosines
        if self.line_graph is None:
            raise ValueError("this input was made without a line graph")
        directions = functional.normalize(self.bond_vectors, dim=1, eps=0)
        if self.outgoing_vectors is None:
            outgoing = self.line_graph.at_destination(directions)
        else:
            # Equivalent bonds differ in direction, so outgoing edges have vectors of their own.
            assert isinstance(self.line_graph, BlockedLineGraph)
            outgoing = self.line_graph.from_outgoing(functional.normalize(self.outgoing_vectors, dim=1, eps=0))
        products = self.line_graph.at_source(directions) * outgoing
        return products.sum(1).neg().clamp(-1, 1)  # rounding may leave [-1, 1]


def from_batch(batch: CrystalBatch, engine: Engine, with_line_graph: bool) -> GraphInput:
    """Make the input of a backbone from a batch of crystals.

    Raises:
        MissingDependencyError: The dgl engine is requested and dgl is not installed.
        ValueError: The dgl engine is requested and equivalent atoms of the batch are merged.
    """
    edges, merged = batch.connectivity, batch.merged
    # Equivalence is searched only where line graphs are complete, so a merged batch has a blocked line graph.
    if merged is not None:
        if engine == "dgl":
            raise ValueError("the dgl engine needs every atom: make the batch without merging")
        return GraphInput(
            batch.n_atoms,
            batch.atom_features.index_select(0, merged.representatives),
            batch.atomic_numbers,
            batch.bond_vectors,
            BlockedGraph(edges, len(merged.representatives)),
            BlockedLineGraph(edges) if with_line_graph else None,
            atoms=merged.atoms,
            outgoing_vectors=merged.outgoing_vectors,
        )
    n_atoms = len(batch.atom_features)
    graph: Topology = BlockedGraph(edges, n_atoms)
    line_graph: Topology | None = None
    if with_line_graph and not batch.as_jarvis and batch.triplet_cutoff is None:
        line_graph = BlockedLineGraph(edges)
    elif with_line_graph:
        short = None
        if batch.triplet_cutoff is not None:
            short = batch.bond_lengths() <= batch.triplet_cutoff
        line_graph = incomplete_line_graph(edges, as_jarvis=batch.as_jarvis, short=short)
    if engine == "dgl":
        from crysmm.engines.dgl import DGLTopology

        # The same edges in the same order, so that features of bonds and angles fit both engines.
        graph = DGLTopology.from_edges(edges.source, edges.destination, n_atoms)
        if isinstance(line_graph, GatherTopology):
            line_graph = DGLTopology.from_edges(line_graph.source, line_graph.destination, graph.n_edges)
        elif line_graph is not None:
            line_graph = DGLTopology.from_edges(*edges.triplets(), graph.n_edges)
    return GraphInput(batch.n_atoms, batch.atom_features, batch.atomic_numbers, batch.bond_vectors, graph, line_graph)


def from_dgl(graphs: dgl.DGLGraph | Sequence[dgl.DGLGraph], engine: Engine, with_line_graph: bool) -> GraphInput:
    """Make the input of a backbone from DGL graphs: ``g``, ``(g, lg)`` or ALIGNN's ``(g, lg, lattice)``.

    ``g`` has ``ndata["atom_features"]`` and ``edata["r"]`` (and ``ndata["Z"]`` for GATGNN), ``lg`` has ``edata["h"]``.

    Raises:
        TypeError: A line graph is needed and none is given.
    """
    graph, line_graph, *_ = (*graphs, None) if isinstance(graphs, Sequence) else (graphs, None)
    if not with_line_graph:
        line_graph = None
    elif line_graph is None:
        raise TypeError("this backbone needs the line graph too: call it with (g, lg), lg = crysmm.line_graph(g)")
    features = graph.ndata["atom_features"]
    if engine == "dgl":
        from crysmm.engines.dgl import DGLTopology

        return GraphInput(
            graph.batch_num_nodes(),
            features,
            graph.ndata.get("Z"),
            graph.edata["r"],
            DGLTopology(graph),
            None if line_graph is None else DGLTopology(line_graph),
            None if line_graph is None else line_graph.edata["h"],
        )
    device = graph.device
    # Blocks are found with numpy, then everything moves to the device of the graph.
    source, destination = (end.cpu().numpy() for end in graph.edges())
    connectivity, order = Connectivity.sort(source, destination, graph.num_nodes())
    connectivity = map_tensors(connectivity, lambda tensor: tensor.to(device))
    edge_order = torch.from_numpy(order).to(device)
    topology = cosines = None
    if line_graph is not None:
        topology, cosines = _sort_line_graph(line_graph, connectivity, torch.argsort(edge_order))
    return GraphInput(
        graph.batch_num_nodes(),
        features,
        graph.ndata.get("Z"),
        graph.edata["r"].index_select(0, edge_order),
        BlockedGraph(connectivity, graph.num_nodes()),
        topology,
        cosines,
    )


def _sort_line_graph(line_graph: dgl.DGLGraph, edges: Connectivity, new_number: Tensor) -> tuple[Topology, Tensor]:
    """Return a DGL line graph as a topology, and its cosines in the topology's order.

    A complete line graph becomes a :class:`BlockedLineGraph`; one with pairs left out keeps its list.

    Args:
        line_graph: Line graph with ``edata["h"]``.
        edges: Sorted edges of the crystal graph.
        new_number: Number of each of the line graph's nodes among the sorted edges, ``[n_edges]``.
    """
    n_edges = len(new_number)
    first, second = (new_number[end.long()] for end in line_graph.edges())
    # Pairs are compared as numbers, first * n_edges + second, and sorted because both lists may be in any order.
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
    """Embeddings of a batch by a backbone.

    Args:
        nodes: Atom embeddings after the last message-passing layer, ``[n_atoms_in_all, d]``.
        graph: Crystal embeddings, pooled from those of the atoms, ``[n_crystals, d]``.
    """

    nodes: Tensor
    graph: Tensor


class Backbone(nn.Module, ABC):
    """Graph network that embeds crystals.

    A subclass sets ``node_features`` (the width d of both embeddings) and ``needs_line_graph``, and implements
    :meth:`embed_atoms` and :meth:`readout`. It must pass :func:`crysmm.testing.check_backbone`.

    Args:
        engine: Engine that passes the messages, ``blocked`` or ``dgl``; both give the same numbers.
    """

    node_features: int
    needs_line_graph: bool = False

    def __init__(self, engine: Engine):
        super().__init__()
        self.engine: Engine = engine

    def forward(
        self, crystals: CrystalBatch | dgl.DGLGraph | Sequence[dgl.DGLGraph], added: Tensor | None = None
    ) -> Embedding:
        """Embed a batch, or DGL graphs: ``g``, ``(g, lg)`` or ALIGNN's ``(g, lg, lattice)``.

        Args:
            crystals: Batch or graphs.
            added: Rows that are added to the atom embeddings before pooling, ``[n_atoms_in_all, node_features]``.
        """
        make = from_batch if isinstance(crystals, CrystalBatch) else from_dgl
        inputs: GraphInput = make(crystals, self.engine, self.needs_line_graph)  # type: ignore[arg-type]
        nodes = self.embed_atoms(inputs)
        # Equivalent atoms were computed once. Each gets the embedding of its representative before pooling, which has
        # to count all of them.
        if inputs.atoms is not None:
            nodes = gather(nodes, inputs.atoms)
        if added is not None:
            nodes = nodes + added
        return Embedding(nodes, self.pool(nodes, inputs))

    def penalty(self) -> Tensor | float:
        """Return a scalar that is added to the loss of a property, from the weights alone; 0 for most backbones."""
        return 0.0

    @abstractmethod
    def embed_atoms(self, inputs: GraphInput) -> Tensor:
        """Embed the nodes of ``inputs.graph`` by all message-passing layers, ``[n_nodes, node_features]``."""

    def pool(self, nodes: Tensor, inputs: GraphInput) -> Tensor:
        """Pool atom embeddings to crystal embeddings, by default their mean, ``[n_crystals, node_features]``."""
        return crystal_mean(nodes, inputs.n_atoms)

    @abstractmethod
    def readout(self) -> tuple[nn.Sequential, int]:
        """Make new hidden layers as the authors put them between pooling and output layer; also return their width."""


def hidden_layers(features_in: int, features: int, layers: int, activation: type[nn.Module]) -> list[nn.Module]:
    """Make ``layers`` linear layers of width ``features``, each followed by an activation."""
    modules: list[nn.Module] = []
    for layer in range(layers):
        modules += [nn.Linear(features_in if layer == 0 else features, features), activation()]
    return modules


class GaussianExpansion(nn.Module):
    """Expand a scalar in Gaussians with evenly spaced centers, ``exp(-sharpness (x - center)^2)``.

    Args:
        lowest: First center.
        highest: Last center.
        bins: Number of centers.
        squared_spacing: Use a sharpness of 1/spacing^2 (CGCNN) instead of 1/spacing (ALIGNN).
    """

    centers: Tensor

    def __init__(self, lowest: float, highest: float, bins: int, squared_spacing: bool):
        super().__init__()
        self.register_buffer("centers", torch.linspace(lowest, highest, bins), persistent=False)
        spacing = (highest - lowest) / (bins - 1)
        self.sharpness = 1 / spacing**2 if squared_spacing else 1 / spacing

    def forward(self, values: Tensor) -> Tensor:
        """Expand ``[n]`` to ``[n, bins]``."""
        # exp2 takes a quarter of the time of exp, and the sharpness absorbs the change of base.
        exponents = (values[:, None] - self.centers).square_().mul_(-self.sharpness / math.log(2))
        return exponents.clamp_(min=SMALLEST_EXPONENT).exp2_()


def crystal_sum(atoms: Tensor, n_atoms: Tensor) -> Tensor:
    """Sum ``[n_atoms_in_all, d]`` over the atoms of each crystal in fp32 or better, ``[n_crystals, d]``."""
    return torch.segment_reduce(precise(atoms), "sum", lengths=n_atoms, unsafe=True)


def crystal_mean(atoms: Tensor, n_atoms: Tensor) -> Tensor:
    """Average ``[n_atoms_in_all, d]`` over the atoms of each crystal in fp32 or better, ``[n_crystals, d]``."""
    return crystal_sum(atoms, n_atoms) / n_atoms[:, None]


def repeat_for_atoms(crystals: Tensor, n_atoms: Tensor, n_rows: int) -> Tensor:
    """Repeat each crystal's row of ``[n_crystals, d]`` for each of its atoms, ``[n_rows, d]``."""
    # Given the size, PyTorch need not wait for the GPU to sum the counts.
    return crystals.repeat_interleave(n_atoms, dim=0, output_size=n_rows)


def crystal_softmax(scores: Tensor, n_atoms: Tensor) -> Tensor:
    """Compute a softmax over the atoms of each crystal in fp32 or better, ``[n_atoms_in_all, d]``."""
    scores = precise(scores)
    # The largest score of a crystal is subtracted, so that exp cannot overflow. It cancels in the result and therefore
    # needs no gradient.
    largest = torch.segment_reduce(scores.detach(), "max", lengths=n_atoms, unsafe=True)
    weights = torch.exp(scores - repeat_for_atoms(largest, n_atoms, len(scores)))
    return weights / repeat_for_atoms(crystal_sum(weights, n_atoms), n_atoms, len(scores))
