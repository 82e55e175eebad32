"""JARVIS-DFT and MP-2018.6.1, as JARVIS distributes them on figshare, as one JSONL file.

    python -m data_prep.jarvis_figshare --dataset dft_3d_2021 --output jarvis.jsonl.gz
    python -m data_prep.jarvis_figshare --dataset megnet --property e_form --output mp_formation_energy.jsonl

A row holds ``id``, the numeric properties it has a value for, and the structure. ``--property`` keeps one property and
the crystals that have it. ``--archive`` takes a .json.zip that was downloaded already; else it is fetched to beside
the output, and kept there.
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
from crysmm.io.table import crystal_of_row, crystal_row, parse_row
from data_prep.download import download
from data_prep.files import run_command, write_jsonl

STRUCTURE_KEYS = frozenset({"id", "lattice_mat", "elements", "frac_coords"})
DATASETS = {
    "dft_3d_2021": "JARVIS-DFT of August 2021, 55,723 crystals: Choudhary et al., npj Comput. Mater. 6, 173 (2020)",
    "megnet": "Materials Project of June 2018, 69,239 crystals: Chen et al., Chem. Mater. 31, 3564 (2019); "
    "Jain et al., APL Mater. 1, 011002 (2013)",
}


def fetch(dataset: str, folder: Path) -> Path:
    """The archive of a data set, downloaded to ``folder`` unless it is there.

    Raises:
        InputError: it cannot be had.
    """
    from jarvis.db.figshare import get_db_info

    address, member = get_db_info()[dataset][:2]
    archive = folder / f"{member}.zip"
    download(address, archive)
    return archive


def read_archive(archive: Path, wanted: str | None) -> Iterator[dict[str, Any]]:
    """JSONL rows of a figshare archive, in its order; bad structures are named on the screen and left out.

    Args:
        archive: a .json.zip of one list of dicts with ``atoms`` and ``jid`` or ``id``.
        wanted: the one property to keep, of the crystals that have it; by default every numeric one of all crystals.

    Raises:
        InputError: the archive is broken, or no crystal in it has that property.
    """
    found: set[str] = set()
    for place, text in tqdm(json_list_items(archive), unit=" crystals"):
        try:
            row = _numeric_row(text)
        except StructureError as error:
            print(f"left out: {place}: {error}", file=sys.stderr)
            continue
        found.update(row.keys() - STRUCTURE_KEYS)
        if wanted is None:
            yield row
        elif wanted in row:
            yield {key: value for key, value in row.items() if key in STRUCTURE_KEYS or key == wanted}
    if wanted is not None and wanted not in found:
        raise InputError(f"no crystal of {archive} has {wanted}; there are {', '.join(sorted(found))}")


def _numeric_row(text: str) -> dict[str, Any]:
    fields = parse_row(text)
    identifier = fields.get("jid", fields.get("id"))
    if identifier is None:
        raise StructureError("the row has neither jid nor id")
    properties = {key: value for key, value in fields.items() if _is_number(value) and key not in STRUCTURE_KEYS}
    return crystal_row(str(identifier), properties, crystal_of_row(fields))


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=DATASETS)
    parser.add_argument("--property", help="keep this one alone, and the crystals that have it")
    parser.add_argument("--archive", type=Path, help="the .json.zip, downloaded already")
    parser.add_argument("--output", required=True, type=Path, help="NAME.jsonl or NAME.jsonl.gz")
    arguments = parser.parse_args()
    archive = arguments.archive or fetch(arguments.dataset, arguments.output.parent)
    count = write_jsonl(read_archive(archive, arguments.property), arguments.output)
    print(f"{count} crystals in {arguments.output}; cite {DATASETS[arguments.dataset]}")


if __name__ == "__main__":
    run_command(main)
