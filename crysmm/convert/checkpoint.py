"""Checkpoints of other code, read without running any of theirs."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crysmm.errors import InputError, brief

WEIGHTS_KEYS = ("state_dict", "model")  # under which a checkpoint keeps its weights: CGCNN and its kin, ALIGNN
DAMAGE = (  # what torch.load raises on files cut off or with bits changed
    RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError, TypeError, AssertionError, struct.error,
)  # fmt: skip
NUMBERS = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
}  # fmt: skip
OF_PARALLEL = "module."  # before every name, where the model was trained on several devices
REMEDY = (
    "save the weights alone where its code is installed, with torch.save(model.state_dict(), FILE), and for cgcnn and "
    'crysxpp beside their normaliser: {"state_dict": ..., "normalizer": {"mean": ..., "std": ...}}'
)


class _Unread:
    """In place of what checkpoints hold besides weights and is not read here."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# The arguments of a training and NumPy's numbers: a checkpoint may name these, and gets something inert.
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, name)
    for name in (
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",  # the name before NumPy 2
        "numpy._core.multiarray.scalar",
    )
]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        path: of the file.
        sha256: its checksum.
        weights: by the names of the code that wrote it.
        others: what stands beside the weights; empty where they are all there is.
    """

    path: Path
    sha256: str
    weights: dict[str, Tensor]
    others: Mapping[str, Any]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that ``torch.save`` wrote: weights by name, alone or beside others.

    Tensors, numbers, text, and lists and dicts of these are read. Anything else would have to be run to be read, and
    is refused but for what ``INERT`` names, which is passed over.

    Raises:
        InputError: there is no such file, it is no checkpoint, holds whole objects, or no weights by name, or weights
            that are no plain tensors of real numbers.
    """
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        with torch.serialization.safe_globals(INERT):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_why_refused(path, str(error))) from None
    except DAMAGE as error:
        first = str(error).partition("\n")[0]
        why = f": {first}" if isinstance(error, RuntimeError) else ""  # others' texts say nothing to people
        raise InputError(f"{path} is damaged or no checkpoint of PyTorch{why}") from None
    weights, others = _weights_of(found, path)
    return Checkpoint(path, checksum, weights, others)


def finite_number(value: Any) -> float | None:
    """A number of a checkpoint or its settings, a tensor of one number among them; None for all else."""
    if torch.is_tensor(value):
        value = value.item() if not _strange_kind(value) and value.numel() == 1 else None
    if isinstance(value, bool) or not isinstance(value, float | int) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def _strange_kind(tensor: Tensor) -> str:
    """What kind of tensor it is; empty for the plain ones of real numbers, which alone are read."""
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "meta, without values"
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    if tensor.dtype not in NUMBERS:
        return str(tensor.dtype)
    is_whole = tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    return "" if is_whole else "larger than what is stored of it"


def _why_refused(path: Path, message: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is None:
        return f"{path} is damaged or no checkpoint of PyTorch"
    return (
        f"{path} holds objects of the class {named[1]}, not weights by name: to read them, code of the file would have "
        f"to run, so it is refused; {REMEDY}"
    )


def _weights_of(found: Any, path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; expected weights by name, a state_dict")
    key = next((key for key in WEIGHTS_KEYS if isinstance(found.get(key), dict)), None)
    weights = found if key is None else found[key]
    strange = [str(name) for name, value in weights.items() if not isinstance(name, str) or not torch.is_tensor(value)]
    if strange or not weights:
        held = f"it holds {', '.join(map(brief, list(found)[:5])) or 'nothing'}"
        raise InputError(f"{path} has no weights by name, neither alone nor under {' or '.join(WEIGHTS_KEYS)}; {held}")
    for name, value in weights.items():
        if kind := _strange_kind(value):
            raise InputError(
                f"{path}: {brief(name)} is {kind}; expected a plain tensor of real numbers, such as one of "
                "torch.float32: save the weights as they were trained"
            )
    if all(name.startswith(OF_PARALLEL) for name in weights):
        weights = {name.removeprefix(OF_PARALLEL): value for name, value in weights.items()}
    return weights, {} if key is None else {name: value for name, value in found.items() if name != key}
