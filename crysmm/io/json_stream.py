"""Streaming of JSON text of any size, plain, gzipped or zipped, without unpacking it to disk.

Rows are lines of JSONL, items of a list, or items of a list in an object; a single object is read up to a size limit.
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
from typing import IO, Any, TextIO, cast

from crysmm.errors import InputError
from crysmm.io.plain_text import why_no_text
from crysmm.keys import load_json

LARGEST_EXPANSION = 200  # times the size of the archive; JSON of crystals compresses to a fifth or a tenth
LARGEST_OBJECT = 1 << 28  # characters of an object that is read at once
CHUNK = 1 << 20  # characters


@contextmanager
def open_text(path: Path, *, errors: str = "replace", newline: str | None = None) -> Iterator[TextIO]:
    """Open a plain, ``.gz`` or ``.zip`` file as text.

    Args:
        path: File to open.
        errors: What becomes of bytes that are not UTF-8, as for :func:`open`.
        newline: How lines end, as for :func:`open`.

    Raises:
        InputError: The file does not exist, is no text in UTF-8, cannot be read to its end, or its archive is broken or
            not one JSON file.
    """
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(_open_bytes(path, stack))
            if why := why_no_text(stream.peek(1), is_unpacked=path.suffix.lower() in (".gz", ".zip")):
                raise InputError(f"{path} {why}")
            yield stack.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig", errors=errors, newline=newline))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; name a file that does") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read to its end: {error}; is it complete?") from error


def _open_bytes(path: Path, stack: ExitStack) -> io.BufferedReader:
    if path.suffix.lower() == ".gz":
        largest = LARGEST_EXPANSION * max(path.stat().st_size, CHUNK)
        return io.BufferedReader(_Limited(path, stack.enter_context(gzip.open(path, "rb")), largest))
    if path.suffix.lower() == ".zip":
        return cast(io.BufferedReader, _open_member(path, stack.enter_context(zipfile.ZipFile(path))))
    return path.open("rb")


class _Limited(io.RawIOBase):
    """Content of a gzip file with a size limit: the file itself does not give its uncompressed size."""

    def __init__(self, path: Path, stream: gzip.GzipFile, largest: int) -> None:
        self._path, self._stream, self._left = path, stream, largest

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer and return their number.

        Raises:
            InputError: The limit is exceeded.
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
    """Yield location (``name:line``) and text of every line that is not blank.

    Raises:
        InputError: As in :func:`open_text`.
    """
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.isspace():
                yield f"{path.name}:{number}", line


def json_list_items(path: Path) -> Iterator[tuple[str, str]]:
    """Yield location and text of every item of the list in a JSON file, read piece by piece.

    Raises:
        InputError: The text is not a list or not valid JSON; also as in :func:`open_text`.
    """
    with open_text(path) as stream:
        buffer = _Buffer(stream)
        if buffer.next_character() != "[":
            raise InputError(f"{path} is not a JSON list of rows; for one row a line name the file .jsonl")
        yield from _list_items(buffer, path)
        _expect_end(buffer, path)


def json_object_items(path: Path, streamed: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, location and text of the members of the object in a JSON file, read piece by piece.

    Args:
        path: Path of the file.
        streamed: Key of a member that is a list; each of its items is yielded separately.

    Raises:
        InputError: The text is not an object or not valid JSON; also as in :func:`open_text`.
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
        _expect_end(buffer, path)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: The text is not an object, has a key twice or more than ``LARGEST_OBJECT`` characters; also as in
            :func:`open_text`.
    """
    with open_text(path) as stream:
        text = stream.read(LARGEST_OBJECT + 1)
    if len(text) > LARGEST_OBJECT:
        raise InputError(f"{path} holds more than {LARGEST_OBJECT:,} characters; it is not read")
    try:
        content = load_json(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}; is it complete?") from error
    except ValueError as error:  # a key that is there twice, or a number of thousands of digits
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a JSON object")
    return content


def _list_items(buffer: _Buffer, path: Path) -> Iterator[tuple[str, str]]:
    """Yield location and text of every item of the list at the buffer's position; the buffer ends at the list's end."""
    for place in _members(buffer, path, "]", "row"):
        yield f"{path.name}:{place}", _next_item(buffer, path, place)


def _members(buffer: _Buffer, path: Path, end: str, noun: str) -> Iterator[str]:
    """Yield ``row 1``, ``row 2``, ... for each member of a list or object, with the buffer positioned before it."""
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


def _expect_end(buffer: _Buffer, path: Path) -> None:
    buffer.position += 1
    if character := buffer.next_character():
        raise InputError(
            f"{path} goes on with {character!r} behind the end of its JSON; expected one list or object; for one row a "
            "line name the file .jsonl"
        )


def _broken(path: Path, place: str) -> InputError:
    return InputError(f"{path} is broken JSON at {place}; is it complete?")


DECODER = json.JSONDecoder(parse_int=len)  # only the text of an item is used, so long integers are not evaluated


class _Buffer:
    """Text read from a stream and not yet consumed; grows until an item is complete."""

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
        """Return the next character that is not white space, without consuming it; empty at the end."""
        while True:
            while self.position < len(self._text):
                if not self._text[self.position].isspace():
                    return self._text[self.position]
                self.position += 1
            if not self._read(CHUNK):
                return ""

    def next_item(self, decoder: json.JSONDecoder) -> str | None:
        """Return the text of the next value, or None if it is missing or longer than ``LARGEST_OBJECT``.

        A number cut off by the end of the buffer looks complete, so a value must be followed by something. Each attempt
        doubles the buffer, which keeps the cost linear for a long item.
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
