"""Make any number of crystals from real ones by strain and substitution, to measure speed and memory with.

    python -m data_prep.synthetic --input examples/sample_data --count 1000000 --output million.jsonl

Each crystal is an input crystal with a strained cell and elements replaced by others of their group. Its property is
the volume per atom in cubic Angstrom. The crystal with a given number is the same in every run.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from crysmm.crystals.crystal import Crystal
from crysmm.elements import ATOMIC_NUMBERS
from crysmm.io.inputs import open_source
from crysmm.io.table import crystal_row
from crysmm.progress import progress_bar
from data_prep.convert import readable_records
from data_prep.files import run_command, write_jsonl

LARGEST_STRAIN = 0.05
CHANCE_OF_SUBSTITUTION = 0.5  # for each element in a crystal
GROUPS = (
    "Li Na K Rb Cs", "Be Mg Ca Sr Ba", "Sc Y La Lu", "Ti Zr Hf", "V Nb Ta", "Cr Mo W", "Mn Tc Re", "Fe Ru Os",
    "Co Rh Ir", "Ni Pd Pt", "Cu Ag Au", "Zn Cd Hg", "B Al Ga In Tl", "C Si Ge Sn Pb", "N P As Sb Bi", "O S Se Te",
    "F Cl Br I",
)  # fmt: skip
PROPERTY = "volume_per_atom"


def synthetic_crystals(bases: Sequence[Crystal], count: int, seed: int = 0) -> Iterator[Crystal]:
    """Yield crystals made from the bases, which are used in turn.

    Args:
        bases: Real crystals.
        count: Number of crystals to make.
        seed: Seed; together with the number of a crystal it decides the strain and the substitutions.
    """
    groups = [[ATOMIC_NUMBERS[symbol] for symbol in group.split()] for group in GROUPS]
    relatives = {number: group for group in groups for number in group}
    for number in range(count):
        random = np.random.default_rng([seed, number])
        base = bases[number % len(bases)]
        strain = np.eye(3) + random.uniform(-LARGEST_STRAIN, LARGEST_STRAIN, (3, 3))
        lattice = base.lattice @ (strain + strain.T) / 2
        new = np.arange(256, dtype=np.uint8)
        for element in np.unique(base.atomic_numbers):
            if random.random() < CHANCE_OF_SUBSTITUTION:
                new[element] = random.choice(relatives.get(int(element), [element]))
        yield Crystal(lattice, base.frac_coords, new[base.atomic_numbers])


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, type=Path, help="real crystals: a folder or file that crysmm reads")
    parser.add_argument("--count", required=True, type=int, help="number of crystals to make")
    parser.add_argument("--output", required=True, type=Path, help="NAME.jsonl or NAME.jsonl.gz")
    parser.add_argument("--limit", type=int, help="use only this many crystals of the input, from the beginning")
    arguments = parser.parse_args()
    source = open_source(arguments.input, limit=arguments.limit)
    bases = [record.crystal for record in readable_records(source)]
    crystals = progress_bar("making", arguments.count, "crystals", synthetic_crystals(bases, arguments.count))
    rows = (
        crystal_row(f"synthetic-{number}", {PROPERTY: crystal.volume / len(crystal)}, crystal)
        for number, crystal in enumerate(crystals)
    )
    print(f"{write_jsonl(rows, arguments.output)} crystals in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
