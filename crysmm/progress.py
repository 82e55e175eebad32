"""Progress bars for work that may take long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(
    doing: str,
    total: int | None,
    unit: str,
    items: Iterable[Any] | None = None,
    *,
    shown: bool = True,
    initial: int = 0,
    leave: bool = True,
) -> tqdm[Any]:
    """Return a progress bar that appears on a terminal only, and only after a second of work.

    Args:
        doing: Work that is done, such as ``reading structures``.
        total: Number of units of work, None if it is not known.
        unit: Name of these units, in the plural.
        items: Items to iterate over, one for each unit; without them, the caller updates the bar.
        shown: False for a bar that never appears.
        initial: Number of units that were done before.
        leave: False to remove the bar from the screen at the end.
    """
    hidden = None if shown else True  # with None, tqdm hides the bar where there is no terminal
    return tqdm(items, doing, total, leave, unit=f" {unit}", disable=hidden, delay=1, initial=initial)
