"""Embeddings of texts by a frozen encoder: each distinct text is read once, ever.

They lie in the cache, in one folder for each encoder, revision and pooling, as parts of some thousand texts; a run
adds a part with what the parts there lack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from crysmm.data.store import cache_folder
from crysmm.files import replacing
from crysmm.terminal import disables_bar
from crysmm.text.encoder import TextEncoder

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
