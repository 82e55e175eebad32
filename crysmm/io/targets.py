"""From what stands in a file to the numbers a model learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crysmm.errors import StructureError
from crysmm.io.source import ReadingOptions

MISSING = frozenset({"", "na", "n/a", "none", "null", "-", "?"})


def read_targets(values: Sequence[Any], names: Sequence[str], options: ReadingOptions) -> tuple[float, ...]:
    """The targets of a row, times ``target_multiplication_factor``.

    Args:
        values: one a target, numbers or text.
        names: of the targets.
        options: the factor, and the transform the targets must allow.

    Raises:
        StructureError: a value is missing, not a finite number, or has no logarithm where one is needed.
    """
    if len(values) != len(names):
        raise StructureError(f"the row has {len(values)} target values; expected {len(names)}: {', '.join(names)}")
    factor = 1.0 if options.target_multiplication_factor is None else options.target_multiplication_factor
    targets = tuple(read_number(value, name, factor) for value, name in zip(values, names, strict=True))
    if options.target_transform == "log10":
        for target, name in zip(targets, names, strict=True):
            if target <= 0:
                raise StructureError(f"the target {name} is {target:g}; target_transform log10 needs a positive one")
    return targets


def read_number(value: Any, name: str, factor: float = 1.0) -> float:
    """A finite number, times a factor.

    Raises:
        StructureError: naming the target and what stands there instead.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        raise StructureError(f"no target: {name} is {'empty' if value in (None, '') else repr(value)}")
    try:
        number = float(value) * factor
    except (TypeError, ValueError, OverflowError):
        raise StructureError(
            f"the target {name} is {str(value)[:60]!r}; numbers are needed (classes too are given as 0, 1, ...)"
        ) from None
    if not math.isfinite(number):
        raise StructureError(f"the target {name} is {number}; a finite number is needed")
    return number


def flatten(value: Any) -> list[Any]:
    """The values of a target that may be a list, or a list of lists."""
    if isinstance(value, list | tuple):
        return [item for part in value for item in flatten(part)]
    return [value]
