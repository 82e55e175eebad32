r"""Measure what universal potentials are worth: distilled, fused with the graph, and their features alone.

    python -m benchmarks.potentials run --tables DIR --work DIR --seeds 1,2,3,4,5 \
        --arms cgcnn "features of chgnet alone" "cgcnn fused with chgnet" "cgcnn distilled from chgnet, delta rising"
    python -m benchmarks.potentials report --work DIR

The tables are those of ``python -m data_prep.matminer_tables``. Each seed has a random split of its own, 80/10/10,
the same for all arms. Features are computed by the first run that needs them and found in the cache by the others:
make a run of "features of ... alone" before several at a time (``--jobs 2``), which would both compute them.

The potentials have seen energies of the Materials Project, from which these crystals are, but none of these properties.
"""

from pathlib import Path

from benchmarks.properties import PROPERTIES
from benchmarks.study import ARMS, ENCODERS, Study, command_line, read_results, table

TASKS = {**PROPERTIES, "refractive index": ("matminer_dielectric_1056.jsonl.gz", ["--target_key", "n"])}


def main() -> None:
    """Run what has no result yet, or print the table."""
    arms = [name for name, arm in ARMS.items() if arm.encoder not in ENCODERS and arm.text is None]
    parser, run = command_line(__doc__, "potentials.csv", arms)
    run.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    run.add_argument("--properties", nargs="+", default=list(TASKS), choices=list(TASKS), metavar="PROPERTY")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "potentials.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        return
    tasks = {
        name: ["--root_dir", str(arguments.tables / TASKS[name][0]), *TASKS[name][1]] for name in arguments.properties
    }
    # The tables stand in for the structures that encoders are made from: no arm here needs one to be made.
    Study(arguments.work, results, arguments.tables, tasks, arguments.jobs).run(arguments.arms, arguments.seeds)


if __name__ == "__main__":
    main()
