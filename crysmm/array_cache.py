"""Cache of arrays by key, such as features or embeddings, in files called parts.

A part holds the arrays of some keys, which are checksums of what was read, and is complete or absent. A run adds parts
with what the folder lacks, so inputs may share crystals or texts, and a computation that was stopped goes on after its
last part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from crysmm.files import cache_folder, replacing

FORMAT_VERSION = 2  # part of every folder's name: raise it when what is written changes


class Place(NamedTuple):
    """Place of an array: a part, and the rows of it."""

    path: Path
    first: int
    n_rows: int


class PartReader:
    """Reads rows of parts, memory-mapped; cheap to pickle."""

    def __init__(self) -> None:
        self._open: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": {}}  # each process maps the files itself

    def take(self, places: Iterable[Place]) -> list[np.ndarray]:
        """Return the arrays in some places, ``[n_rows, width]`` each."""
        found = []
        for path, first, n_rows in places:
            if path not in self._open:
                self._open[path] = safe_open(path, "numpy").get_slice("rows")
            found.append(self._open[path][first : first + n_rows])
        return found


def folder_of_parts(cache_dir: str | Path | None, kind: str, source: str) -> Path:
    """Return a folder in the cache for arrays of a kind from a source, which the text identifies."""
    key = hashlib.sha256(f"{FORMAT_VERSION} {source}".encode()).hexdigest()[:32]
    return cache_folder(cache_dir) / kind / key


def write_part(folder: Path, arrays: Mapping[bytes, np.ndarray]) -> dict[bytes, Place]:
    """Write the arrays of some keys, ``[n_rows, width]`` each, to a file named by the keys; return where they are.

    Keys are of one length. Two runs that write the same keys at a time thus write the same file.
    """
    if not arrays:
        return {}
    joined = b"".join(arrays)
    path = folder / f"{hashlib.sha256(joined).hexdigest()[:32]}.safetensors"
    sizes = np.array([len(rows) for rows in arrays.values()], dtype=np.int64)
    tensors: dict[str, np.ndarray] = {
        "keys": np.frombuffer(joined, dtype=np.uint8).reshape(len(arrays), -1),
        "sizes": sizes,
        "rows": np.concatenate(list(arrays.values())),
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors))  # where a full disk is an OSError, unlike in save_file
    return _places(path, arrays, sizes)


def read_parts(folder: Path, width: int, dtype: str) -> dict[bytes, Place]:
    """Return where the array of each key is; damaged parts are left out, to be made again.

    Args:
        folder: Folder of the parts, which need not exist.
        width: Number of columns of all arrays.
        dtype: Their type as safetensors names it, such as ``F16``.
    """
    known: dict[bytes, Place] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "numpy") as part:
                keys, sizes = part.get_tensor("keys"), part.get_tensor("sizes")
                rows = part.get_slice("rows")
                found = rows.get_dtype(), rows.get_shape()
        except (OSError, SafetensorError):
            continue
        if found == (dtype, [sizes.sum(), width]) and len(keys) == len(sizes):
            known |= _places(path, [key.tobytes() for key in keys], sizes)
    return known


def _places(path: Path, keys: Iterable[bytes], sizes: np.ndarray) -> dict[bytes, Place]:
    firsts = np.cumsum(sizes) - sizes
    places = zip(firsts.tolist(), sizes.tolist(), strict=True)
    return {key: Place(path, *place) for key, place in zip(keys, places, strict=True)}
