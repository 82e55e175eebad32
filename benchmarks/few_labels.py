r"""What pre-training and distillation are worth with few labels: many runs of one recipe, a table and a plot.

    python -m benchmarks.few_labels run --data mp_formation_energy_30000.jsonl.gz --work DIR \
        --arms cgcnn "cgcnn from decoys" --labelled 1500,6000 --seeds 1,2,3
    python -m benchmarks.few_labels report --work DIR

The rows of the file must be in random order. The first ones are labelled, rows 24,001 to 27,000 choose the epoch,
the last 3,000 are predicted once by every run. Encoders see the structures of rows 1 to 27,000, without labels.
Every run is a call of ``crysmm`` and has its own folder; what is finished is not done again, what was stopped goes on.
"""

import argparse
import gzip
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from crysmm.atomic_files import write_json_atomic

END_OF_TRAINING, END_OF_VALIDATION = 24_000, 27_000
RECIPE = ["--epochs", "60", "--batch_size", "64", "--learning_rate", "0.004", "--precision", "bf16"]
SEEN = ["--limit", str(END_OF_VALIDATION)]


@dataclass(frozen=True)
class Arm:
    """One way to learn the labels.

    Args:
        options: of ``crysmm train``, besides the recipe.
        encoder: a key of ``ENCODERS``, given as the arm's last option.
    """

    options: tuple[str, ...]
    encoder: str | None = None


PRETRAINING = ["--epochs", "20", "--precision", "bf16"]  # an encoder's own options come after
ENCODERS: dict[str, list[str]] = {
    "decoys": ["--method", "decoys", "--epochs", "30", *SEEN],
    "decoys, test structures seen": ["--method", "decoys", "--epochs", "30"],
    "crysae": ["--method", "crysae", *SEEN],
    "crysgnn": ["--method", "crysgnn", *SEEN],
}
ARMS: dict[str, Arm] = {
    "cgcnn": Arm(()),
    "crysxpp": Arm(("--model", "crysxpp")),
    "crysxpp from crysae": Arm(("--model", "crysxpp", "--init_from"), "crysae"),
    "crysgnn fine-tuned": Arm(("--model.conv_layers", "5", "--init_from"), "crysgnn"),
    "cgcnn distilled from crysgnn": Arm(("--head", "distilled", "--head.teacher"), "crysgnn"),
    "cgcnn from decoys": Arm(("--init_from",), "decoys"),
    "crysxpp from decoys": Arm(("--model", "crysxpp", "--init_from"), "decoys"),
    "cgcnn distilled from decoys": Arm(("--head", "distilled", "--head.teacher"), "decoys"),
    "cgcnn from decoys that saw the test structures": Arm(("--init_from",), "decoys, test structures seen"),
}


def main() -> None:
    """Read the command line; run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do what is not done yet")
    run.add_argument("--data", type=Path, required=True, help="JSONL file of structures with their labels")
    run.add_argument("--target", default="formation_energy_per_atom")
    run.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    run.add_argument("--labelled", default="1500,6000", help="numbers of labelled crystals, comma-separated")
    run.add_argument("--seeds", default="1,2,3")
    run.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (1)")
    report = commands.add_parser("report", help="print the table, draw the plot")
    for command in (run, report):
        command.add_argument("--work", type=Path, required=True, help="folder of all runs")
    arguments = parser.parse_args()
    if arguments.command == "report":
        print(table(read_results(arguments.work)))
        plot(read_results(arguments.work), arguments.work / "learning_curves.png")
        return
    labelled, seeds = (list(map(int, text.split(","))) for text in (arguments.labelled, arguments.seeds))
    run_all(arguments.data, arguments.target, arguments.work, arguments.arms, labelled, seeds, arguments.jobs)


def run_all(
    data: Path, target: str, work: Path, arms: Sequence[str], labelled: Sequence[int], seeds: Sequence[int], jobs: int
) -> None:
    """Pre-train the encoders that are needed, then make every run."""
    names = {encoder for arm in arms if (encoder := ARMS[arm].encoder) is not None}
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda name: pretrain(data, work, name, jobs), sorted(names)))
        ids = {count: ids_file(data, work, count) for count in labelled}
        each = list(product(seeds, labelled, arms))
        list(pool.map(lambda one: train(data, target, work, one[2], ids[one[1]], one[0], jobs), each))


def pretrain(data: Path, work: Path, name: str, jobs: int) -> None:
    """One encoder."""
    call(["pretrain", "--root_dir", str(data), *PRETRAINING, *ENCODERS[name]], encoder_folder(work, name), jobs)


def train(data: Path, target: str, work: Path, arm: str, ids: Path, seed: int, jobs: int) -> None:
    """One run: an arm on so many labels from one seed."""
    options = [*ARMS[arm].options]
    if (encoder := ARMS[arm].encoder) is not None:
        options.append(str(encoder_folder(work, encoder)))
    command = ["train", "--root_dir", str(data), "--target_key", target, "--ids_file", str(ids)]
    command += ["--random_seed", str(seed), *RECIPE, *options]
    call(command, work / "runs" / folder_name(arm) / ids.stem.removeprefix("ids_") / f"seed_{seed}", jobs)


def encoder_folder(work: Path, name: str) -> Path:
    """Where an encoder's run is."""
    return work / "encoders" / folder_name(name)


def folder_name(name: str) -> str:
    """A name of an arm or an encoder as that of a folder."""
    return name.replace(",", "").replace(" ", "_")


def call(command: Sequence[str], output: Path, jobs: int) -> None:
    """``crysmm`` with these arguments, unless its result is there.

    Raises:
        SystemExit: the run has failed; its log says why.
    """
    if (output / "metrics.json").exists():
        return
    output.mkdir(parents=True, exist_ok=True)
    started = ["--resume"] if (output / "config.json").exists() else []
    line = [sys.executable, "-m", "crysmm", *command, "--output_dir", str(output), "--progress", "false", *started]
    print(shlex.join(line[2:]), flush=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with (output / "output.log").open("a") as log:
        code = subprocess.run(
            line, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": threads}
        ).returncode
    if code:
        raise SystemExit(f"{shlex.join(line[2:])} ended with {code}; see {output / 'output.log'}")


def ids_file(data: Path, work: Path, labelled: int) -> Path:
    """The split with so many labelled crystals, as ``crysmm train --ids_file`` reads it."""
    path = work / f"ids_{labelled}.json"
    if not path.exists():
        opener = gzip.open if data.suffix == ".gz" else open
        with opener(data, "rt") as lines:
            ids = [json.loads(line)["id"] for line in lines]
        split = {
            "id_train": ids[: min(labelled, END_OF_TRAINING)],
            "id_val": ids[END_OF_TRAINING:END_OF_VALIDATION],
            "id_test": ids[END_OF_VALIDATION:],
        }
        work.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, split)
    return path


Results = dict[str, dict[int, dict[int, float]]]


def read_results(work: Path) -> Results:
    """Test MAE by arm, number of labelled crystals and seed."""
    results: Results = defaultdict(lambda: defaultdict(dict))
    folders = {folder_name(arm): arm for arm in ARMS}
    for path in work.glob("runs/*/*/seed_*/metrics.json"):
        seed, labelled, folder = path.parent.name, path.parent.parent.name, path.parent.parent.parent.name
        mae = json.loads(path.read_text())["test"]["mae"]
        if folder in folders:  # else of an arm that is no more
            results[folders[folder]][int(labelled)][int(seed.removeprefix("seed_"))] = mae
    return {arm: dict(results[arm]) for arm in ARMS if arm in results}


def table(results: Results, reference: str = "cgcnn") -> str:
    """Markdown: mean and deviation over seeds, and the paired difference to the reference."""
    counts = sorted({count for by_count in results.values() for count in by_count})
    lines = ["| | " + " | ".join(f"{count:,}" for count in counts) + " |", "|-" * (len(counts) + 1) + "|"]
    for arm, by_count in results.items():
        cells = []
        for count in counts:
            of_reference = results.get(reference, {}).get(count, {})
            cells.append(_cell(by_count.get(count, {}), {} if arm == reference else of_reference))
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(maes: dict[int, float], reference: dict[int, float]) -> str:
    if not maes:
        return "not run"
    text = _spread(list(maes.values()))
    differences = [maes[seed] - reference[seed] for seed in maes if seed in reference]
    return f"{text} ({_spread(differences, '+')})" if differences else text


def _spread(values: Sequence[float], sign: str = "") -> str:
    mean = f"{statistics.mean(values):{sign}.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean} (one seed)"


def plot(results: Results, path: Path) -> None:
    """Learning curves: test MAE against labelled crystals, both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for arm, by_count in results.items():
        counts = sorted(by_count)
        means = [statistics.mean(by_count[count].values()) for count in counts]
        ranges = [
            [mean - min(by_count[count].values()) for count, mean in zip(counts, means, strict=True)],
            [max(by_count[count].values()) - mean for count, mean in zip(counts, means, strict=True)],
        ]
        axes.errorbar(counts, means, ranges, marker="o", markersize=4, capsize=3, linewidth=1.4, label=arm)
    axes.set(xscale="log", yscale="log", xlabel="labelled crystals", ylabel="test MAE, eV/atom")
    counts = sorted({count for by_count in results.values() for count in by_count})
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.minorticks_on()
    axes.tick_params(axis="x", which="minor", bottom=False)
    axes.grid(alpha=0.25, which="both", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=130)


if __name__ == "__main__":
    main()
