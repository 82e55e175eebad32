"""Compare two files of the same crystals: ids, their order, properties and structures.

    python -m data_prep.compare jdft_3d-8-18-2021.json.zip jarvis_dft_3d_2021.jsonl.gz

Each is a .jsonl or .jsonl.gz, or an archive of figshare, which is read as data_prep.jarvis_figshare does. Rows with the
same id are compared, and rows at the same place whose ids the other file does not have. Numbers and coordinates are the
same within --tolerance, as one of the files may have rounded them. Exit code 0: the same; 1: not.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from crysmm.crystals.crystal import Crystal
from crysmm.errors import InputError, StructureError, first_of
from crysmm.io.json_stream import jsonl_lines
from crysmm.io.row import parse_row, read_row
from data_prep.files import run_command
from data_prep.jarvis_figshare import is_number, read_archive

PLACES = frozenset({"id", "row", "lattice_mat", "elements", "frac_coords"})  # fields that are no properties


@dataclass(frozen=True)
class Row:
    """Crystal with its properties."""

    id: str
    properties: Mapping[str, float]
    crystal: Crystal


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file.

    Raises:
        InputError: A file, or a row of a JSONL file, is not readable.
    """
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        rows = ((f"{place}: ", parse_row(text)) for place, text in jsonl_lines(path))
    else:
        rows = (("", row) for row in read_archive(path, None))
    for place, row in rows:
        properties = {key: value for key, value in row.items() if key not in PLACES and is_number(value)}
        try:
            yield Row(str(row.get("id")), properties, read_row(row).crystal)
        except StructureError as error:
            raise InputError(f"{place}{error}") from error


def compare(first: list[Row], second: list[Row], tolerance: float) -> tuple[list[str], bool]:
    """Compare two lists of rows.

    Returns:
        Lines that say what is the same and what is not, and whether all that can be compared is the same.
    """
    places = {row.id: place for place, row in enumerate(second)}
    shared = [row for row in first if row.id in places]
    order = [places[row.id] for row in shared]
    ids = {row.id for row in first}
    alone = [row.id for row in first if row.id not in places], [row.id for row in second if row.id not in ids]
    pairs = [(row, second[place]) for row, place in zip(shared, order, strict=True)]
    pairs += [(a, b) for a, b in zip(first, second, strict=False) if a.id not in places and b.id not in ids]
    n_renamed = len(pairs) - len(shared)
    lines = [f"rows: {len(first)} and {len(second)}; {len(shared)} ids are in both"]
    for which, names in zip(("first", "second"), alone, strict=True):
        if names:
            lines.append(f"  {len(names)} ids are in the {which} file only: {first_of(names)}")
    if n_renamed:
        lines.append(f"  {n_renamed} of these stand at the same place in both, and are compared")
    in_order = order == sorted(order)
    if not in_order:
        place = next(place for place, (one, after) in enumerate(pairwise(order)) if after < one)
        lines.append(f"order: differs, first at {shared[place + 1].id}")

    others = [a.id for a, b in pairs if not same_structure(a.crystal, b.crystal, tolerance)]
    lines.append(f"structures: {len(pairs) - len(others)} of {len(pairs)} are the same")
    lines += [f"  not the same: {first_of(others)}"] if others else []
    differ = bool(others)
    for name in sorted(common_properties(first) & common_properties(second)):
        values = [(a.id, a.properties.get(name), b.properties.get(name)) for a, b in pairs]
        both = [(identifier, x, y) for identifier, x, y in values if x is not None and y is not None]
        unequal = [identifier for identifier, x, y in both if abs(x - y) > tolerance * max(1, abs(x))]
        one_only = [identifier for identifier, x, y in values if (x is None) != (y is None)]
        lines.append(f"{name}: {len(both)} rows have it in both, {len(both) - len(unequal)} with the same value")
        lines += [f"  another value: {first_of(unequal)}"] if unequal else []
        lines += [f"  {len(one_only)} rows have it in one file only: {first_of(one_only)}"] if one_only else []
        differ |= bool(unequal or one_only)
    return lines, in_order and not differ and max(map(len, alone)) == min(map(len, alone)) == n_renamed


def common_properties(rows: list[Row]) -> set[str]:
    """Return the properties that any row has."""
    return {name for row in rows for name in row.properties}


def same_structure(one: Crystal, other: Crystal, tolerance: float) -> bool:
    """Return whether two structures have the same atoms in the same order, positions up to whole cells.

    Args:
        one, other: The structures.
        tolerance: Largest difference, in Angstrom for the cell and in fractions of it for the atoms.
    """
    if one.elements != other.elements or np.abs(one.lattice - other.lattice).max() > tolerance:
        return False
    apart = one.frac_coords - other.frac_coords
    return bool(np.abs(apart - np.rint(apart)).max() <= tolerance)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--tolerance", type=float, default=2e-5, help="default: 2e-5")
    arguments = parser.parse_args()
    lines, is_same = compare(list(read_rows(arguments.first)), list(read_rows(arguments.second)), arguments.tolerance)
    print(*lines, "the same" if is_same else "not the same", sep="\n")
    return 0 if is_same else 1


if __name__ == "__main__":
    run_command(main)
