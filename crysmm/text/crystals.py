"""Texts of crystals as a network reads them, and what a model folder says of how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class TextSettings(BaseModel):
    """How a structure becomes an embedded text.

    ``encoder`` is a hub name, a folder or ``minilm``; ``revision`` names its weights. ``describer`` writes the texts
    of structures that are predicted without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    describer: Literal["robocrys", "jarvis"]
    encoder: str = Field(min_length=1)
    revision: str
    pooling: Literal["cls", "mean"]
    width: int = Field(ge=1)


@dataclass(frozen=True, eq=False)
class Texts:
    """The embedded descriptions of a store's crystals.

    Args:
        values: ``[n_crystals, width]`` float32, NaN in the rows of crystals without a description.
        settings: how they were made.
        lines: what is to be said of them.
    """

    values: np.ndarray
    settings: TextSettings
    lines: list[str]

    def take(self, rows: Sequence[int]) -> Texts:
        """Those of some crystals."""
        return replace(self, values=self.values[list(rows)])
