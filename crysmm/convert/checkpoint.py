"""Checkpoints of other code: read without running any of it, and weights renamed for a network of this package."""

from __future__ import annotations

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
from crysmm.errors import MOST_NAMED, InputError, brief, first_of
from crysmm.files import file_sha256
from crysmm.inference.model_folder import shape_of

WEIGHTS_KEYS = ("state_dict", "model")  # keys of a checkpoint that its weights are under: CGCNN and its kin, ALIGNN
DAMAGE = (  # raised by torch.load on files that are truncated or have changed bits
    RuntimeError, OSError, EOFError, LookupError, ValueError, AttributeError, TypeError, AssertionError, struct.error,
)  # fmt: skip
NUMBERS = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
}  # fmt: skip
COUNTER = ".num_batches_tracked"  # of batch normalization; missing in old checkpoints, and not read here
OF_PARALLEL = "module."  # prefix of all names if the model was trained on several devices
REMEDY = (
    "save the weights alone where its code is installed, with torch.save(model.state_dict(), FILE), and for cgcnn and "
    'crysxpp beside their normalizer: {"state_dict": ..., "normalizer": {"mean": ..., "std": ...}}'
)


class _Unread:
    """Inert stand-in for objects in a checkpoint that are not weights and are not read."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Training arguments and NumPy's numbers: a checkpoint may name these, and gets the stand-in.
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, name)
    for name in (
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",  # its name before NumPy 2
        "numpy._core.multiarray.scalar",
    )
]


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint.

    Args:
        path: File it was read from.
        sha256: Checksum of the file.
        weights: Weights, by the names of the code that wrote them.
        others: Content of the checkpoint besides the weights; empty if it is the weights alone.
    """

    path: Path
    sha256: str
    weights: dict[str, Tensor]
    others: Mapping[str, Any]


@dataclass(frozen=True)
class ConvertedModel:
    """A model of other code as one of this package.

    Args:
        config: Settings of the model and its graphs; those of the training have their defaults.
        network: Network with its weights: a backbone and a head, or a dict with the backbone of an encoder.
        notes: Notes for the user, one line each.
        scaler: Scaler from network outputs to predictions; None for an encoder.
        target_names: Names of the targets; empty for an encoder.
    """

    config: RunConfig
    network: nn.Module
    notes: list[str]
    scaler: TargetScaler | None = None
    target_names: tuple[str, ...] = ()


def read_foreign_checkpoint(path: Path) -> Checkpoint:
    """Read a file written by ``torch.save``: weights by name, alone or beside other content.

    Tensors, numbers, text, and lists and dicts of these are read. Anything else would require running code of the
    file and is refused, except for the classes in ``INERT``, which are replaced.

    Args:
        path: Checkpoint file.

    Raises:
        InputError: The file does not exist or is not a checkpoint, contains whole objects, or has no weights by name,
            or weights that are not plain tensors of real numbers.
    """
    try:
        checksum = file_sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    try:
        with torch.serialization.safe_globals(INERT):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise InputError(f"{path} is damaged or not a checkpoint of PyTorch") from None
        raise InputError(
            f"{path} holds objects of the class {named[1]}, not weights by name: reading them would run code of the "
            f"file, so it is refused; {REMEDY}"
        ) from None
    except DAMAGE as error:
        first = str(error).partition("\n")[0]
        why = f": {first}" if isinstance(error, RuntimeError) else ""  # other messages would not help a user
        raise InputError(f"{path} is damaged or not a checkpoint of PyTorch{why}") from None
    weights, others = _split(found, path)
    return Checkpoint(path, checksum, weights, others)


def _split(found: Any, path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Split the content of a checkpoint into weights by name and everything else.

    Raises:
        InputError: There are no weights by name, or one is not a plain tensor of real numbers.
    """
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}; expected weights by name, a state_dict")
    key = next((key for key in WEIGHTS_KEYS if isinstance(found.get(key), dict)), None)
    weights = found if key is None else found[key]
    strange = [str(name) for name, value in weights.items() if not isinstance(name, str) or not torch.is_tensor(value)]
    if strange or not weights:
        held = f"it holds {', '.join(map(brief, list(found)[:MOST_NAMED])) or 'nothing'}"
        raise InputError(f"{path} has no weights by name, neither alone nor under {' or '.join(WEIGHTS_KEYS)}; {held}")
    for name, value in weights.items():
        if kind := _unusual_kind(value):
            raise InputError(
                f"{path}: {brief(name)} is {kind}; expected a plain tensor of real numbers, such as one of "
                "torch.float32: save the weights as they were trained"
            )
    if all(name.startswith(OF_PARALLEL) for name in weights):
        weights = {name.removeprefix(OF_PARALLEL): value for name, value in weights.items()}
    return weights, {} if key is None else {name: value for name, value in found.items() if name != key}


def _unusual_kind(tensor: Tensor) -> str:
    """Return the kind of a tensor, or an empty string for plain tensors of real numbers, the only ones accepted."""
    if tensor.is_nested:
        return "nested"
    if tensor.is_meta:
        return "meta, without values"
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    if tensor.dtype not in NUMBERS:
        return str(tensor.dtype)
    # A small file can describe a huge tensor whose elements share memory, such as an expanded one.
    is_whole = tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    return "" if is_whole else "larger than what is stored of it"


def finite_number(value: Any) -> float | None:
    """Return a number of a checkpoint or its settings, also from a tensor of one number; None for anything else."""
    # Booleans are integers in Python, and JSON integers may be too large for a float.
    if torch.is_tensor(value):
        value = value.item() if not _unusual_kind(value) and value.numel() == 1 else None
    if isinstance(value, bool) or not isinstance(value, float | int) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def n_layers(weights: Iterable[str], prefix: str) -> int:
    """Return the number of layers named ``prefix.0``, ``prefix.1``, ..."""
    # Up to nine digits, as a longer number in a foreign file may exceed what int() accepts.
    matches = (re.match(rf"{re.escape(prefix)}\.([0-9]{{1,9}})\.", name) for name in weights)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> torch.Size:
    """Return the shape of a weight that determines the size of a network.

    Args:
        weights: Weights of the checkpoint.
        name: Name of the weight.
        dimensions: Expected number of dimensions.

    Raises:
        InputError: The weight is missing, or has another number of dimensions.
    """
    if name not in weights:
        raise InputError(
            f"{name} is missing in the checkpoint, which has {brief(first_of(sorted(weights)))}: was it written by the "
            "code in --from?"
        )
    found = weights[name].shape
    if len(found) != dimensions:
        raise InputError(f"{name} is {shape_of(weights[name])} in the checkpoint; expected {dimensions} dimensions")
    return found


def fill(network: nn.Module, weights: Mapping[str, Tensor], original_name: Callable[[str], str]) -> None:
    """Load the weights of a checkpoint into a network, and put it in evaluation mode.

    Args:
        network: Network to change.
        weights: Weights by the names of the code that wrote them; the network has to use all of them.
        original_name: Function from the name of a weight in the network to the name in that code.

    Raises:
        InputError: A weight is missing, not finite in float32, of another shape, or not part of the network.
    """
    state = network.state_dict()
    theirs = {original_name(name): name for name in state}
    problems = []
    if missing := [name for name in theirs if name not in weights and not name.endswith(COUNTER)]:
        problems.append(f"missing in the checkpoint: {brief(first_of(missing))}")
    if unknown := [name for name in weights if name not in theirs]:
        problems.append(f"in the checkpoint, but not in the network: {brief(first_of(unknown))}")
    different = [
        f"{name} is {shape_of(weights[name])} in the checkpoint, expected {shape_of(state[own])}"
        for name, own in theirs.items()
        if name in weights and weights[name].shape != state[own].shape
    ]
    problems += different[:MOST_NAMED]
    if broken := [name for name, value in weights.items() if not bool(value.float().isfinite().all())]:
        problems.append(f"numbers that are not finite in {brief(first_of(broken))}")
    if problems:
        raise InputError("\n".join(["the checkpoint does not fit the network", *problems]))
    # Only the counters of old checkpoints are missing by now: they keep their initial value, which nothing reads.
    network.load_state_dict({own: weights.get(name, state[own]) for name, own in theirs.items()})
    network.eval()
