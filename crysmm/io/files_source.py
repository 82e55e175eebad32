"""Rows whose structures are files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crysmm.config.run import FileFormat
from crysmm.io.source import ReadingOptions, Record, Row, SkippedRow, Source, encodable, hash_parts, new_hash
from crysmm.io.structure_file import read_file


@dataclass(frozen=True)
class FileRow(Row):
    """Row whose structure is a file."""

    path: Path
    file_format: FileFormat | None
    targets: tuple[float, ...]

    def read(self) -> Record:
        """Read the record.

        Raises:
            StructureError: The file cannot be used.
        """
        read = read_file(self.path, self.file_format)
        return Record(self.id, read.crystal, self.targets, self.file, read.notes, read.has_formula)


class FileRows(Source):
    """Base of sources whose rows are files; the fingerprint covers file names and contents."""

    def __init__(self, options: ReadingOptions) -> None:
        self._options = options

    @abstractmethod
    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Yield every row."""

    def fingerprint(self) -> str:
        """Return a SHA-256 of target names, ids, targets, file names and contents, skipped rows, and the options."""
        digest = new_hash(self._options, self.target_names)
        for row in self.rows():
            if isinstance(row, SkippedRow):
                hash_parts(digest, row)
                continue
            try:
                content = row.path.read_bytes()
            except OSError as error:
                content = str(error).encode()
            hash_parts(digest, row.id, row.file, row.targets, len(content))
            digest.update(content)
        return digest.hexdigest()


class FilesSource(FileRows):
    """Structure files without targets.

    Args:
        entries: Pairs of id and path.
        options: Options with the file format and a limit.
        folder: Folder that files are named relative to.
    """

    def __init__(
        self, entries: Sequence[tuple[str, Path]], options: ReadingOptions, folder: Path | None = None
    ) -> None:
        super().__init__(options)
        self.target_names = ()
        self._entries = entries if options.limit is None else entries[: options.limit]
        self._folder = folder
        self.n_rows = len(self._entries)

    def rows(self) -> Iterator[FileRow | SkippedRow]:
        """Yield every file; a repeated one is a :class:`SkippedRow`."""
        seen: set[str] = set()
        for name, path in self._entries:
            identifier = encodable(name)
            file = encodable(str(path if self._folder is None else path.relative_to(self._folder)))
            if identifier in seen:
                yield SkippedRow(identifier, file, "the file was given before")
                continue
            seen.add(identifier)
            yield FileRow(identifier, file, path, self._options.file_format, ())
