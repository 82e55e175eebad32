r"""Measure the effect of pre-training and distillation with few labels: many runs of one recipe, a table and a plot.

    python -m benchmarks.few_labels run --data mp_formation_energy_30000.jsonl.gz --work DIR \
        --arms cgcnn "cgcnn from decoys" --labelled 1500,6000 --seeds 1,2,3
    python -m benchmarks.few_labels report --work DIR

The rows of the file must be in random order. The first ones are labelled, rows 24,001 to 27,000 choose the epoch,
the last 3,000 are predicted once by every run. Encoders see the structures of rows 1 to 27,000, without labels.
"""

import statistics
from pathlib import Path

from benchmarks.study import N_SEEN, WITHOUT_TEXT, Results, Study, command_line, read_results, read_rows, table
from crysmm.files import write_json_atomic

END_OF_TRAINING, END_OF_VALIDATION = 24_000, N_SEEN


def main() -> None:
    """Run what has no result yet, or print the table."""
    parser, run = command_line(__doc__, "results.csv", WITHOUT_TEXT)
    run.add_argument("--data", type=Path, required=True, help="JSONL file of structures with their labels")
    run.add_argument("--target", default="formation_energy_per_atom")
    run.add_argument("--labelled", default="1500,6000", help="numbers of labelled crystals, comma-separated")
    arguments = parser.parse_args()
    results = arguments.results or arguments.work / "results.csv"
    if arguments.command == "report":
        print(table(read_results(results)))
        plot(read_results(results), results.with_suffix(".png"))
        return
    tasks = {
        labelled: few_labels(arguments.data, arguments.target, arguments.work, int(labelled))
        for labelled in arguments.labelled.split(",")
    }
    study = Study(arguments.work, results, arguments.data, tasks, arguments.jobs)
    study.run(arguments.arms, arguments.seeds)


def few_labels(data: Path, target: str, work: Path, labelled: int) -> list[str]:
    """Return options of ``crysmm train`` for a number of labelled crystals."""
    return ["--root_dir", str(data), "--target_key", target, "--ids_file", str(ids_file(data, work, labelled))]


def ids_file(data: Path, work: Path, labelled: int) -> Path:
    """Write the split for a number of labelled crystals, for ``crysmm train --ids_file``, and return its path."""
    path = work / f"ids_{labelled}.json"
    if not path.exists():
        ids = [row["id"] for row in read_rows(data)]
        split = {
            "id_train": ids[: min(labelled, END_OF_TRAINING)],
            "id_val": ids[END_OF_TRAINING:END_OF_VALIDATION],
            "id_test": ids[END_OF_VALIDATION:],
        }
        work.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, split)
    return path


def plot(results: Results, path: Path) -> None:
    """Plot learning curves of the arms with several numbers of labels; both axes are logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    curves = {arm: by_count for arm, by_count in results.items() if len(by_count) > 1} or results
    for arm, by_count in curves.items():
        counts = sorted(by_count, key=int)
        means = [statistics.mean(by_count[count].values()) for count in counts]
        ranges = [
            [mean - min(by_count[count].values()) for count, mean in zip(counts, means, strict=True)],
            [max(by_count[count].values()) - mean for count, mean in zip(counts, means, strict=True)],
        ]
        at = [int(count) for count in counts]
        axes.errorbar(at, means, ranges, marker="o", markersize=4, capsize=3, linewidth=1.4, label=arm)
    axes.set(xscale="log", yscale="log", xlabel="labelled crystals", ylabel="test MAE, eV/atom")
    ticks = sorted({int(count) for by_count in curves.values() for count in by_count})
    axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.minorticks_on()
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes.grid(alpha=0.25, which="both", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=130)


if __name__ == "__main__":
    main()
