"""Settings of the crystal graph, stored in every model folder and part of the key of every stored graph."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from crysmm.config.base import Settings
from crysmm.elements import FeatureSet


def _require_k_nearest(as_jarvis: bool, info: ValidationInfo) -> bool:
    """Return ``as_jarvis`` unchanged; True is refused for all strategies but ALIGNN's own, k-nearest."""
    # The strategy is absent from `info.data` if its own value was invalid, which gives an error of its own.
    strategy = info.data.get("neighbor_strategy", "k-nearest")
    if as_jarvis and strategy != "k-nearest":
        text = "needs --neighbor_strategy k-nearest, got {strategy}"
        raise PydanticCustomError("contradiction", text, {"strategy": strategy})
    return as_jarvis


NeighborStrategy = Annotated[
    Literal["k-nearest", "cgcnn", "radius", "alignn-torch"],
    Field(
        description="Neighbors that become bonds: the whole shell of the k-th nearest, in both directions (k-nearest), "
        "exactly the k nearest, directed (cgcnn), or all within the cutoff (radius); alignn-torch, for converted "
        "models, is cgcnn with every bond reversed."
    ),
]
Cutoff = Annotated[float, Field(ge=0.5, le=50, description="Radius of the neighbor search, in Angstrom.")]
MaxNeighbors = Annotated[
    int, Field(ge=1, le=1000, description="Number of neighbors k for k-nearest, cgcnn and alignn-torch.")
]
AtomFeatureSet = Annotated[
    FeatureSet,
    Field(description="Set of element features that describe each atom."),
]
AsJarvis = Annotated[
    bool,
    Field(
        description="Build exactly ALIGNN's graph, in which bonds of an atom to its own images appear twice; for "
        "converted models and reproductions, as a cell and its supercell then give different results."
    ),
    AfterValidator(_require_k_nearest),
]
UseCanonize = Annotated[
    bool, Field(description="Used with as_jarvis only: false lists every mutual bond twice, as JARVIS does.")
]
TripletCutoff = Annotated[
    float | None,
    Field(
        gt=0,
        allow_inf_nan=False,
        description="Longest bond that takes part in bond angles, in Angstrom; by default all bonds do.",
    ),
]


class GraphSettings(Settings):
    """All settings that decide the graph of a crystal."""

    neighbor_strategy: NeighborStrategy = "k-nearest"
    cutoff: Cutoff = 8.0
    max_neighbors: MaxNeighbors = 12
    atom_features: AtomFeatureSet = "cgcnn"
    as_jarvis: AsJarvis = False
    use_canonize: UseCanonize = True
    triplet_cutoff: TripletCutoff = None
