"""JSON text of any size, plain, gzipped or zipped, from wherever it comes: nothing is unpacked to the disk.

Rows are lines of JSONL, items of one list, or items of a list in an object; a whole object is read up to a size.
"""

from __future__ import annotations

import gzip
import io
import json
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast

from crysmm.errors import InputError

LARGEST_EXPANSION = 200  # times the size of the archive; JSON of crystals shrinks to a fifth or a tenth
LARGEST_OBJECT = 1 << 28  # characters of an object that is read as a whole
CHUNK = 1 << 20  # characters


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The text of a plain, ``.gz`` or ``.zip`` file; bytes that are not UTF-8 become replacement marks.

    Raises:
        InputError: the file is not there, cannot be read to its end, or its archive is broken or not one JSON file.
    """
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(_open_bytes(path, stack))
            yield stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; name a file that does") from error
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
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{path} holds {member.filename!r}, a link and no file; it is not read")
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
    with open_text(path) as stream:
        buffer = _Buffer(stream)
        if buffer.next_character() != "[":
            raise InputError(f"{path} is not a JSON list of rows; for one row a line name the file .jsonl")
        yield from _list_items(buffer, path)


def json_object_items(path: Path, streamed: str) -> Iterator[tuple[str, str, str]]:
    """``(key, place, text)`` of the members of the one object in a JSON file, read piece by piece.

    Args:
        path: of the file.
        streamed: name of a member that is a list; each of its items comes by itself, under its place.

    Raises:
        InputError: the text is not one object, or stops being JSON; see also :func:`open_text`.
    """
    with open_text(path) as stream:
        buffer = _Buffer(stream)
        if buffer.next_character() != "{":
            raise InputError(f"{path} is not a JSON object")
        for place in _members(buffer, path, "}", "member"):
            key = _next_key(buffer, path, place)
            if key == streamed and buffer.next_character() == "[":
                yield from ((key, row, text) for row, text in _list_items(buffer, path))
                buffer.position += 1
            else:
                yield key, f"{path.name}:{key}", _next_item(buffer, path, place)


def read_json_object(path: Path) -> dict[str, Any]:
    """The one object in a JSON file.

    Raises:
        InputError: it is none, or has more than ``LARGEST_OBJECT`` characters; see also :func:`open_text`.
    """
    with open_text(path) as stream:
        text = stream.read(LARGEST_OBJECT + 1)
    if len(text) > LARGEST_OBJECT:
        raise InputError(f"{path} holds more than {LARGEST_OBJECT:,} characters; it is not read")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}; is it complete?") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def _list_items(buffer: _Buffer, path: Path) -> Iterator[tuple[str, str]]:
    """``(place, text)`` of every item of the list that the buffer stands at; it is left at the list's end."""
    for place in _members(buffer, path, "]", "row"):
        yield f"{path.name}:{place}", _next_item(buffer, path, place)


def _members(buffer: _Buffer, path: Path, end: str, noun: str) -> Iterator[str]:
    """``row 1``, ``row 2``, ... of what the buffer stands at; with each the buffer stands before that member."""
    buffer.position += 1
    number = 0
    while buffer.next_character() != end:
        if number:
            _expect(buffer, ",", path, f"{noun} {number}")
        number += 1
        yield f"{noun} {number}"


def _next_key(buffer: _Buffer, path: Path, place: str) -> str:
    text = _next_item(buffer, path, place)
    if not text.startswith('"'):
        raise _broken(path, place)
    _expect(buffer, ":", path, place)
    return str(json.loads(text))


def _next_item(buffer: _Buffer, path: Path, place: str) -> str:
    buffer.next_character()
    text = buffer.next_item(DECODER)
    if text is None:
        raise _broken(path, place)
    return text


def _expect(buffer: _Buffer, character: str, path: Path, place: str) -> None:
    if buffer.next_character() != character:
        raise _broken(path, place)
    buffer.position += 1


def _broken(path: Path, place: str) -> InputError:
    return InputError(f"{path} is broken JSON at {place}; is it complete?")


DECODER = json.JSONDecoder(parse_int=len)  # the text of an item is wanted, not the value of a long number


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
        """The text of the next value, or None where there is none, or one that is longer than ``LARGEST_OBJECT``.

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
            length = len(self._text) - self.position
            if length > LARGEST_OBJECT or not self._read(max(CHUNK, length)):
                return None
