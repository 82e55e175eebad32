"""Convert JARVIS-DFT or MP-2018.6.1, as JARVIS distributes them on figshare, to a JSONL file.

    python -m data_prep.jarvis_figshare --dataset dft_3d_2021 --output jarvis.jsonl.gz
    python -m data_prep.jarvis_figshare --dataset megnet --property e_form --output mp_formation_energy.jsonl

A row has ``id``, the numeric properties with a value, and the structure. ``--property`` keeps one property and the
crystals that have it. ``--archive`` names a .json.zip that is downloaded already; otherwise it is downloaded to the
folder of the output, and kept there.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from crysmm.errors import InputError, StructureError
from crysmm.io.json_stream import json_list_items
from crysmm.io.row import parse_row, read_row
from crysmm.io.source import IdRegister
from crysmm.io.table import crystal_row
from crysmm.progress import progress_bar
from data_prep.download import download
from data_prep.files import run_command, write_jsonl

STRUCTURE_KEYS = frozenset({"id", "lattice_mat", "elements", "frac_coords"})
DATASETS = {
    "dft_3d_2021": "JARVIS-DFT of August 2021, 55,723 crystals: Choudhary et al., npj Comput. Mater. 6, 173 (2020)",
    "megnet": "Materials Project of June 2018, 69,239 crystals: Chen et al., Chem. Mater. 31, 3564 (2019); "
    "Jain et al., APL Mater. 1, 011002 (2013)",
}


def fetch(dataset: str, folder: Path) -> Path:
    """Download the archive of a data set to a folder unless it is there, and return its path.

    Raises:
        InputError: It cannot be downloaded.
    """
    from jarvis.db.figshare import get_db_info

    address, member = get_db_info()[dataset][:2]
    archive = folder / f"{member}.zip"
    download(address, archive)
    return archive


def read_archive(archive: Path, wanted: str | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a figshare archive, in its order; bad structures and repeated ids are printed and left out.

    Args:
        archive: A .json.zip with one list of dicts with ``atoms`` and ``jid`` or ``id``.
        wanted: Property to keep, for the crystals that have it; None keeps all numeric properties of all crystals.

    Raises:
        InputError: The archive is broken, or no crystal in it has the property.
    """
    found: set[str] = set()
    register = IdRegister()
    for place, text in progress_bar("reading", None, "crystals", json_list_items(archive)):
        try:
            fields = parse_row(text)
            identifier = fields.get("jid", fields.get("id"))
            identifier = register.admit(identifier)
            numbers = {key: value for key, value in fields.items() if key not in STRUCTURE_KEYS and is_number(value)}
            row = crystal_row(identifier, numbers, read_row(fields).crystal)
        except StructureError as error:
            tqdm.write(f"left out: {place}: {error}", file=sys.stderr)
            continue
        found.update(row.keys() - STRUCTURE_KEYS)
        if wanted is None:
            yield row
        elif wanted in row:
            yield {key: value for key, value in row.items() if key in STRUCTURE_KEYS or key == wanted}
    if wanted is not None and wanted not in found:
        raise InputError(f"no crystal of {archive} has {wanted}; there are {', '.join(sorted(found))}")


def is_number(value: Any) -> bool:
    """Return True for a finite number that a float can hold; JSON has integers of any size."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--property", help="keep only this property, and the crystals that have it")
    parser.add_argument("--archive", type=Path, help="the .json.zip, downloaded already")
    parser.add_argument("--output", required=True, type=Path, help="NAME.jsonl or NAME.jsonl.gz")
    arguments = parser.parse_args()
    archive = arguments.archive or fetch(arguments.dataset, arguments.output.parent)
    count = write_jsonl(read_archive(archive, arguments.property), arguments.output)
    print(f"{count} crystals in {arguments.output}; cite {DATASETS[arguments.dataset]}")


if __name__ == "__main__":
    run_command(main)
