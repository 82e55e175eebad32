"""The one interface of all backbones: a batch in, atom and crystal embeddings out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from crysmm.data.batch import CrystalBatch
from crysmm.engines.segments import gather
from crysmm.models.inputs import Engine, GraphInput, from_batch, from_dgl

if TYPE_CHECKING:
    import dgl


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
