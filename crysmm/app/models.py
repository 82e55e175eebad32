"""The models that can be chosen on the page: folders named by the user, and the shipped ones that predict."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from crysmm.inference.model_folder import ModelDescription, read_description
from crysmm.inference.predictor import Predictor, load
from crysmm.zoo import ZOO, shipped_names

KEPT = 4  # models in memory


class Models:
    """Models by name, loaded when they are first asked for.

    Args:
        folders: of models, or names of shipped ones, as the user gives them; they come first. They are loaded at once,
            so that a damaged one is told at the start; where there are none, the first shipped one is.

    Attributes:
        names: in the order in which they are offered.

    Raises:
        ModelFolderError: a folder holds no model, or no sound one.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        own = [str(folder) for folder in folders]
        shipped = [name for name in shipped_names() if isinstance(read_description(ZOO / name), ModelDescription)]
        self.names = list(dict.fromkeys([*own, *shipped]))
        self._load = lru_cache(KEPT)(load)
        for name in own or self.names[:1]:
            self._load(name)

    def __getitem__(self, name: str) -> Predictor:
        """The model of a name.

        Raises:
            ModelFolderError: it is damaged.
        """
        return self._load(name)
