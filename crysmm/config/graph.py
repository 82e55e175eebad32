"""How a crystal becomes a graph: kept in every model folder, and part of every store's fingerprint."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from crysmm.elements import FeatureSet


def _with_k_nearest(as_jarvis: bool, info: ValidationInfo) -> bool:
    """ALIGNN has the graphs of k-nearest alone."""
    strategy = info.data.get("neighbor_strategy", "k-nearest")
    if as_jarvis and strategy != "k-nearest":
        text = "needs --neighbor_strategy k-nearest, got {strategy}"
        raise PydanticCustomError("contradiction", text, {"strategy": strategy})
    return as_jarvis


NeighborStrategy = Annotated[
    Literal["k-nearest", "cgcnn", "radius", "alignn-torch"],
    Field(
        description="Which neighbours become bonds: the whole shell of the k-th nearest in both directions "
        "(k-nearest), exactly the k nearest, directed (cgcnn), or all within the cutoff (radius); alignn-torch, for "
        "converted models, has cgcnn's bonds in the other direction."
    ),
]
Cutoff = Annotated[float, Field(ge=0.5, le=50, description="Radius of the neighbour search, Angstrom.")]
MaxNeighbors = Annotated[int, Field(ge=1, le=1000, description="k of k-nearest, cgcnn and alignn-torch.")]
AtomFeatures = Annotated[
    FeatureSet,
    Field(description="Which element features the atoms carry."),
]
AsJarvis = Annotated[
    bool,
    Field(
        description="ALIGNN's graph exactly, self-image bonds listed twice, for converted models and "
        "reproduction runs; a cell and its supercell then differ."
    ),
    AfterValidator(_with_k_nearest),
]
UseCanonize = Annotated[
    bool, Field(description="With as_jarvis only: false lists every mutual bond twice, as JARVIS does then.")
]
TripletCutoff = Annotated[
    float | None,
    Field(gt=0, allow_inf_nan=False, description="Longest bond that has bond angles, Angstrom; by default all do."),
]


class GraphSettings(BaseModel):
    """Everything that decides the graph of a crystal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    neighbor_strategy: NeighborStrategy = "k-nearest"
    cutoff: Cutoff = 8.0
    max_neighbors: MaxNeighbors = 12
    atom_features: AtomFeatures = "cgcnn"
    as_jarvis: AsJarvis = False
    use_canonize: UseCanonize = True
    triplet_cutoff: TripletCutoff = None
