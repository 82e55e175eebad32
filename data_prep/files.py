"""Atomic writing of JSONL files and folders of POSCAR files, and the entry point of the scripts."""

import csv
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crysmm.cli.main import guarded
from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError
from crysmm.io.table import write_rows
from data_prep.poscar import format_poscar

SAFE_ID = re.compile(r"[A-Za-z0-9_+=@(-][A-Za-z0-9_+=@().,-]{0,199}")


@contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` if the block succeeds, and removed otherwise.

    Raises:
        InputError: The path exists.
    """
    if path.exists():
        raise InputError(f"{path} exists already: delete it or give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.rename(path)


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Stream rows to a ``.jsonl`` or ``.jsonl.gz`` file, and return their number.

    Raises:
        InputError: The name has another ending, or the file exists.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{path}: expected a name ending in .jsonl or .jsonl.gz")
    with whole_or_nothing(path) as temporary:
        return write_rows(rows, temporary, packed=path.suffix == ".gz")


def write_folder(entries: Iterable[tuple[str, Crystal, Sequence[float]]], names: Sequence[str], folder: Path) -> int:
    """Stream crystals to a new folder: ``ID.vasp`` for each, and ``id_prop.csv`` with a header.

    Args:
        entries: Id, crystal and values of the properties for each crystal; an id that ends in ``.vasp`` is the name of
            its file.
        names: Names of the properties, which follow ``id`` in the header.
        folder: Folder to create.

    Returns:
        The number of crystals.

    Raises:
        InputError: The folder exists, an id is not a safe file name, or two ids give the same file.
    """
    with whole_or_nothing(folder) as temporary:
        temporary.mkdir()
        count = 0
        with (temporary / "id_prop.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *names])
            for identifier, crystal, values in entries:
                _write_poscar(temporary, identifier, crystal)
                writer.writerow([identifier, *(repr(float(value)) for value in values)])
                count += 1
    return count


def _write_poscar(folder: Path, identifier: str, crystal: Crystal) -> None:
    if not SAFE_ID.fullmatch(identifier):
        raise InputError(
            f"the id {identifier!r} cannot be a file name: expected up to 200 letters, digits and _ + = @ ( ) . , - "
            "and no dot at the start; rename it in the input"
        )
    name = identifier if identifier.endswith(".vasp") else f"{identifier}.vasp"
    try:
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(format_poscar(crystal, identifier))
    except FileExistsError:
        raise InputError(f"two ids have the file {name}, one of them {identifier!r}; ids must differ") from None


def run_command(main: Callable[[], int | None]) -> None:
    """Run a script; bad input, Ctrl-C and errors of the system end it with one line and an exit code.

    Args:
        main: Function of the script; what it returns is the exit code, None being 0.
    """
    sys.exit(guarded(lambda: main() or 0))
