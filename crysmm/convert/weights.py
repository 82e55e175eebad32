"""From weights by the names of other code to those of a network here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from crysmm.errors import InputError, brief
from crysmm.inference.folder import shape_of

COUNTER = ".num_batches_tracked"  # of a batch normalisation; not there in old checkpoints, and nothing here reads it
NAMED = 5  # names in a message


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
