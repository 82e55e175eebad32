"""Convert the data of CrysMMNet's authors, structures with texts (figshare 23643669), to a JSONL file.

    python -m data_prep.crysmmnet --table mbj_bandgap --output mbj.jsonl.gz
    python -m data_prep.crysmmnet --table mp --archive dataset.zip --output mp.jsonl.gz

A row has ``id``, ``composition``, the properties, ``description`` (by Robocrystallographer), and the structure; rows
stand in the authors' order, which decides their split. ``--archive`` names their zip, or the folder it was unpacked to;
otherwise it is downloaded to the folder of the output, and kept there.
"""

import argparse
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crysmm.errors import InputError, StructureError, UnlabeledError, shown
from crysmm.io.cells import read_csv
from crysmm.io.id_prop import columns_of_text
from crysmm.io.source import IdRegister, read_number
from crysmm.io.structure_file import read_file
from crysmm.io.table import crystal_row
from crysmm.progress import progress_bar
from data_prep.download import download, figshare_address
from data_prep.files import run_command, write_jsonl

ARTICLE = 23643669
CITATION = "Das et al., CrysMMNet: multimodal representation for crystal property prediction, UAI (2023)"


@dataclass(frozen=True)
class Table:
    """Table of the authors, whose columns they read by position: id, composition, the properties, text, one unused.

    Args:
        path: Path of the table in the archive.
        structures: Folder of the CIF files in the archive.
        properties: Names of the properties, in the order of their columns.
    """

    path: str
    structures: str
    properties: tuple[str, ...]


JARVIS = (
    "formation_energy_peratom", "optb88vdw_bandgap", "mbj_bandgap", "optb88vdw_total_energy", "bulk_modulus_kv",
    "shear_modulus_gv",
)  # fmt: skip
TABLES = {name: Table(f"jarvis/{name}/description.csv", f"jarvis/{name}/cif", (name,)) for name in JARVIS}
TABLES["mp"] = Table("mp_2018_new/mat_text.csv", "mp_2018_new", ("e_form", "gap pbe"))
TABLES["mp_moduli"] = Table("mp_2018_small/description.csv", "mp_2018_small/cif", ("shear modulus", "bulk modulus"))


def read_table(archive: Path, table: Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table with their structures, in its order; bad rows are printed and left out.

    Raises:
        InputError: The archive is damaged, does not hold the table, or the table has other columns than expected.
    """
    try:
        top = archive if archive.is_dir() else zipfile.Path(archive)
        root = next((root for root in (top, top / "dataset") if (root / table.path).is_file()), None)
        if root is None:
            raise InputError(f"{archive} holds no {table.path}; expected the authors' dataset.zip or what was in it")
        lines = read_csv(root / table.path)
        width = len(table.properties) + 4
        # Their header gives no names that could be relied on, so the columns are recognized by their content.
        texts = set(columns_of_text(lines[1:], width))
        has_header = set(range(1, width - 1)) <= set(columns_of_text(lines[:1], width))
        if not has_header or not {1, width - 2} <= texts or texts & set(range(2, width - 2)):
            raise InputError(
                f"{table.path} in {archive}: expected a header and {width} columns: the id, the composition, numbers "
                f"({', '.join(table.properties)}), the text and one that is not used; it begins with "
                f"{shown(', '.join(lines[0][1]) if lines else '')}"
            )
        register = IdRegister()
        for number, cells in progress_bar("reading", len(lines) - 1, "crystals", lines[1:]):
            try:
                yield read_row(root / table.structures, cells, table.properties, register)
            except StructureError as error:
                tqdm.write(f"left out: {table.path}:{number}: {error}", file=sys.stderr)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{archive} is not a whole .zip file: {error}") from error


def read_row(
    structures: Path | zipfile.Path, cells: list[str], properties: tuple[str, ...], register: IdRegister
) -> dict[str, Any]:
    """Return a row of the output.

    Raises:
        StructureError: The row is not whole, its id occurred before, a value is no number, or it has no structure.
    """
    if len(cells) != len(properties) + 4:
        raise StructureError(f"the row has {len(cells)} columns; expected {len(properties) + 4}")
    identifier, composition, *values, description, _ = cells
    identifier = register.admit(identifier)
    row: dict[str, Any] = {"composition": composition}
    for name, value in zip(properties, values, strict=True):
        try:
            row[name] = read_number(value, name)
        except UnlabeledError:
            continue
    file = structures / f"{identifier}.cif"
    if not file.is_file():
        raise StructureError(f"no structure file {identifier}.cif")
    with tempfile.TemporaryDirectory() as folder:  # a member of a zip file is read like any other file
        copy = Path(folder) / f"{Path(identifier).name}.cif"
        copy.write_bytes(file.read_bytes())
        crystal = read_file(copy).crystal
    return crystal_row(identifier, row | {"description": description}, crystal)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True, choices=TABLES, help="JARVIS' property, or a table of MP-2018.6.1")
    parser.add_argument("--archive", type=Path, help="the authors' zip, downloaded already, or the folder from it")
    parser.add_argument("--output", required=True, type=Path, help="NAME.jsonl or NAME.jsonl.gz")
    arguments = parser.parse_args()
    archive = arguments.archive
    if archive is None:
        archive = arguments.output.parent / "CrysMMNet_data.zip"
        if not archive.exists():
            download(figshare_address(ARTICLE, ".zip"), archive)
    elif not archive.exists():
        raise InputError(f"--archive: {archive} does not exist")
    count = write_jsonl(read_table(archive, TABLES[arguments.table]), arguments.output)
    print(f"{count} crystals in {arguments.output}; cite {CITATION}")


if __name__ == "__main__":
    run_command(main)
