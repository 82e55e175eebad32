"""Atomic writing: a file is complete or absent, and what killed processes left behind is cleaned up.

Every file is written under a temporary name in the same folder and then renamed. A temporary file whose process is
alive is locked, so leftovers can be told apart from work in progress.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from crysmm.errors import InputError, first_of

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
LOCK = "lock"  # the file to lock in a folder


def why_not_writable(folder: Path) -> str | None:
    """Return why files cannot be written into ``folder``, which need not exist yet, or None."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return f"{existing} is a file"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"no permission to write in {existing}"
    try:
        with tempfile.TemporaryFile(dir=existing):  # permissions do not show whether a disk is full or read-only
            return None
    except OSError as error:
        return f"{error.strerror} in {existing}"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which is not read into memory as a whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return the folder for what is kept between runs: ``cache_dir``, or ``crysmm`` in the user's cache folder.

    It holds stores of graphs, features by teachers, embeddings of texts, and matplotlib's list of fonts.
    """
    if cache_dir is not None:
        return Path(cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crysmm"


def refuse_unwritable(folder: Path, option: str = "output_dir") -> None:
    """Refuse a folder to write to, given by an option, that is not writable.

    Raises:
        InputError: The folder cannot be written; the text gives the reason.
    """
    why = why_not_writable(folder)
    if why is not None:
        raise InputError(f"--{option}: {folder} cannot be written: {why}; name another folder")


def refuse_other_files(folder: Path, first: str, key: str, others: Iterable[str]) -> None:
    """Refuse an ``--output_dir`` that is not writable, or has files of names to be written that are something else.

    Args:
        folder: Folder to write to.
        first: Name of the file that is written first, a JSON object.
        key: Key that identifies this object, and with it the other files, as output of the command.
        others: Names of the others.

    Raises:
        InputError: The folder cannot be used; the text gives the reason.
    """
    refuse_unwritable(folder)
    found = [name for name in (first, *others) if (folder / name).exists()]
    try:
        content = json.loads((folder / first).read_text(encoding="utf-8")) if found else {}
    except (OSError, ValueError):
        content = {}
    if found and not (isinstance(content, dict) and key in content):
        raise InputError(
            f"--output_dir: {folder} holds {first_of(found)} of something else: {first} with {key!r} would be there if "
            "this command had written it; move it away, or name another folder"
        )


def refuse_other_file(path: Path, kind: str, is_ours: Callable[[Path], bool]) -> None:
    """Refuse an output that cannot be written, or that exists and is not such a file.

    Args:
        path: File to write, or to replace.
        kind: Noun for the expected file, for the message.
        is_ours: Returns whether an existing file is of this kind.

    Raises:
        InputError: The file cannot be used; the text gives the reason.
    """
    why = f"{path} is a folder" if path.is_dir() else why_not_writable(path.parent)
    if why is not None:
        raise InputError(f"{path} cannot be written: {why}; give the name of a file to write")
    if path.exists() and not is_ours(path):
        raise InputError(f"{path} is there and is no {kind}; move it away, or give another name")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to disk errors raised in the block: the system does not name the file when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in OF_THE_DISK:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to ``path`` that replaces it if the block succeeds and is removed otherwise.

    The folder is created if needed. Leftovers of the same file from killed processes are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_files(path.parent.glob(f".{escape(path.name)}.*.tmp"))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    held = hold(temporary)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as written:  # on disk before the rename: power loss leaves no half-written file
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
    """Write an indented JSON file.

    Raises:
        ValueError: A number is NaN or infinite, which JSON cannot represent.
    """
    with text_replacing(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def write_csv_atomic(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table row by row, floats in full precision."""
    with table_replacing(path, header) as writer:
        writer.writerows(rows)


@contextmanager
def table_replacing(path: Path, header: Sequence[str]) -> Iterator[Any]:
    """Yield a :mod:`csv` writer, header written, for a file that replaces ``path`` as in :func:`replacing`."""
    with text_replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer


@contextmanager
def text_replacing(path: Path) -> Iterator[TextIO]:
    """Yield an open text file that replaces ``path`` as in :func:`replacing`; large files are streamed."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def hold(file: Path, *, wait: bool = True) -> BinaryIO:
    """Create a file and lock it until the returned handle is closed or this process ends.

    Args:
        file: File that need not exist.
        wait: False to raise an error if another process has locked it.

    Raises:
        FileNotFoundError: The folder does not exist, or was just removed.
        BlockingIOError: Another process has locked the file, and ``wait`` is False.
    """
    while True:
        held = file.open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise
        except OSError:
            pass  # the file system has no locks
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held.fileno()), file.stat()):
                return held
        held.close()  # removed as a leftover, or renamed, by another process before it was locked


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder for this process in the block.

    Raises:
        InputError: Another process has locked it.
    """
    lock = folder / LOCK
    try:
        held = hold(lock, wait=False)
    except BlockingIOError:
        raise InputError(f"{folder} is in use by another process; wait for it, or name another output") from None
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def is_held(file: Path) -> bool:
    """Return whether a running process has locked a file by :func:`hold`."""
    try:
        with file.open("rb+") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # the file is gone, cannot be written, or the file system has no locks
        return isinstance(error, BlockingIOError)
    return False


def remove_left_files(files: Iterable[Path]) -> None:
    """Remove the files that no running process has locked."""
    for file in files:
        held = _lock_if_free(file)
        if held is not None:
            with held:
                file.unlink(missing_ok=True)


def _lock_if_free(file: Path) -> BinaryIO | None:
    """Return a locked handle, or None if the file is gone or another process holds it."""
    try:
        held = file.open("rb+")
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by a running process, or the file system has no locks
        held.close()
        return None
    return held


@contextmanager
def working_folder(beside: Path) -> Iterator[Path]:
    """Yield a new folder ``NAME.building-*`` next to a path, to be filled and renamed; removed if not renamed.

    Such folders left by killed processes are removed.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    for left in beside.parent.glob("*.building-*"):
        lock = _lock_if_free(left / LOCK)
        if lock is not None:
            with lock:
                shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.rmdir()  # empty if its process was killed before locking it; one in use is not empty
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{beside.name}.building-", dir=beside.parent))
        with suppress(FileNotFoundError):  # removed as a leftover by another process before it was locked
            held = hold(folder / LOCK)
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        held.close()
