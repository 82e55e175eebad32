"""Check structures that the audit calls near-identical: agreement of labels, and of pymatgen's matcher.

    python -m benchmarks.near_duplicates mp.jsonl.gz --target_key formation_energy_per_atom

Pairs of crystals of one formula, of at most 8 crystals a formula and 40 atoms a cell, by the difference of their
distances (crysmm/graphs/distances.py), beside pymatgen's StructureMatcher with its default tolerances.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crysmm.graphs.distances import sorted_distances
from crysmm.io.inputs import open_source
from crysmm.io.source import Record
from data_prep.convert import readable_records

LIMITS = (0.0, 0.01, 0.1, 0.2, 0.3, 0.5, 1.0, np.inf)  # Angstrom
MOST_CRYSTALS, MOST_ATOMS = 8, 40


def main() -> int:
    """Print a line for each range of differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root_dir", type=Path, help="structures with a property")
    parser.add_argument("--target_key", help="the property")
    arguments = parser.parse_args()
    pairs = np.array(list(compare(read(arguments.root_dir, arguments.target_key))))
    print(f"{'difference':>12} {'pairs':>6} {'matched':>8} {'label differs by, median':>26} {'90%':>8}")
    for low, high in pairwise(LIMITS):
        chosen = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)]
        if len(chosen):
            matched, median, most = chosen[:, 1].mean(), *np.quantile(chosen[:, 2], (0.5, 0.9))
            print(f"{low:5g} - {high:4g} {len(chosen):6} {matched:8.0%} {median:26.4f} {most:8.4f}")
    return 0


def read(root_dir: Path, target_key: str | None) -> list[list[Record]]:
    """Return the crystals that share their formula with others, by formula."""
    by_formula = defaultdict(list)
    for record in readable_records(open_source(root_dir, target_key=target_key)):
        if len(record.crystal) <= MOST_ATOMS:
            by_formula[record.crystal.formula].append(record)
    return [records[:MOST_CRYSTALS] for records in by_formula.values() if len(records) > 1]


def compare(groups: list[list[Record]]) -> Iterator[tuple[float, bool, float]]:
    """Yield for each pair the difference of distances, whether pymatgen matches it, and the difference of labels."""
    matcher = StructureMatcher()
    for records in groups:
        crystals = [record.crystal for record in records]
        distances = [sorted_distances(crystal) for crystal in crystals]
        structures = [Structure(crystal.lattice, crystal.elements, crystal.frac_coords) for crystal in crystals]
        for one, other in combinations(range(len(records)), 2):
            difference = distances[one].difference(distances[other])
            label = abs(records[one].targets[0] - records[other].targets[0])
            yield difference, matcher.fit(structures[one], structures[other]), label


if __name__ == "__main__":
    raise SystemExit(main())
