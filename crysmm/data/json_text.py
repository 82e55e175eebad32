"""Rows out of JSON text of any size: lines of JSONL, items of one JSON list, plain, gzipped or zipped."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast

from crysmm.errors import InputError

LARGEST_EXPANSION = 200  # times the size of the archive; JSON of crystals shrinks to a fifth or a tenth
CHUNK = 1 << 20  # characters


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The text of a plain, ``.gz`` or ``.zip`` file; bytes that are not UTF-8 become replacement marks.

    Raises:
        InputError: the file cannot be read to its end, or its archive is broken or not one JSON file.
    """
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(_open_bytes(path, stack))
            yield stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace"))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read to its end: {error}; is it complete?") from error


def _open_bytes(path: Path, stack: ExitStack) -> BinaryIO:
    if path.suffix == ".gz":
        largest = LARGEST_EXPANSION * max(path.stat().st_size, CHUNK)
        return io.BufferedReader(_Limited(path, stack.enter_context(gzip.open(path, "rb")), largest))
    if path.suffix == ".zip":
        return cast(BinaryIO, _open_member(path, stack.enter_context(zipfile.ZipFile(path))))
    return path.open("rb")


class _Limited(io.RawIOBase):
    """What a gzip file holds, which does not say how much that is; refused where it goes on without end."""

    def __init__(self, path: Path, stream: gzip.GzipFile, largest: int) -> None:
        self._path, self._stream, self._left = path, stream, largest

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; their number.

        Raises:
            InputError: there are too many.
        """
        count = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise InputError(f"{self._path} expands to more than {LARGEST_EXPANSION} times its size; it is not read")
        return count


def _open_member(path: Path, archive: zipfile.ZipFile) -> IO[bytes]:
    members = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise InputError(f"{path} holds {len(members)} files; expected exactly one, a .json")
    member = members[0]
    parts = Path(member.filename.replace("\\", "/")).parts
    if member.filename.startswith(("/", "\\")) or ".." in parts:
        raise InputError(f"{path} holds {member.filename!r}, a path that leads out of the archive; it is not read")
    if member.file_size > LARGEST_EXPANSION * max(member.compress_size, CHUNK):
        raise InputError(
            f"{path} would expand from {member.compress_size} to {member.file_size} bytes, "
            f"more than {LARGEST_EXPANSION} times; it is not read"
        )
    if member.flag_bits & 1:
        raise InputError(f"{path} is encrypted; give it without a password")
    try:
        return archive.open(member)
    except NotImplementedError as error:
        raise InputError(f"{path} is compressed in a way that is not read; write it with plain deflate") from error


def jsonl_lines(path: Path) -> Iterator[tuple[str, str]]:
    """``(place, text)`` of every line that is not blank; the place is ``name:line``.

    Raises:
        InputError: see :func:`open_text`.
    """
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.isspace():
                yield f"{path.name}:{number}", line


def json_list_items(path: Path) -> Iterator[tuple[str, str]]:
    """``(place, text)`` of every item of the one list in a JSON file, read piece by piece.

    Raises:
        InputError: the text is not one list, or stops being JSON; see also :func:`open_text`.
    """
    decoder = json.JSONDecoder(parse_int=len)  # the text of an item is wanted, not the value of a long number
    with open_text(path) as stream:
        buffer = _Buffer(stream)
        if buffer.next_character() != "[":
            raise InputError(f"{path} is not a JSON list of rows; for one row a line name the file .jsonl")
        buffer.position += 1
        number = 0
        while (character := buffer.next_character()) != "]":
            if number:
                if character != ",":
                    raise _broken(path, number)
                buffer.position += 1
                buffer.next_character()
            number += 1
            text = buffer.next_item(decoder)
            if text is None:
                raise _broken(path, number)
            yield f"{path.name}:row {number}", text


def _broken(path: Path, number: int) -> InputError:
    return InputError(f"{path} is broken JSON at row {number}; is it complete?")


class _Buffer:
    """What has been read of a stream and not been used; grows until an item is whole."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self.position = 0

    def _read(self, n_characters: int) -> bool:
        more = self._stream.read(n_characters)
        self._text = self._text[self.position :] + more
        self.position = 0
        return bool(more)

    def next_character(self) -> str:
        """The next one that is not white space, left in place; empty at the end."""
        while True:
            while self.position < len(self._text):
                if not self._text[self.position].isspace():
                    return self._text[self.position]
                self.position += 1
            if not self._read(CHUNK):
                return ""

    def next_item(self, decoder: json.JSONDecoder) -> str | None:
        """The text of the next value, or None where there is none.

        A number cut off by the end of the buffer looks whole, so a value must be followed by something.
        Each attempt reads as much again, which keeps the cost linear for a long item.
        """
        while True:
            try:
                _, end = decoder.raw_decode(self._text, self.position)
                if end < len(self._text):
                    text = self._text[self.position : end]
                    self.position = end
                    return text
            except json.JSONDecodeError:
                pass
            except RecursionError:
                return None
            if not self._read(max(CHUNK, len(self._text) - self.position)):
                return None
