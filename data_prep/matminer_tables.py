"""Convert a Materials Project table in the matminer 0.4.2 source package to a JSONL file or a folder of POSCAR files.

    python -m data_prep.matminer_tables --table elastic --output elastic.jsonl.gz
    python -m data_prep.matminer_tables --table elastic --property K_VRH --output elastic_folder

The package is downloaded from PyPI with pip (8.4 MB) and read, not installed; ``--archive`` names a copy that is
downloaded already. Materials Project data: CC BY 4.0, cite Jain et al. 2013 (doi:10.1063/1.4812323) and the paper of
the table.
"""

import argparse
import ast
import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.crystals.conversion import as_crystal
from crysmm.errors import InputError
from crysmm.io.poscar import parse_poscar
from crysmm.io.table import crystal_row
from data_prep.files import run_command, write_folder, write_jsonl

ARCHIVE = "matminer-0.4.2.tar.gz"
ARCHIVE_SHA256 = "355792330e20b121cae1492e6e8b4bcae4cf5fc5fa30d44241ef680fb809030c"
PIP_DOWNLOAD = ["pip", "download", "--no-deps", "--no-binary", ":all:", "matminer==0.4.2"]


@dataclass(frozen=True)
class Table:
    """Name of a CSV file in the package, its paper, and the scalar properties that are kept."""

    file: str
    citation: str
    properties: tuple[str, ...]


TABLES = {
    "elastic": Table(  # moduli in GPa
        "elastic_tensor.csv",
        "de Jong et al., Sci. Data 2, 150009 (2015)",
        ("K_VRH", "G_VRH", "poisson_ratio", "elastic_anisotropy", "space_group"),
    ),
    "dielectric": Table(  # band_gap in eV
        "dielectric_constant.csv",
        "Petousis et al., Sci. Data 4, 160134 (2017)",
        ("band_gap", "n", "poly_electronic", "poly_total", "space_group"),
    ),
    "flla": Table(  # energies in eV/atom
        "flla_2015.csv",
        "Faber et al., Int. J. Quantum Chem. 115, 1094 (2015)",
        ("formation_energy_per_atom", "e_above_hull"),
    ),
    "piezo": Table(  # eij_max in C/m^2
        "piezoelectric_tensor.csv",
        "de Jong et al., Sci. Data 2, 150053 (2015)",
        ("eij_max", "space_group"),
    ),
}


@contextmanager
def opened_archive(archive: Path | None) -> Iterator[Path]:
    """Yield the path of the source package, which is downloaded to a temporary folder if none is given.

    Raises:
        InputError: It cannot be downloaded or read, or its sha256 differs.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = archive or _fetch(Path(folder))
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        if digest != ARCHIVE_SHA256:
            raise InputError(f"{path} is not matminer's 0.4.2 source package: sha256 {digest}, not {ARCHIVE_SHA256}")
        yield path


def _fetch(folder: Path) -> Path:
    command = [sys.executable, "-m", *PIP_DOWNLOAD, "--quiet", "--dest", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode or not (folder / ARCHIVE).is_file():
        raise InputError(
            f"{ARCHIVE} could not be downloaded from PyPI; on a machine with a network run `{' '.join(PIP_DOWNLOAD)}`, "
            f"and give the file with --archive. pip reports: {result.stderr.strip()[-500:]}"
        )
    return folder / ARCHIVE


def read_table(archive: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, in the order of the file; properties without a value are left out."""
    table = TABLES[name]
    csv.field_size_limit(sys.maxsize)  # a cell holds a whole CIF
    with tarfile.open(archive) as package:
        member = package.extractfile(f"matminer-0.4.2/matminer/datasets/{table.file}")
        if member is None:
            raise InputError(f"{archive}: {table.file} is not a plain file in it")
        with io.TextIOWrapper(member, "utf-8", newline="") as text:
            text.readline()  # the citation
            lines = csv.reader(text)
            header = next(lines)
            for cells in lines:
                # Two tables have an unnamed index before the first named column.
                yield _table_row(table, dict(zip(header, cells[len(cells) - len(header) :], strict=True)))


def _table_row(table: Table, cells: dict[str, str]) -> dict[str, Any]:
    """Convert the cells of a row, by column, to a row of a JSONL file."""
    text = cells.get("poscar")
    crystal = parse_poscar(text) if text is not None else as_crystal(ast.literal_eval(cells["structure"]))
    properties: dict[str, float] = {key: float(cells[key]) for key in table.properties if cells[key]}
    if "space_group" in properties:
        properties["space_group"] = int(properties["space_group"])
    return crystal_row(cells["material_id"], properties, crystal)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True, choices=TABLES)
    parser.add_argument("--property", help="the property in id_prop.csv; for a folder only")
    parser.add_argument("--archive", type=Path, help=f"{ARCHIVE}, downloaded already")
    parser.add_argument("--output", required=True, type=Path, help="NAME.jsonl, NAME.jsonl.gz, or a folder to create")
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    if arguments.property not in (None, *table.properties):
        parser.error(f"--property {arguments.property}: the table has {', '.join(table.properties)}")
    if (arguments.property is None) != arguments.output.name.endswith((".jsonl", ".jsonl.gz")):
        parser.error("--property is needed for a folder; a .jsonl file has all properties, leave it out there")
    with opened_archive(arguments.archive) as archive:
        rows = read_table(archive, arguments.table)
        if arguments.property is None:
            count = write_jsonl(rows, arguments.output)
        else:
            entries = (
                (row["id"], as_crystal(row), [row[arguments.property]]) for row in rows if arguments.property in row
            )
            count = write_folder(entries, [arguments.property], arguments.output)
    print(f"{count} crystals in {arguments.output}; cite {table.citation}")


if __name__ == "__main__":
    run_command(main)
