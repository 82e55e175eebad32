"""Make ``examples/sample_data``: 200 small crystals from matminer's elastic table, with their bulk moduli.

    python -m data_prep.sample_data --output examples/sample_data

The crystals of 2 to 12 atoms, sorted by K_VRH, are cut into 200 groups of equal size. From each, the crystal with the
most new elements is taken, ties broken by a seed. So the values are distributed as in the table, and most elements
occur.
"""

import argparse
import random
from pathlib import Path
from typing import Any

from crysmm.crystals.conversion import as_crystal
from data_prep.files import run_command, write_folder
from data_prep.matminer_tables import ARCHIVE, opened_archive, read_table

SEED = 123
N_CRYSTALS = 200
SMALLEST, LARGEST = 2, 12  # atoms

README = """# Sample data: bulk moduli of 200 crystals

`mp-….vasp` are crystal structures (POSCAR), `id_prop.csv` gives each one's bulk modulus `K_VRH` (Voigt-Reuss-Hill
average, GPa, DFT-PBE): {smallest} to {largest} atoms per cell, {n_elements} elements, {lowest:.1f} to {highest:.1f}
GPa. The values are from 2015; those of today's Materials Project differ.

`descriptions.jsonl` has a text description of each, by Robocrystallographer (Ganose and Jain, MRS Communications 9, 874
(2019)), from the structure alone:

    crysmm describe --root_dir examples/sample_data --output examples/sample_data/descriptions.jsonl

**Source.** The Materials Project, through the elastic table of matminer 0.4.2. Ids are Materials Project ids. The
{n_crystals} crystals were selected, and their numbers copied unchanged, by

    python -m data_prep.sample_data --output examples/sample_data

**License.** Materials Project data: [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).

**Cite**

- A. Jain et al., Commentary: The Materials Project: A materials genome approach to accelerating materials innovation,
  APL Materials 1, 011002 (2013), doi:10.1063/1.4812323
- M. de Jong et al., Charting the complete elastic properties of inorganic crystalline compounds,
  Scientific Data 2, 150009 (2015), doi:10.1038/sdata.2015.9
"""


def choose(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Select the rows of the sample, sorted by id."""
    generator = random.Random(SEED)
    small = [row for row in rows if SMALLEST <= len(row["elements"]) <= LARGEST]
    small.sort(key=lambda row: (row["K_VRH"], row["id"]))
    seen: set[str] = set()
    chosen = []
    for number in range(N_CRYSTALS):
        group = small[number * len(small) // N_CRYSTALS : (number + 1) * len(small) // N_CRYSTALS]
        generator.shuffle(group)  # max returns the first of several that are equally good
        best = max(group, key=lambda row: len(set(row["elements"]) - seen))
        seen.update(best["elements"])
        chosen.append(best)
    return sorted(chosen, key=lambda row: int(row["id"].removeprefix("mp-")))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help=f"{ARCHIVE}, downloaded already")
    parser.add_argument("--output", required=True, type=Path, help="the folder to create")
    arguments = parser.parse_args()
    with opened_archive(arguments.archive) as archive:
        rows = choose(list(read_table(archive, "elastic")))
    write_folder(((row["id"], as_crystal(row), [row["K_VRH"]]) for row in rows), ["K_VRH"], arguments.output)
    moduli = [row["K_VRH"] for row in rows]
    (arguments.output / "README.md").write_text(
        README.format(
            smallest=min(len(row["elements"]) for row in rows),
            largest=max(len(row["elements"]) for row in rows),
            n_elements=len({element for row in rows for element in row["elements"]}),
            lowest=min(moduli),
            highest=max(moduli),
            n_crystals=len(rows),
        ),
        encoding="utf-8",
    )
    print(f"{len(rows)} crystals in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
