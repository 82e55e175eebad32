"""How a crystal becomes a graph: kept in every model folder, and part of every store's fingerprint."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NeighborStrategy = Literal["k-nearest", "cgcnn", "radius"]
AtomFeatures = Literal["cgcnn", "basic", "atomic_number", "cfid"]


class GraphSettings(BaseModel):
    """Everything that decides the graph of a crystal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbor_strategy: NeighborStrategy = Field(
        "k-nearest",
        description="Which neighbours become bonds: the whole shell of the k-th nearest in both directions "
        "(k-nearest), exactly the k nearest, directed (cgcnn), or all within the cutoff (radius).",
    )
    cutoff: float = Field(8.0, ge=0.5, le=50, description="Radius of the neighbour search, Angstrom.")
    max_neighbors: int = Field(12, ge=1, le=1000, description="k of k-nearest and of cgcnn.")
    atom_features: AtomFeatures = Field("cgcnn", description="Which element features the atoms carry.")
    as_jarvis: bool = Field(
        False,
        description="ALIGNN's graph exactly, self-image bonds listed twice, for converted models and "
        "reproduction runs; a cell and its supercell then differ.",
    )
    use_canonize: bool = Field(
        True,
        description="With as_jarvis only: false lists every mutual bond twice, as JARVIS does then.",
    )
