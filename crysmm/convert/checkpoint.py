"""Checkpoints of other code: read without running any of it, and weights renamed for a network of this package."""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crysmm.config.run import RunConfig
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError, brief
from crysmm.inference.model_folder import shape_of

WEIGHTS_KEYS = ("state_dict", "model")  # under which a checkpoint keeps its weights: CGCNN and its kin, ALIGNN
DAMAGE = (  # what torch.load raises on files cut off or with bits changed
    RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError, TypeError, AssertionError, struct.error,
)  # fmt: skip
NUMBERS = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
}  # fmt: skip
COUNTER = ".num_batches_tracked"  # of a batch normalisation; not there in old checkpoints, and nothing here reads it
NAMED = 5  # names in a message
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


@dataclass(frozen=True)
class ConvertedModel:
    """A model of other code as one of this package.

    Args:
        config: what it is and on which graphs; the settings of its training have their defaults.
        network: with its weights: a backbone and a head, or a dict with the backbone of an encoder.
        notes: a line for each thing the user should know.
        scaler: from its outputs to predictions; ``None`` for an encoder.
        target_names: one a target; none for an encoder.
    """

    config: RunConfig
    network: nn.Module
    notes: list[str]
    scaler: TargetScaler | None = None
    target_names: tuple[str, ...] = ()


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


def n_layers(weights: Iterable[str], prefix: str) -> int:
    """How many layers there are of those called ``prefix.0``, ``prefix.1``, ..."""
    matches = (re.match(rf"{re.escape(prefix)}\.([0-9]{{1,9}})\.", name) for name in weights)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> torch.Size:
    """The shape of a weight that tells the size of a network.

    Raises:
        InputError: it is not there, or has another number of dimensions.
    """
    if name not in weights:
        raise InputError(
            f"{name} is missing in the checkpoint, which has {_listed(sorted(weights))}: is it of another --from?"
        )
    found = weights[name].shape
    if len(found) != dimensions:
        raise InputError(f"{name} is {shape_of(weights[name])} in the checkpoint; expected {dimensions} dimensions")
    return found


def fill(network: nn.Module, weights: Mapping[str, Tensor], original_name: Callable[[str], str]) -> None:
    """Give a network weights of a checkpoint.

    Args:
        network: is changed, and put in evaluation mode.
        weights: by the names of the code that wrote them; the network needs all of them.
        original_name: what that code calls a weight of the network.

    Raises:
        InputError: a weight is missing, not finite in 32 bits, of another shape, or one the network does not have.
    """
    state = network.state_dict()
    theirs = {original_name(name): name for name in state}
    missing = [name for name in theirs if name not in weights and not name.endswith(COUNTER)]
    unknown = [name for name in weights if name not in theirs]
    different = [
        f"{name} is {shape_of(weights[name])} in the checkpoint, expected {shape_of(state[own])}"
        for name, own in theirs.items()
        if name in weights and weights[name].shape != state[own].shape
    ]
    problems = [f"missing in the checkpoint: {_listed(missing)}"] if missing else []
    problems += [f"in the checkpoint, and without a place in the network: {_listed(unknown)}"] if unknown else []
    problems += different[:NAMED]
    broken = [name for name, value in weights.items() if not bool(value.float().isfinite().all())]
    problems += [f"numbers that are not finite in {_listed(broken)}"] if broken else []
    if problems:
        raise InputError("\n".join(["the checkpoint does not fit the network", *problems]))
    network.load_state_dict({own: weights.get(name, state[own]) for name, own in theirs.items()})
    network.eval()


def _listed(names: list[str]) -> str:
    return brief(", ".join(names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
