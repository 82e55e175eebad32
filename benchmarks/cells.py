"""Time and memory of graphs and training steps against the size of the cell, from 1 atom to 1,000.

    python -m benchmarks.cells

The crystals are supercells of copper whose atoms are displaced a little, so that no two are equivalent; each atom has
12 neighbors. For every size, one crystal is a batch for CGCNN and for ALIGNN; then ALIGNN trains on 64 crystals in
batches of at most ``--max_triplets`` triplets. Each number comes from a process of its own, in bf16.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.processes import heading, output_of, row
from crysmm.crystals.crystal import Crystal
from crysmm.io.table import crystal_row
from data_prep.files import write_jsonl

HALF_CUBE = 1.8075  # Angstrom; half the edge of the cubic cell
DISPLACEMENT = 0.01  # standard deviation, in cells
MANY = 64
HEADING = (
    "| atoms | triplets | graph, ms | CGCNN step, ms | GiB | ALIGNN step, s | GiB "
    "| 64 crystals: batches | s per crystal | GiB |"
)


def supercell(repeats: int) -> Crystal:
    """Repeat the primitive cell of copper along each of its vectors, and displace the atoms."""
    lattice = HALF_CUBE * (1 - np.eye(3))
    steps = np.stack(np.meshgrid(*[np.arange(repeats)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    displaced = np.random.default_rng(0).normal(scale=DISPLACEMENT, size=steps.shape)
    return Crystal.from_arrays(repeats * lattice, (steps + displaced) / repeats, ["Cu"] * len(steps))


def measure(work: Path, repeats: int, max_triplets: int, many: int) -> dict[str, dict[str, float]]:
    """Run ``benchmarks.ours`` for one crystal with each backbone, and for many with bounded triplets."""
    crystal = supercell(repeats)
    rows = [crystal_row(f"cell-{number}", {"target": float(number)}, crystal) for number in range(many)]
    one, all_of_them = work / "one.jsonl", work / "many.jsonl"
    write_jsonl(rows[:1], one)
    write_jsonl(rows, all_of_them)
    steps = [sys.executable, "-m", "benchmarks.ours", "steps", "--data"]
    commands = {
        "cgcnn": [*steps, str(one), "--model", "cgcnn"],
        "alignn": [*steps, str(one)],
        "many": [*steps, str(all_of_them), "--max_triplets", str(max_triplets), "--steps", "1"],
    }
    return {name: json.loads(output_of(command).splitlines()[-1]) for name, command in commands.items()}


def line(figures: dict[str, dict[str, float]], many: int) -> str:
    """Return the line of the table for one size."""
    cgcnn, alignn, budget = figures["cgcnn"], figures["alignn"], figures["many"]
    cells = [
        f"{alignn['atoms']:,}",
        f"{alignn['triplets']:,}",
        f"{1000 * alignn['build']:.2f}",
        f"{1000 * cgcnn['step']:.0f}",
        f"{cgcnn['peak']:.2f}",
        f"{alignn['step']:.2f}",
        f"{alignn['peak']:.2f}",
        f"{budget['batches']}",
        f"{budget['step'] / many:.3f}",
        f"{budget['peak']:.2f}",
    ]
    return row(cells)


def main() -> None:
    """Parse the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", default="1,2,3,4,5,6,8,10", help="cells along each vector (1,2,3,4,5,6,8,10)")
    parser.add_argument("--max_triplets", type=int, default=150_000, help="most triplets in a batch (150,000)")
    parser.add_argument(
        "--crystals", type=int, default=MANY, help="crystals of each size to train on with bounded triplets (64)"
    )
    arguments = parser.parse_args()
    print(heading(HEADING))
    for repeats in map(int, arguments.repeats.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(Path(folder), repeats, arguments.max_triplets, arguments.crystals)
        print(line(figures, arguments.crystals), flush=True)


if __name__ == "__main__":
    main()
