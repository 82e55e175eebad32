"""Measure the effect of rounded coordinates on shells, neighbor ties, graphs and equivalent atoms.

    python -m benchmarks.rounding crystals.jsonl.gz --limit 2000

Each crystal is compared with its symmetrized copy: lattice and positions averaged over the symmetry operations that
moyo finds within ``SYMPREC``, in the same cell and with the same order of atoms. Crystals come in three forms: given,
as in the file; rounded, the symmetrized copy rounded to 5 decimals again; and symmetrized. The first table counts
atoms and graphs by form; the second gives the gaps between successive distances from an atom, up to the one beyond its
12th neighbor. ``--tolerances`` tries other values than those of ``crysmm/graphs``.
"""

import argparse
import logging
import random
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.processes import heading, row
from crysmm.config.graph import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.errors import StructureError
from crysmm.graphs import equivalence, neighbors
from crysmm.graphs.equivalence import find_equivalence
from crysmm.graphs.neighbors import EdgeList, find_edges
from crysmm.io.inputs import open_source
from crysmm.io.source import SkippedRow

SYMPREC = 1e-3  # Angstrom
DECIMALS = 5  # of lattice vectors in Angstrom and of fractional coordinates
FORMS = ("given", "rounded", "symmetrized")
STRATEGIES = {  # a network that reads angles has k-nearest by default, the others have cgcnn
    "cgcnn": GraphSettings(neighbor_strategy="cgcnn"),
    "k-nearest": GraphSettings(neighbor_strategy="k-nearest"),
}
DISTANCES = GraphSettings(neighbor_strategy="radius", cutoff=8.0)
NEAREST = 12  # the default number of neighbors
NO_GAP = 1e-9  # Angstrom; symmetrized distances of one shell differ by less
LIMITS = (1e-6, 1e-5, 3e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 1e-2)  # Angstrom


def main() -> None:
    """Read the command line and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="structures; no property is read")
    parser.add_argument("--limit", type=int, default=2000, help="number of crystals, drawn at random (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerances", type=float, nargs=2, metavar=("SHELL", "ANGLE"), help="Angstrom, and of angles")
    arguments = parser.parse_args()
    if arguments.tolerances:
        set_tolerances(*arguments.tolerances)
    rows = list(open_source(arguments.file, needs_targets=False).rows())
    random.Random(arguments.seed).shuffle(rows)
    counts, gaps = Counter[tuple[str, ...]](), {form: [np.zeros(0)] for form in FORMS}
    for source_row in rows[: arguments.limit]:
        if isinstance(source_row, SkippedRow):
            continue
        try:
            crystal = source_row.read().crystal
            symmetrized, orbits = symmetrize(crystal, SYMPREC)
            forms = {"given": crystal, "rounded": rounded(symmetrized), "symmetrized": symmetrized}
            compare(forms, len(set(orbits.tolist())), counts, gaps)
        except (ValueError, StructureError) as error:
            print(f"left out: {source_row.id}: {error}", file=sys.stderr)
    print(f"shells {neighbors.SHELL_TOLERANCE:g} Angstrom, angles {equivalence.ANGLE_TOLERANCE:g}: ", end="")
    print(f"{counts['crystals',]} crystals, {counts['atoms',]} atoms in {counts['orbits',]} orbits\n")
    print_counts(counts)
    print()
    print_gaps({form: np.concatenate(parts) for form, parts in gaps.items()})


def set_tolerances(shell: float, angle: float) -> None:
    """Replace the tolerances of the neighbor search and of equivalent atoms in this process."""
    neighbors.SHELL_TOLERANCE = equivalence.SHELL_TOLERANCE = shell
    equivalence.LONGEST_CHAIN, equivalence.ANGLE_TOLERANCE = 5 * shell, angle


def symmetrize(crystal: Crystal, symprec: float) -> tuple[Crystal, np.ndarray]:
    """Average lattice and positions over the symmetry operations that moyo finds.

    Returns:
        The crystal, and the first atom of each atom's orbit, ``[n_atoms]``.

    Raises:
        ValueError: Moyo finds no symmetry, or its operations do not permute the atoms.
    """
    from moyopy import Cell, MoyoDataset

    logging.getLogger("moyo").setLevel(logging.ERROR)  # several lines for each cell that is not primitive
    coords, numbers = crystal.frac_coords, crystal.atomic_numbers
    found = MoyoDataset(Cell(crystal.lattice.tolist(), coords.tolist(), numbers.tolist()), symprec=symprec)
    rotations, translations = np.array(found.operations.rotations), np.array(found.operations.translations)
    metric = crystal.lattice @ crystal.lattice.T
    total = np.zeros_like(coords)
    for rotation, translation in zip(rotations, translations, strict=True):
        images = coords @ rotation.T + translation
        steps = images[:, None] - coords
        steps -= np.round(steps)
        distances = np.einsum("ijd,de,ije->ij", steps, metric, steps)
        distances[numbers[:, None] != numbers] = np.inf
        nearest = distances.argmin(axis=1)
        if len(set(nearest.tolist())) < len(crystal):
            raise ValueError("symmetry operations do not permute the atoms")
        total[nearest] += coords[nearest] + steps[np.arange(len(crystal)), nearest]
    metric = np.mean([rotation.T @ metric @ rotation for rotation in rotations], axis=0)
    symmetrized = Crystal(np.linalg.cholesky(metric), total / len(rotations), numbers)
    return symmetrized, np.array(found.orbits)


def rounded(crystal: Crystal) -> Crystal:
    """Return the crystal as a file with few decimals gives it."""
    return Crystal(crystal.lattice.round(DECIMALS), crystal.frac_coords.round(DECIMALS), crystal.atomic_numbers)


def compare(
    forms: dict[str, Crystal], n_orbits: int, counts: Counter[tuple[str, ...]], gaps: dict[str, list[np.ndarray]]
) -> None:
    """Add one crystal in its forms to the counts and gaps."""
    n_atoms = len(forms["symmetrized"])
    counts["crystals",] += 1
    counts["atoms",] += n_atoms
    counts["orbits",] += n_orbits
    shells = {form: nearest_shells(crystal) for form, crystal in forms.items()}
    for form, (sizes, of_gaps) in shells.items():
        gaps[form].append(of_gaps)
        exact, _ = shells["symmetrized"]
        counts["shells differ", form] += sum(one != other for one, other in zip(sizes, exact, strict=True))
        counts["ties", form] += sum(sum(one) > NEAREST for one in sizes)
    for strategy, settings in STRATEGIES.items():
        edges = {form: find_edges(crystal, settings) for form, crystal in forms.items()}
        for form, crystal in forms.items():
            found = find_equivalence(crystal, edges[form], settings)
            n_classes = len(set(found.representative.tolist()))
            n_edges, n_triplets = found.merged_sizes(edges[form])
            for name, number in {
                "graphs differ": not is_same(edges[form], edges["symmetrized"]),
                "classes": n_classes,
                "more classes than orbits": n_classes > n_orbits,
                "fewer classes than orbits": n_classes < n_orbits,
                "edges computed": n_edges,
                "triplets computed": n_triplets,
            }.items():
                counts[name, strategy, form] += number


def nearest_shells(crystal: Crystal) -> tuple[list[list[int]], np.ndarray]:
    """Return the sizes of each atom's shells up to that of its 12th neighbor, and the gaps between their distances."""
    edges = find_edges(crystal, DISTANCES)
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
    sizes, gaps = [], [np.zeros(0)]
    for atom in range(len(crystal)):
        distances = np.sort(lengths[edges.destination == atom])
        steps = np.diff(distances)
        ends = np.append(np.flatnonzero(steps > neighbors.SHELL_TOLERANCE) + 1, len(distances))
        last = np.searchsorted(ends, min(NEAREST, len(distances)))
        sizes.append(np.diff(ends[: last + 1], prepend=0).tolist())
        gaps.append(steps[:NEAREST])
    return sizes, np.concatenate(gaps)


def is_same(one: EdgeList, other: EdgeList) -> bool:
    """Return whether two edge lists are equal."""
    pairs = ((one.source, other.source), (one.destination, other.destination), (one.image, other.image))
    return all(np.array_equal(first, second) for first, second in pairs)


def print_counts(counts: Counter[tuple[str, ...]]) -> None:
    """Print the table of counts: one column for each form."""
    print(heading(f"| | strategy | {' | '.join(FORMS)} |"))
    for name, title in (
        ("shells differ", "atoms whose shells differ from symmetrized"),
        ("ties", "atoms whose shell of the 12th neighbor holds more"),
    ):
        print(row([title, "", *(f"{counts[name, form]:,}" for form in FORMS)]))
    for strategy in STRATEGIES:
        for name, title in (
            ("graphs differ", "graphs that differ from symmetrized"),
            ("classes", "classes of atoms"),
            ("more classes than orbits", "crystals with more classes than orbits"),
            ("fewer classes than orbits", "crystals with fewer classes than orbits"),
            ("edges computed", "edges computed"),
            ("triplets computed", "triplets computed"),
        ):
            print(row([title, strategy, *(f"{counts[name, strategy, form]:,}" for form in FORMS)]))


def print_gaps(gaps: dict[str, np.ndarray]) -> None:
    """Print the percentage of gaps in each range; those up to ``NO_GAP`` come first."""
    print(heading(f"| gap, Angstrom | {' | '.join(FORMS)} |"))
    for low, high in pairwise((0.0, NO_GAP, *LIMITS, np.inf)):
        cells = (f"{np.mean((found >= low) & (found < high)):.4%}" for found in gaps.values())
        print(row([f"{low:g} to {high:g}", *cells]))


if __name__ == "__main__":
    main()
