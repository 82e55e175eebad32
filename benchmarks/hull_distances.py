"""Check what JARVIS-DFT's column ``ehull`` is, by computing hulls from its energies.

    python -m benchmarks.hull_distances jarvis_dft_3d_2021.jsonl.gz --reference matminer_formation_3938.jsonl.gz

Two crystals of one composition differ in their distance from the hull by as much as in their energy per atom; the
ratio of the two differences is printed. Hulls of random systems of two and three elements are computed by pymatgen
twice: with the energy of a formula unit, the total energy per atom times its number of atoms, and with the total energy
per atom taken for that of a formula unit. With ``--reference``, the lowest value of each composition is compared with
the Materials Project's ``e_above_hull``.
"""

import argparse
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations, pairwise
from pathlib import Path
from typing import Any

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from benchmarks.study import read_rows

Systems = Mapping[frozenset[str], Sequence[dict[str, Any]]]
ENERGY = "optb88vdw_total_energy"
CLOSE = 0.01  # eV/atom
SIZES = (1, 2, 3, 4, 5)  # atoms in a formula unit
APART = 0.05  # eV/atom; far more than the rounding of energies


def main() -> None:
    """Read the command line and print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSONL file with all of JARVIS-DFT")
    parser.add_argument("--reference", type=Path, help="JSONL file of crystals with their e_above_hull")
    parser.add_argument("--limit", type=int, default=1000, help="number of systems, drawn at random (1000)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    systems = defaultdict(list)
    for row in read_rows(arguments.file):
        if row.get("ehull") is not None and row.get(ENERGY) is not None:
            systems[frozenset(row["elements"])].append(row)
    print_ratios(systems)
    names = sorted(sorted(name) for name in systems if len(name) in (2, 3) and has_elements(systems, name))
    random.Random(arguments.seed).shuffle(names)
    chosen = [frozenset(name) for name in names[: arguments.limit]]
    print(f"{sum(len(systems[name]) for name in chosen):,} crystals of {len(chosen):,} systems")
    print("total energy per atom taken for that of | mean | column's | within 0.01 eV/atom of the column")
    for unit, energy in (("an atom", per_atom), ("a formula unit", per_formula)):
        pairs = [pair for name in chosen for pair in distances(systems, name, energy)]
        own, given = (statistics.fmean(values) for values in zip(*pairs, strict=True))
        print(f"{unit} | {own:.3f} | {given:.3f} | {statistics.fmean(abs(a - b) < CLOSE for a, b in pairs):.0%}")
    if arguments.reference:
        print_stable(systems, read_rows(arguments.reference))


def print_ratios(systems: Systems) -> None:
    """Print by how much the column differs between crystals of a composition, beside their energies per atom."""
    polymorphs = defaultdict(list)
    for row in chain.from_iterable(systems.values()):
        polymorphs[formula_unit(row)].append((row[ENERGY], row["ehull"]))
    ratios = defaultdict(list)
    for composition, values in polymorphs.items():
        for (energy, distance), (higher, farther) in pairwise(sorted(values)):
            if higher - energy > APART:
                ratios[int(composition.num_atoms)].append((farther - distance) / (higher - energy))
    print("atoms in a formula unit | pairs | median of the ratios | within 1% of 1 | of 1 / atoms")
    for n_atoms in SIZES:
        found = ratios[n_atoms]
        whole, part = (statistics.fmean(abs(one / of - 1) < 0.01 for one in found) for of in (1, 1 / n_atoms))
        print(f"{n_atoms} | {len(found):,} | {statistics.median(found):.3f} | {whole:.0%} | {part:.0%}")


def has_elements(systems: Systems, name: frozenset[str]) -> bool:
    """Return whether the elements of a system are in the file, without which there is no hull."""
    return all(frozenset([element]) in systems for element in name)


def per_atom(composition: Composition, total_energy: float) -> float:
    """Return the energy of a formula unit from that per atom."""
    return total_energy * composition.num_atoms


def per_formula(composition: Composition, total_energy: float) -> float:
    """Return the energy per atom, taken for that of a formula unit."""
    return total_energy


def distances(
    systems: Systems, name: frozenset[str], energy: Callable[[Composition, float], float]
) -> list[tuple[float, float]]:
    """Return distance from the computed hull, and value of the column, of the crystals of a system, eV/atom."""
    parts = [frozenset(part) for n in range(1, len(name) + 1) for part in combinations(name, n)]
    rows = [row for part in parts for row in systems.get(part, [])]
    entries = []
    for row in rows:
        composition = formula_unit(row)
        entries.append(PDEntry(composition, energy(composition, row[ENERGY])))
    hull = PhaseDiagram(entries)
    return [
        (float(hull.get_e_above_hull(entry)), row["ehull"])
        for entry, row in zip(entries, rows, strict=True)
        if set(row["elements"]) == name
    ]


def formula_unit(row: Mapping[str, Any]) -> Composition:
    """Return the composition of a crystal as that of a formula unit."""
    return Composition(Counter(row["elements"])).reduced_composition


def print_stable(systems: Systems, reference: Sequence[dict[str, Any]]) -> None:
    """Print the lowest values of the compositions that are on the hull of another database."""
    lowest: dict[Composition, float] = {}
    for row in chain.from_iterable(systems.values()):
        composition = formula_unit(row)
        lowest[composition] = min(row["ehull"], lowest.get(composition, row["ehull"]))
    stable = {formula_unit(row) for row in reference if row["e_above_hull"] < CLOSE / 10}
    found = [lowest[composition] for composition in stable if composition in lowest]
    small = statistics.fmean(value < CLOSE for value in found)
    print(f"{len(found):,} compositions on the reference's hull: ", end="")
    print(f"median ehull {statistics.median(found):.2f} eV/atom, {small:.0%} below {CLOSE}")


if __name__ == "__main__":
    main()
