"""Real crystals with their space groups, as batches and as lists of edges."""

from dataclasses import replace

import pytest
import torch

from crysmm.config.graph import GraphSettings
from crysmm.data.batch import collate_crystals
from crysmm.graphs.neighbors import find_edges

SPACE_GROUPS = {
    "Cu": 225, "Fe": 229, "Si": 227, "CdTe": 216, "CsCl": 221, "Mg": 194, "NaCl": 225, "SrTiO3": 221, "TiO2": 136,
    "SiO2": 154, "ZrO2": 14, "CuO": 15,
}  # fmt: skip


class Case:
    """A batch in float64, random embeddings of its atoms, and for loops each crystal's own part of them."""

    def __init__(self, crystals, formulas=tuple(SPACE_GROUPS), strategy="cgcnn", cutoff=8.0, width=5, seed=0):
        settings = GraphSettings(neighbor_strategy=strategy, cutoff=cutoff)
        self.crystals = [crystals[formula] for formula in formulas]
        batch = collate_crystals(self.crystals, settings).double()
        self.batch = replace(batch, space_groups=torch.tensor([SPACE_GROUPS[formula] for formula in formulas]))
        generator = torch.Generator().manual_seed(seed)
        nodes = torch.randn(len(batch.atom_features), width, dtype=torch.float64, generator=generator)
        self.nodes = nodes.requires_grad_()
        self.edges = [find_edges(crystal, settings) for crystal in self.crystals]

    def parts(self):
        """Embeddings and edges of each crystal."""
        sizes = [len(crystal) for crystal in self.crystals]
        return zip(self.nodes.split(sizes), self.edges, strict=True)


@pytest.fixture
def make_case(crystals):
    return lambda *formulas, **settings: Case(crystals, formulas or tuple(SPACE_GROUPS), **settings)
