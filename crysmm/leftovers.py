"""What killed processes have left of files and folders, told apart from what is at work.

Whatever is being written is locked; the system ends a lock with its process, however that ends. On file systems
without locks nothing is ever taken for left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

LOCK = "lock"  # the file to lock in a folder


def hold(file: Path) -> BinaryIO:
    """Make a file, and lock it until what is returned is closed or this process ends.

    Raises:
        FileNotFoundError: its folder is not there, or not any more.
    """
    while True:
        held = file.open("ab")
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        if os.fstat(held.fileno()).st_nlink:
            return held
        held.close()  # another process took it for left before it was locked


def remove_left_files(files: Iterable[Path]) -> None:
    """Remove those that nobody holds."""
    for file in files:
        held = _hold_if_left(file)
        if held is not None:
            with held:
                file.unlink(missing_ok=True)


def _hold_if_left(file: Path) -> BinaryIO | None:
    try:
        held = file.open("rb+")
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or there are no locks here
        held.close()
        return None
    return held


@contextmanager
def working_folder(beside: Path) -> Iterator[Path]:
    """A new folder ``NAME.building-*`` beside a path, to be filled and renamed; if it is not, it disappears.

    What killed processes have left of such folders there disappears too.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    for folder in beside.parent.glob("*.building-*"):
        _remove_left_folder(folder)
    folder, held = _new_folder(beside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.close()


def _new_folder(beside: Path) -> tuple[Path, BinaryIO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{beside.name}.building-", dir=beside.parent))
        try:
            return folder, hold(folder / LOCK)
        except FileNotFoundError:  # another process took it for left before it was locked
            continue


def _remove_left_folder(folder: Path) -> None:
    held = _hold_if_left(folder / LOCK)
    if held is not None:
        with held:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        with suppress(OSError):
            folder.rmdir()  # killed before it was locked, it is empty; one that is at work is not
