"""Compare what crysmm and another library read in real structure files.

    python -m benchmarks.structures FOLDER --reference pymatgen --csv structures.csv
    python -m benchmarks.structures --sdist gemmi-0.7.5.tar.gz ase-3.29.0.tar.gz

Every file that crysmm's readers would take is read twice, in a process that is replaced when it dies or finds no end.
Two structures are the same if they have one reduced formula, volumes per atom that differ by less than
``VOLUME_TOLERANCE``, and distances of neighbors, pair of elements by pair (crysmm/data/duplicates.py), that differ by
less than ``TOLERANCE``: cell, origin and orientation do not matter. A structure of which crysmm makes no graph, as its
atoms are closer than they can be, is refused. Verdicts:

- same, different: both read an ordered structure; or crysmm reads one where the reference finds disorder (different)
- refused: by crysmm, with its reason, where the reference reads an ordered structure
- disordered: refused by crysmm, and the reference finds shared or partly occupied sites: rightly refused
- reference cannot: read what crysmm reads
- neither: can

The reference is given the first structure of a file. What it does not read is read by another: pymatgen's xyz and
gemmi's POSCAR and xyz by ASE, pymatgen's PDB by gemmi.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import multiprocessing
import os
import resource
import tarfile
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.processes import heading, row
from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal, to_fractional
from crysmm.errors import StructureError
from crysmm.graphs.distances import sorted_distances
from crysmm.graphs.neighbors import find_edges
from crysmm.io.structure_file import format_from_name, format_from_text, read_structure
from crysmm.progress import progress_bar

TOLERANCE = 0.02  # Angstrom, of distances; pymatgen moves atoms by 1e-4 of a cell to thirds and sixths
VOLUME_TOLERANCE = 1e-3  # of the volume per atom
MOST_ATOMS = 20_000  # of larger cells formula and volume are compared alone
CLOSE = GraphSettings(neighbor_strategy="radius", cutoff=2.5)  # a search that refuses atoms closer than they can be
OCCUPANCY_TOLERANCE = 1e-3  # as crysmm takes it
SAME_SITE = 0.05  # Angstrom, likewise
CONTENT_DECIDES = ("", ".mcif", ".mmcif", ".ent", ".txt")  # elsewhere it is source code that looks like CIF
LARGEST_MEMBER = 100 << 20  # bytes
MOST_ADDRESSES = 16 << 30  # bytes; what asks for more gets an error of its own
SAME, DIFFERENT, REFUSED, DISORDERED, ONLY_CRYSMM, NEITHER = (
    "same", "different", "refused", "disordered", "reference cannot", "neither",
)  # fmt: skip
VERDICTS = (SAME, DIFFERENT, REFUSED, DISORDERED, ONLY_CRYSMM, NEITHER)


class DisorderedError(Exception):
    """The reference finds sites that are shared or partly occupied."""


@dataclass(frozen=True)
class Reading:
    """Structure that a reader finds in a file, or the reason why it finds none."""

    formula: str = ""
    atoms: int = 0
    volume: float = 0.0
    reason: str = ""
    disordered: bool = False


@dataclass(frozen=True)
class Row:
    """Line of the CSV; ``difference`` names what differs between two structures, or is a distance in Angstrom."""

    path: str
    format: str
    verdict: str
    difference: str
    formula: str
    atoms: int
    volume: float
    reason: str
    reference_formula: str
    reference_atoms: int
    reference_volume: float
    reference_error: str


def read_and_check(path: Path) -> Crystal:
    """Read the structure in a file as crysmm's commands do."""
    crystal = read_structure(path)
    find_edges(crystal, CLOSE)
    return crystal


def read_with_pymatgen_cif(path: Path) -> Crystal:
    """Read the first structure in a CIF with pymatgen."""
    from pymatgen.io.cif import CifParser

    return from_pymatgen(CifParser(path).parse_structures(primitive=False, on_error="ignore")[0])


def read_with_pymatgen_poscar(path: Path) -> Crystal:
    """Read a POSCAR with pymatgen; elements that it makes up are left out."""
    from pymatgen.io.vasp import Poscar

    poscar = Poscar.from_file(path, check_for_potcar=False, read_velocities=False)
    if not poscar.true_names:
        raise ValueError("the POSCAR names no elements")
    return from_pymatgen(poscar.structure)


def from_pymatgen(structure: Any) -> Crystal:
    """Convert a pymatgen ``Structure``; isotopes become elements."""
    if not structure.is_ordered:
        raise DisorderedError
    symbols = [site.specie.symbol for site in structure]
    return crystal_of(structure.lattice.matrix, structure.frac_coords, symbols)


def read_with_gemmi_cif(path: Path) -> Crystal:
    """Read the first block of a CIF that has sites, with gemmi and its table of space groups."""
    from gemmi import cif, make_small_structure_from_block

    for block in cif.read(str(path)):
        small = make_small_structure_from_block(block)
        if not small.sites:
            continue
        if any(abs(site.occ - 1) > OCCUPANCY_TOLERANCE for site in small.sites):
            raise DisorderedError
        if small.symops and len(small.symops) != len(small.cell.images) + 1:
            raise ValueError(f"{len(small.cell.images) + 1} of {len(small.symops)} operations are taken")
        sites = small.get_all_unit_cell_sites()
        lattice = np.array(small.cell.orth.mat.tolist()).T
        return crystal_of(lattice, [site.fract.tolist() for site in sites], [site.element.name for site in sites])
    raise ValueError("no sites")


def read_with_gemmi_pdb(path: Path) -> Crystal:
    """Read the first model of a PDB file with gemmi, with the images under its space group."""
    from gemmi import Op, read_pdb

    structure = read_pdb(str(path))
    if not structure.cell.is_crystal():
        raise ValueError("no cell")
    group = structure.find_spacegroup()
    operations = list(group.operations()) if group else [Op("x,y,z")]
    lattice = np.array(structure.cell.orth.mat.tolist()).T
    coords, symbols = [], []
    for one in structure[0].all():
        if abs(one.atom.occ - 1) > OCCUPANCY_TOLERANCE:
            raise DisorderedError
        images: list[np.ndarray] = []
        for operation in operations:
            image = np.array(operation.apply_to_xyz(structure.cell.fractionalize(one.atom.pos).tolist()))
            steps = np.array([image - other for other in images]).reshape(-1, 3)
            if not (np.linalg.norm((steps - np.round(steps)) @ lattice, axis=1) < SAME_SITE).any():
                images.append(image)
        coords += images
        symbols += [one.atom.element.name] * len(images)
    return crystal_of(lattice, coords, symbols)


def read_with_ase(path: Path, file_format: str) -> Crystal:
    """Read the first structure in a file with ASE."""
    from ase.io import read

    options = {"fractional_occupancies": True} if file_format == "cif" else {}
    atoms: Any = read(path, index=0, format=file_format, **options)
    occupancies = [part for site in atoms.info.get("occupancy", {}).values() for part in site.values()]
    occupancies += list(atoms.arrays.get("occupancy", []))
    if any(abs(occupancy - 1) > OCCUPANCY_TOLERANCE for occupancy in occupancies):
        raise DisorderedError
    if atoms.cell.rank < 3:
        raise ValueError("no cell")
    return crystal_of(atoms.cell.array, to_fractional(atoms.cell.array, atoms.positions), list(atoms.symbols))


def crystal_of(lattice: Any, coords: Any, symbols: list[str]) -> Crystal:
    """Return a checked crystal; isotopes of hydrogen become hydrogen."""
    return Crystal.from_arrays(lattice, coords, ["H" if symbol in ("D", "T") else symbol for symbol in symbols])


def _ase(file_format: str) -> Callable[[Path], Crystal]:
    return lambda path: read_with_ase(path, file_format)


OTHERS = {"poscar": _ase("vasp"), "xyz": _ase("extxyz"), "pdb": read_with_gemmi_pdb}
REFERENCES: dict[str, dict[str, Callable[[Path], Crystal]]] = {
    "pymatgen": OTHERS | {"cif": read_with_pymatgen_cif, "poscar": read_with_pymatgen_poscar},
    "gemmi": OTHERS | {"cif": read_with_gemmi_cif},
    "ase": OTHERS | {"cif": _ase("cif"), "pdb": _ase("proteindatabank")},
}


def find_files(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield every file under a folder and its format, None if crysmm knows none."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        found = format_from_name(path.name)
        if found is None and path.suffix.lower() in CONTENT_DECIDES and path.stat().st_size < LARGEST_MEMBER:
            content = path.read_bytes()
            found = None if b"\0" in content else format_from_text(content.decode("utf-8-sig", errors="replace"))
        yield path, found if found in REFERENCES["ase"] else None


def extract(archives: Iterable[Path], folder: Path) -> None:
    """Unpack archives, each to a folder of its name; links and members outside it are left out."""
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.size < LARGEST_MEMBER and ".." not in Path(member.name).parts:
                    tar.extract(member, folder / archive.name, set_attrs=False, filter="data")


def serve(connection: Connection, reference: str) -> None:
    """Report that imports are done, then answer each file with both readings and their difference."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    _warm_up(reference)
    crystals: dict[str, Crystal] = {}
    connection.send("ready")
    while True:
        question, path, file_format = connection.recv()
        if question == "difference":
            connection.send(difference(crystals["crysmm"], crystals["reference"]))
            continue
        read = read_and_check if question == "crysmm" else REFERENCES[reference][file_format]
        reading, crystal = _try(read, path)
        if crystal is not None:
            crystals[question] = crystal
        connection.send(reading)


def _warm_up(reference: str) -> None:
    """Import everything, so that the first file is not charged for it."""
    for module in ("ase.io", "gemmi", *(("pymatgen.io.cif", "pymatgen.io.vasp") if reference == "pymatgen" else ())):
        importlib.import_module(module)
    sorted_distances(Crystal.from_arrays(3 * np.eye(3), np.zeros((1, 3)), ["Po"]))


def _try(read: Callable[[Path], Crystal], path: Path) -> tuple[Reading, Crystal | None]:
    try:
        crystal = read(path)
    except StructureError as error:
        return Reading(reason=_line(error)), None
    except DisorderedError:
        return Reading(reason="disordered", disordered=True), None
    except Exception as error:  # noqa: BLE001 - foreign code meets whatever people have
        return Reading(reason=f"{type(error).__name__}: {_line(error)}"), None
    return Reading(crystal.formula, len(crystal), round(crystal.volume, 4)), crystal


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def difference(one: Crystal, other: Crystal) -> str:
    """Return the difference of two structures in words; empty if they are the same."""
    if one.formula != other.formula:
        return "formula"
    volumes = one.volume / len(one), other.volume / len(other)
    if abs(volumes[0] / volumes[1] - 1) > VOLUME_TOLERANCE:
        return "volume per atom"
    if max(len(one), len(other)) > MOST_ATOMS:
        return ""
    try:
        distance = sorted_distances(one).difference(sorted_distances(other))
    except StructureError as error:  # the reference's atoms on one place; or a cell too thin for the search
        return "atoms too close" if "Angstrom apart" in str(error) else ""
    return f"{distance:.3f}" if distance > TOLERANCE else ""


class Worker:
    """Process that reads files; another replaces it if it dies."""

    def __init__(self, reference: str, timeout: float):
        self._reference, self._timeout = reference, timeout
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def compare(self, path: Path, file_format: str, shown: str) -> Row:
        """Return the line of a file; a reader that dies or does not end is a reason."""
        ours, theirs = (self._ask(who, path, file_format) for who in ("crysmm", "reference"))
        ours, theirs = (Reading(reason=found) if isinstance(found, str) else found for found in (ours, theirs))
        differing = ""
        if ours.atoms and (theirs.atoms or theirs.disordered):
            differing = str(self._ask("difference", path, file_format)) if theirs.atoms else "disorder"
        return Row(
            shown, file_format, verdict(ours, theirs, differing), differing,
            ours.formula, ours.atoms, ours.volume, ours.reason,
            theirs.formula, theirs.atoms, theirs.volume, theirs.reason,
        )  # fmt: skip

    def _ask(self, question: str, path: Path, file_format: str) -> Any:
        """Return the answer of the process, or text that says how it ended."""
        try:
            connection = self._started()
            connection.send((question, path, file_format))
            if connection.poll(self._timeout):
                return connection.recv()
            why = f"no end in {self._timeout:g} s"
        except (EOFError, OSError):
            why = "the process died"
        self.close()
        return why

    def _started(self) -> Connection:
        if self._connection is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, self._reference), daemon=True)
            self._process.start()
            theirs.close()
            self._connection.recv()
        return self._connection

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = self._connection = None


def verdict(ours: Reading, theirs: Reading, differing: str) -> str:
    """Return one of ``VERDICTS``."""
    if ours.atoms:
        if theirs.atoms or theirs.disordered:
            return DIFFERENT if differing else SAME
        return ONLY_CRYSMM
    if theirs.disordered:
        return DISORDERED
    return REFUSED if theirs.atoms else NEITHER


def compare(files: Iterable[tuple[Path, str]], folder: Path, reference: str, timeout: float) -> Iterator[Row]:
    """Yield a line for each file, with its path relative to the folder."""
    worker = Worker(reference, timeout)
    try:
        for path, file_format in files:
            yield worker.compare(path, file_format, path.relative_to(folder).as_posix())
    finally:
        worker.close()


def line(found: Row) -> str:
    """Return the printed line of a file."""
    one = f"{found.formula}, {found.atoms} atoms, {found.volume:g} A^3" if found.atoms else found.reason
    other = f"{found.reference_formula}, {found.reference_atoms} atoms, {found.reference_volume:g} A^3"
    parts = {
        SAME: one,
        DIFFERENT: f"{found.difference}: {one} | {other if found.reference_atoms else found.reference_error}",
        REFUSED: f"{one} | {other}",
        ONLY_CRYSMM: f"{one} | {found.reference_error}",
        NEITHER: f"{one} | {found.reference_error}",
    }
    return f"{found.verdict:16} {found.path}: {parts.get(found.verdict, one)}"


def report(rows: list[Row]) -> str:
    """Return a Markdown table with a line per format."""
    by_format: dict[str, list[Row]] = defaultdict(list)
    for found in rows:
        by_format[found.format].append(found)
    lines = [heading(f"| format | files | {' | '.join(VERDICTS)} |")]
    for name, some in [*sorted(by_format.items()), ("all", rows)]:
        counts = Counter(found.verdict for found in some)
        lines.append(row([name, f"{len(some):,}", *(f"{counts[kind]:,}" for kind in VERDICTS)]))
    return "\n".join(lines)


def main() -> int:
    """Read the files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("folder", type=Path, nargs="?", help="folder with structure files, at any depth")
    source.add_argument("--sdist", type=Path, nargs="+", metavar="FILE", help="archives (.tar.gz) instead of a folder")
    parser.add_argument("--reference", choices=REFERENCES, default="pymatgen", help="the other library (pymatgen)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for a reader and a file (60)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line a file here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        extract(arguments.sdist or (), folder)
        found = list(find_files(folder))
        files = [(path, file_format) for path, file_format in found if file_format is not None]
        done = compare(files, folder, arguments.reference, arguments.timeout)
        rows = list(shown(progress_bar("comparing", len(files), "files", done), arguments.csv))
    print(f"\n{len(found) - len(files):,} files of no known format are left out\n\n{report(rows)}")
    return 0


def shown(rows: Iterable[Row], path: Path | None) -> Iterator[Row]:
    """Yield rows, and print and write each as it comes."""
    with open(path or os.devnull, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        for found in rows:
            writer.writerow(asdict(found))
            file.flush()
            tqdm.write(line(found))
            yield found


if __name__ == "__main__":
    raise SystemExit(main())
