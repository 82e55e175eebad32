"""Embeddings of texts by a frozen encoder: each distinct text is read once, ever.

They lie in the cache, in one folder for each encoder, revision and pooling, as parts of some thousand texts; a run
adds a part with what the parts there lack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from crysmm.crystal import Crystal
from crysmm.data.store import cache_folder
from crysmm.errors import InputError
from crysmm.files import disables_bar, replacing
from crysmm.text.describe import TIMEOUT, describe_crystal
from crysmm.text.descriptions import Description
from crysmm.text.encoder import NO_TOKEN, TextEncoder, pad

FORMAT_VERSION = 1  # part of every folder's name: raise it when what is written changes
TEXTS_A_PART = 4096
CHECKSUM_BYTES = 16


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of some texts.

    Args:
        values: ``[n_texts, width]`` float32.
        n_truncated: texts longer than the encoder reads, of those given.
    """

    values: np.ndarray
    n_truncated: int


def embed_texts(
    texts: Sequence[str], encoder: TextEncoder, *, cache_dir: str | Path | None = None, progress: bool = True
) -> TextEmbeddings:
    """Embeddings of texts, those the cache lacks computed and added to it.

    Args:
        texts: any number, repeated ones too.
        encoder: reads them.
        cache_dir: see :func:`~crysmm.data.store.cache_folder`.
        progress: show a bar.
    """
    key = f"{FORMAT_VERSION} {encoder.name} {encoder.revision} {encoder.pooling} {encoder.max_tokens}"
    folder = cache_folder(cache_dir) / "texts" / hashlib.sha256(key.encode()).hexdigest()[:32]
    checksums = [_checksum(text) for text in texts]
    known = _read_parts(folder, encoder.width)
    missing = {checksum: text for checksum, text in zip(checksums, texts, strict=True) if checksum not in known}
    bar = tqdm(desc="reading descriptions", total=len(missing), unit=" texts", disable=disables_bar(progress), delay=1)
    with bar:
        items = list(missing.items())
        for start in range(0, len(items), TEXTS_A_PART):
            part = items[start : start + TEXTS_A_PART]
            rows = _embed([text for _, text in part], encoder, bar)
            _write_part(folder, [checksum for checksum, _ in part], rows)
            known.update({checksum: row for (checksum, _), row in zip(part, rows, strict=True)})
    values = np.empty((len(texts), encoder.width + 1), dtype=np.float32)
    for row, checksum in enumerate(checksums):
        values[row] = known[checksum]
    return TextEmbeddings(values[:, :-1], int(values[:, -1].sum()))


def _embed(texts: Sequence[str], encoder: TextEncoder, bar: tqdm[Any]) -> np.ndarray:
    """``[n, width + 1]``: the embedding, and 1 where the text was truncated."""
    tokens, too_long = encoder.tokenize(texts)
    rows = np.empty((len(texts), encoder.width + 1), dtype=np.float32)
    rows[:, -1] = too_long
    for places in encoder.batches(tokens):
        rows[places, :-1] = encoder.embed([tokens[place] for place in places]).numpy()
        bar.update(len(places))
    return rows


def _checksum(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:CHECKSUM_BYTES]


def _read_parts(folder: Path, width: int) -> dict[bytes, np.ndarray]:
    """Rows by checksum of the text; a part that is damaged is left out."""
    known: dict[bytes, np.ndarray] = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path) as part:
                checksums, rows = part["checksums"], part["rows"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            continue
        if rows.shape == (len(checksums), width + 1):
            known.update(zip((checksum.tobytes() for checksum in checksums), rows, strict=True))
    return known


def _write_part(folder: Path, checksums: Sequence[bytes], rows: np.ndarray) -> None:
    """A file named by what it holds, so that two runs at a time do not write the same one."""
    name = hashlib.sha256(b"".join(checksums)).hexdigest()[:32]
    array = np.frombuffer(b"".join(checksums), dtype=np.uint8).reshape(-1, CHECKSUM_BYTES)
    with replacing(folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, checksums=array, rows=rows)


class TextSettings(BaseModel):
    """Settings that turn a structure into an embedded text.

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
        """Return the texts of some crystals."""
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
    """Restore the array that :func:`to_lists` converted."""
    given = [row for row in lists if row is not None]
    if settings.tuned_layers:
        values = pad([[int(token) for token in row] for row in given])
    else:
        values = np.array(given, dtype=np.float32).reshape(-1, settings.width)
    return with_gaps(values, [row is not None for row in lists])


class TextReader:
    """From structures to what a network reads of their descriptions, as a model folder says.

    Args:
        settings: of the model.
        device: where the encoder computes.
    """

    def __init__(self, settings: TextSettings, device: torch.device | str = "cpu"):
        self.settings = settings
        self.device = device

    @cached_property
    def encoder(self) -> TextEncoder:
        """Loaded when the first text is read."""
        return self.settings.load_encoder(self.device)

    def read(self, crystals: Sequence[Crystal], jobs: int | None = None) -> tuple[np.ndarray, list[Description]]:
        """Describe crystals; return the rows that the network reads (see :class:`Texts`) and the descriptions.

        Args:
            crystals: to be described.
            jobs: described at a time, by default one a core.
        """
        from joblib import Parallel, delayed

        work, describer = delayed(describe_crystal), self.settings.describer
        rows: list[Description] = Parallel(-1 if jobs is None else jobs, backend="threading")(
            work(str(number), crystal, describer, TIMEOUT) for number, crystal in enumerate(crystals)
        )
        return with_gaps(self._values([row.text for row in rows if row.text]), [bool(row.text) for row in rows]), rows

    def _values(self, texts: Sequence[str]) -> np.ndarray:
        """A row a text."""
        tokens = self.encoder.tokenize(texts)[0] if texts else []
        if self.settings.tuned_layers:
            return pad(tokens)
        values = np.empty((len(texts), self.settings.width), dtype=np.float32)
        for row, ids in zip(values, tokens, strict=True):  # one by one: bf16 rounds by what stands beside it
            row[:] = self.encoder.embed([ids])[0].numpy()
        return values
