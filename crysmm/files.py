"""Files that are whole or not there: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, TextIO

from crysmm.errors import InputError
from crysmm.leftovers import hold, remove_left_files

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def why_not_writable(folder: Path) -> str | None:
    """What keeps files from being written into a folder, which need not exist yet; None where nothing does."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return f"{existing} is a file"
    return None if os.access(existing, os.W_OK | os.X_OK) else f"no permission to write in {existing}"


def refuse_unwritable(folder: Path) -> None:
    """Refuse an ``--output_dir`` that files cannot be written into.

    Raises:
        InputError: with the reason.
    """
    why = why_not_writable(folder)
    if why is not None:
        raise InputError(f"--output_dir: {folder} cannot be written: {why}; name another folder")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the disk, a full one's above all, say what was being written; the system's name no file then."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in OF_THE_DISK:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and else disappears.

    The folder is made if it is not there. The content is on disk before the name changes, so that not even a
    loss of power leaves half a file under the name. What killed processes have left of the same file disappears.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_files(path.parent.glob(f".{escape(path.name)}.*.tmp"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    held = hold(temporary)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        held.close()


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file."""
    with text_replacing(path) as file:
        file.write(text)


def write_json_atomic(path: Path, content: Any) -> None:
    """Write a JSON file, indented; NaN and infinity, which JSON lacks, are refused.

    Raises:
        ValueError: a number is not finite.
    """
    with text_replacing(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def write_csv_atomic(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table row by row; floats with every digit they need to be read back unchanged."""
    with table_replacing(path, header) as writer:
        writer.writerows(rows)


@contextmanager
def table_replacing(path: Path, header: Sequence[str]) -> Iterator[Any]:
    """:func:`text_replacing` with a writer of the :mod:`csv` module that has written the header."""
    with text_replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer


@contextmanager
def text_replacing(path: Path) -> Iterator[TextIO]:
    """:func:`replacing` with the file opened; large ones are never in memory as a whole."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        yield file
