"""Texts of crystals as a network reads them, and what a model folder says of how they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from crysmm.errors import InputError
from crysmm.text.encoder import NO_TOKEN, TextEncoder, pad


class TextSettings(BaseModel):
    """How a structure becomes an embedded text.

    ``encoder`` is a hub name, a folder or ``minilm``; ``revision`` names its weights. ``describer`` writes the texts
    of structures that are predicted without one. With ``tuned_layers`` the encoder is part of the network, which then
    reads tokens, and the weights of so many of its last layers are the network's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    describer: Literal["robocrys", "jarvis"]
    encoder: str = Field(min_length=1)
    revision: str
    pooling: Literal["cls", "mean"]
    width: int = Field(ge=1)
    tuned_layers: int = Field(0, ge=0)

    def load_encoder(self, device: torch.device | str = "cpu") -> TextEncoder:
        """The encoder, checked to be the one the model was trained with.

        Raises:
            InputError: it cannot be had, or has other weights than that one.
            MissingDependencyError: the package that carries it is not installed.
        """
        encoder = TextEncoder(self.encoder, self.pooling, device)
        if (encoder.revision, encoder.width) != (self.revision, self.width):
            raise InputError(
                f"the text encoder {self.encoder} is not the one the model was trained with: its revision is "
                f"{encoder.revision}, expected {self.revision}"
            )
        return encoder


@dataclass(frozen=True, eq=False)
class Texts:
    """The descriptions of a store's crystals as the network reads them.

    Args:
        values: ``[n_crystals, width]`` float32 embeddings, NaN in the rows of crystals without a description; for a
            tuned encoder ``[n_crystals, longest]`` int32 tokens, ``NO_TOKEN`` behind the end of each.
        settings: how they were made.
        lines: what is to be said of them.
        checksum: of the texts; embeddings of one text differ in their last digits from machine to machine.
    """

    values: np.ndarray
    settings: TextSettings
    lines: list[str]
    checksum: str

    def take(self, rows: Sequence[int]) -> Texts:
        """Those of some crystals."""
        return replace(self, values=self.values[list(rows)])


def with_gaps(values: np.ndarray, has_text: Sequence[bool]) -> np.ndarray:
    """A row for every crystal: those of ``values`` for the crystals that have a text, a missing one for the others."""
    missing = NO_TOKEN if values.dtype.kind == "i" else np.nan
    rows = np.full((len(has_text), values.shape[1]), missing, dtype=values.dtype)
    rows[np.array(has_text, dtype=bool)] = values
    return rows


def to_lists(values: np.ndarray) -> list[list[float] | None]:
    """Rows of :class:`Texts` as JSON has them; None where there is no text."""
    if values.dtype.kind == "i":
        return [row[row != NO_TOKEN].tolist() or None for row in values]
    return [None if np.isnan(row[0]) else row.tolist() for row in values]


def from_lists(lists: Sequence[Sequence[float] | None], settings: TextSettings) -> np.ndarray:
    """What :func:`to_lists` was given."""
    given = [row for row in lists if row is not None]
    if settings.tuned_layers:
        values = pad([[int(token) for token in row] for row in given])
    else:
        values = np.array(given, dtype=np.float32).reshape(-1, settings.width)
    return with_gaps(values, [row is not None for row in lists])
