"""Crystal properties from graph networks, with few labels.

Public names are imported on first use, so that importing the package is fast and does not need dgl.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from crysmm.comparison.compare import compare
    from crysmm.config import GraphSettings, PretrainingConfig, TrainingConfig
    from crysmm.crystals.conversion import as_crystal
    from crysmm.crystals.crystal import Crystal
    from crysmm.errors import CrysmmError
    from crysmm.estimator import CrystalRegressor
    from crysmm.graphs.dgl import crystal_graph, line_graph
    from crysmm.inference.predictor import Predictor, load
    from crysmm.inference.screening import screen
    from crysmm.models.networks import build_backbone
    from crysmm.training.labels import label
    from crysmm.training.pretrain import pretrain
    from crysmm.training.train import train

_MODULES = {
    "Crystal": "crysmm.crystals.crystal",
    "CrysmmError": "crysmm.errors",
    "CrystalRegressor": "crysmm.estimator",
    "GraphSettings": "crysmm.config",
    "Predictor": "crysmm.inference.predictor",
    "PretrainingConfig": "crysmm.config",
    "TrainingConfig": "crysmm.config",
    "as_crystal": "crysmm.crystals.conversion",
    "build_backbone": "crysmm.models.networks",
    "compare": "crysmm.comparison.compare",
    "crystal_graph": "crysmm.graphs.dgl",
    "label": "crysmm.training.labels",
    "line_graph": "crysmm.graphs.dgl",
    "load": "crysmm.inference.predictor",
    "pretrain": "crysmm.training.pretrain",
    "screen": "crysmm.inference.screening",
    "train": "crysmm.training.train",
}

__all__ = [
    "CrysmmError",
    "Crystal",
    "CrystalRegressor",
    "GraphSettings",
    "Predictor",
    "PretrainingConfig",
    "TrainingConfig",
    "as_crystal",
    "build_backbone",
    "compare",
    "crystal_graph",
    "label",
    "line_graph",
    "load",
    "pretrain",
    "screen",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'crysmm' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
