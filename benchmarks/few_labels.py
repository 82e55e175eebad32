r"""Measure the effect of pre-training and distillation with few labels: many runs of one recipe, a table and a plot.

    python -m benchmarks.few_labels run --data mp_formation_energy_30000.jsonl.gz --work DIR \
        --arms cgcnn "cgcnn from decoys" --labeled 1500,6000 --seeds 1,2,3
    python -m benchmarks.few_labels report --work DIR

The rows of the file must be in random order. The first ones are labeled, rows 24,001 to 27,000 choose the epoch,
the last 3,000 are predicted once by every run. Encoders see the structures of rows 1 to 27,000, without labels.
"""

from pathlib import Path

from benchmarks.curves import plot_curves
from benchmarks.study import N_SEEN, WITHOUT_TEXT, Study, command_line, read_results, read_rows, table
from crysmm.files import write_json_atomic

END_OF_TRAINING, END_OF_VALIDATION = 24_000, N_SEEN


def main() -> None:
    """Run what has no result yet, or print the table."""
    parser, run = command_line(__doc__, "results.csv", WITHOUT_TEXT)
    run.add_argument("--data", type=Path, required=True, help="JSONL file of structures with their labels")
    run.add_argument("--target", default="formation_energy_per_atom")
    run.add_argument("--labeled", default="1500,6000", help="numbers of labeled crystals, comma-separated")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "results.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        found = {
            arm: {int(labeled): by_seed for labeled, by_seed in by_task.items()}
            for arm, by_task in read_results(results).items()
        }
        curves = {arm: by_amount for arm, by_amount in found.items() if len(by_amount) > 1} or found
        plot_curves(results.with_suffix(".png"), {"test MAE, eV/atom": curves}, "labeled crystals")
        return
    tasks = {
        labeled: few_labels(arguments.data, arguments.target, arguments.work, int(labeled))
        for labeled in arguments.labeled.split(",")
    }
    study = Study(arguments.work, results, arguments.data, tasks, arguments.jobs)
    study.run(arguments.arms, arguments.seeds)


def few_labels(data: Path, target: str, work: Path, labeled: int) -> list[str]:
    """Return options of ``crysmm train`` for a number of labeled crystals."""
    return ["--root_dir", str(data), "--target_key", target, "--ids_file", str(ids_file(data, work, labeled))]


def ids_file(data: Path, work: Path, labeled: int) -> Path:
    """Write the split for a number of labeled crystals, for ``crysmm train --ids_file``, and return its path."""
    path = work / f"ids_{labeled}.json"
    if not path.exists():
        ids = [row["id"] for row in read_rows(data)]
        split = {
            "id_train": ids[: min(labeled, END_OF_TRAINING)],
            "id_val": ids[END_OF_TRAINING:END_OF_VALIDATION],
            "id_test": ids[END_OF_VALIDATION:],
        }
        work.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, split)
    return path


if __name__ == "__main__":
    main()
