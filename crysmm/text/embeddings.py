"""Embeddings of texts by a frozen encoder, computed once for each distinct text.

The cache has a folder for each encoder, revision and pooling, whose :mod:`parts <crysmm.array_cache>` have a row per
text.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from crysmm.array_cache import PartReader, folder_of_parts, read_parts, write_part
from crysmm.config.models import Pooling
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, InputWarning
from crysmm.progress import progress_bar
from crysmm.text.describe import describe_crystal
from crysmm.text.describers import TIMEOUT, DescriberName
from crysmm.text.descriptions import Description
from crysmm.text.encoder import NO_TOKEN, TextEncoder, pad

TEXTS_PER_PART = 4096
CHECKSUM_BYTES = 16


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of texts.

    Args:
        values: Embeddings, ``[n_texts, width]`` float32.
        n_truncated: Number of the texts that are longer than the encoder reads.
    """

    values: np.ndarray
    n_truncated: int


def embed_texts(
    texts: Sequence[str], encoder: TextEncoder, *, cache_dir: str | Path | None = None, progress: bool = True
) -> TextEmbeddings:
    """Embed texts; embeddings that the cache lacks are computed and added to it.

    Args:
        texts: Texts, which may repeat.
        encoder: Encoder of the texts.
        cache_dir: Folder of the cache; see :func:`~crysmm.files.cache_folder`.
        progress: True to show a progress bar.
    """
    source = f"{encoder.name} {encoder.revision} {encoder.pooling} {encoder.max_tokens}"
    folder = folder_of_parts(cache_dir, "texts", source)
    checksums = [hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:CHECKSUM_BYTES] for text in texts]
    known = read_parts(folder, encoder.width + 1, "F32")
    missing = {checksum: text for checksum, text in zip(checksums, texts, strict=True) if checksum not in known}
    with progress_bar("reading descriptions", len(missing), "texts", shown=progress) as bar:
        items = list(missing.items())
        for start in range(0, len(items), TEXTS_PER_PART):
            part = items[start : start + TEXTS_PER_PART]
            tokens, too_long = encoder.tokenize([text for _, text in part])
            rows = np.empty((len(part), encoder.width + 1), dtype=np.float32)
            rows[:, -1] = too_long  # the last column is 1 for a truncated text
            for places in encoder.batches(tokens):
                rows[places, :-1] = encoder.embed([tokens[place] for place in places]).numpy()
                bar.update(len(places))
            known |= write_part(folder, {checksum: row[None] for (checksum, _), row in zip(part, rows, strict=True)})
    found = PartReader().take(known[checksum] for checksum in checksums)
    values = np.concatenate([np.empty((0, encoder.width + 1), dtype=np.float32), *found])
    return TextEmbeddings(values[:, :-1], int(values[:, -1].sum()))


class TextSettings(BaseModel):
    """Settings for describing structures and embedding the texts.

    ``encoder`` is a hub name, a folder or ``minilm``; ``revision`` identifies its weights. ``describer`` describes
    structures that are predicted; it is assumed where some texts of the training name none. With ``tuned_layers``, the
    encoder is part of the network, which then reads tokens and has its own weights for that many of its last layers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    describer: DescriberName
    is_assumed: bool = False
    encoder: str = Field(min_length=1)
    revision: str
    pooling: Pooling
    width: int = Field(ge=1)
    tuned_layers: int = Field(0, ge=0)

    def load_encoder(self, device: torch.device | str = "cpu") -> TextEncoder:
        """Load the encoder and check that it is the one that the model was trained with.

        Raises:
            InputError: The encoder is not available, or its weights are not those used in training.
            MissingDependencyError: The package that contains the encoder is not installed.
        """
        encoder = TextEncoder(self.encoder, self.pooling, device)
        # A hub name or a folder can get new weights, for which the head was not trained.
        if (encoder.revision, encoder.width) != (self.revision, self.width):
            raise InputError(
                f"the text encoder {self.encoder} is not the one the model was trained with: its revision is "
                f"{encoder.revision}, expected {self.revision}"
            )
        return encoder


@dataclass(frozen=True, eq=False)
class Texts:
    """Descriptions of a store's crystals as the network reads them.

    Args:
        values: Embeddings, ``[n_crystals, width]`` float32, NaN in the rows of crystals without a description; for a
            tuned encoder, tokens, ``[n_crystals, longest]`` int32, padded with ``NO_TOKEN``.
        settings: Settings of the describer and the encoder.
        lines: Lines that report on the texts.
        checksum: Checksum of the texts, as embeddings of one text differ in their last digits between machines.
    """

    values: np.ndarray
    settings: TextSettings
    lines: list[str]
    checksum: str

    def take(self, rows: Sequence[int]) -> Texts:
        """Return the texts of some crystals."""
        return replace(self, values=self.values[list(rows)])


def with_gaps(values: np.ndarray, has_text: Sequence[bool]) -> np.ndarray:
    """Return one row per crystal, with a missing row for each crystal without a text.

    Args:
        values: Embeddings or tokens of the crystals with a text, ``[n_texts, width]``.
        has_text: True for each crystal with a text, ``n_texts`` in total.
    """
    # Integers are tokens, floats are embeddings.
    missing = NO_TOKEN if values.dtype.kind == "i" else np.nan
    rows = np.full((len(has_text), values.shape[1]), missing, dtype=values.dtype)
    rows[np.array(has_text, dtype=bool)] = values
    return rows


def to_lists(values: np.ndarray) -> list[list[float] | None]:
    """Convert rows of :class:`Texts` to lists for JSON, None for a missing text."""
    if values.dtype.kind == "i":
        return [row[row != NO_TOKEN].tolist() or None for row in values]
    return [None if np.isnan(row[0]) else row.tolist() for row in values]


def from_lists(lists: Sequence[Sequence[float] | None], settings: TextSettings) -> np.ndarray:
    """Restore the array that :func:`to_lists` converted."""
    given = [row for row in lists if row is not None]
    # Rows of tokens were stored without their padding; JSON does not distinguish integers from floats.
    if settings.tuned_layers:
        values = pad([[int(token) for token in row] for row in given])
    else:
        values = np.array(given, dtype=np.float32).reshape(-1, settings.width)
    return with_gaps(values, [row is not None for row in lists])


class TextReader:
    """Describes structures and converts the descriptions to a network's input.

    Args:
        settings: Settings of the model's texts.
        device: Device of the encoder.
    """

    def __init__(self, settings: TextSettings, device: torch.device | str = "cpu"):
        self.settings = settings
        self.device = device
        if settings.is_assumed:
            warnings.warn(
                InputWarning(
                    "the model was trained on texts of which some name no describer; new structures are described by "
                    f"{settings.describer}, and predictions may be wrong if those texts were written otherwise"
                ),
                stacklevel=2,
            )

    @cached_property
    def encoder(self) -> TextEncoder:
        """Encoder, loaded when the first text is read."""
        return self.settings.load_encoder(self.device)

    def read(self, crystals: Sequence[Crystal], jobs: int | None = None) -> tuple[np.ndarray, list[Description]]:
        """Describe crystals; return the rows that the network reads (see :class:`Texts`) and the descriptions.

        Args:
            crystals: Crystals to describe.
            jobs: Number of crystals described at a time, by default one per core.
        """
        from joblib import Parallel, delayed

        work, describer = delayed(describe_crystal), self.settings.describer
        descriptions: list[Description] = Parallel(-1 if jobs is None else jobs, backend="threading")(
            work(str(number), crystal, describer, TIMEOUT) for number, crystal in enumerate(crystals)
        )
        texts = [description.text for description in descriptions if description.text]
        tokens = self.encoder.tokenize(texts)[0] if texts else []
        if self.settings.tuned_layers:
            values = pad(tokens)
        else:
            # One by one: rounding in bf16 depends on the other texts of a batch, and predictions must not.
            values = np.empty((len(texts), self.settings.width), dtype=np.float32)
            for row, ids in zip(values, tokens, strict=True):
                row[:] = self.encoder.embed([ids])[0].numpy()
        return with_gaps(values, [bool(description.text) for description in descriptions]), descriptions
