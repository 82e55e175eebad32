"""Many runs of one recipe, each a call of ``crysmm``; finished runs are kept, and stopped ones are resumed.

A run has an arm (how the labels are learned), a task (which labels) and a seed. Its test error goes into one CSV file,
which outlives the folder of the runs; from it come the tables.
"""

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

from crysmm.files import replacing, write_csv_atomic
from crysmm.io.json_stream import jsonl_lines
from crysmm.io.table import write_rows

# Without --precision: a processor's own choice, as bf16 is slow where it is not native.
RECIPE = ["--epochs", "60", "--batch_size", "64", "--learning_rate", "0.004"]
PRETRAINING = ["--epochs", "20"]  # an encoder's own options come after
N_SEEN = 27_000  # structures of the pre-training file that encoders see
SEEN = ["--limit", str(N_SEEN)]
CRYSGNN = ["--method", "crysgnn", "--epochs", "5", *SEEN]  # five of each, where the shipped one has twenty
NO_SPACE_GROUP, NO_CONTRAST = (["--method.space_group_weight", "0"], ["--method.crystal_system_weight", "0"])
NO_NODES = ["--method.feature_weight", "0", "--method.connectivity_weight", "0"]
SHIPPED = {  # with the commands on their cards
    "decoys": "decoys-mp", "crysae": "crysae-mp", "crysgnn": "crysgnn-mp", "imitation": "imitation-jarvis"
}  # fmt: skip
ENCODERS: dict[str, list[str]] = {
    "decoys, test structures seen": ["--method", "decoys", "--epochs", "30"],
    "crysgnn, four losses": CRYSGNN,
    "crysgnn, node losses": [*CRYSGNN, *NO_SPACE_GROUP, *NO_CONTRAST],
    "crysgnn, graph losses": [*CRYSGNN, *NO_NODES],
    "crysgnn, node losses and space group": [*CRYSGNN, *NO_CONTRAST],
    "crysgnn, node losses and contrast": [*CRYSGNN, *NO_SPACE_GROUP],
}


@dataclass(frozen=True)
class Arm:
    """Settings of one way to learn the labels.

    Args:
        options: Options of ``crysmm train``, besides the recipe.
        encoder: Key of ``SHIPPED`` or of ``ENCODERS``, or ``SEVERAL``; given as the last option.
        text: Texts that it reads, a key of the result of :func:`benchmarks.texts.make_texts`.
    """

    options: tuple[str, ...] = ()
    encoder: str | None = None
    text: str | None = None


def distilled(encoder: str, *options: str) -> Arm:
    """Return an arm that is distilled from an encoder."""
    return Arm((*options, "--head", "distilled", "--head.teacher"), encoder)


DELTAS = ("--head.delta", "0.02,0.1,0.5")
RISING = ("--head.delta", "rising")
GATGNN = ("--model", "gatgnn")
ALIGNN = ("--model", "alignn")
TEXT_ALONE = "text alone"
TOGETHER = "cgcnn on all properties at once"
SEVERAL = "several properties"  # a network that StudyOfSeveral trains
SMALL_ALIGNN = (*ALIGNN, "--model.alignn_layers", "2", "--model.gcn_layers", "2", "--model.hidden_features", "64")
GENTLE = ("--learning_rate", "0.001", "--epochs", "30")  # for networks with millions of parameters
FP32 = ("--precision", "32")
BACKBONES = ("cgcnn", "gatgnn", "alignn", "small alignn")  # the arms that others are compared with


def fused_with(name: str) -> tuple[str, ...]:
    """Return the options of a network that is fused with a universal potential."""
    return ("--head", "multimodal", "--head.embeddings", name)


def with_potential(name: str) -> dict[str, Arm]:
    """Return the arms that a universal potential, or a network that imitates one, takes part in, by name."""
    arms = {f"features of {name} alone": Arm(("--head", "features", "--head.embeddings", name))}
    for backbone, options in (("cgcnn", ()), ("gatgnn", GATGNN)):
        taught = ("--head", "distilled", "--head.teacher", name, *RISING)
        arms[f"{backbone} distilled from {name}, delta rising"] = Arm((*options, *taught))
        for matched in ("crystals", "relations"):
            arm = Arm((*options, *taught, "--head.matched", matched))
            arms[f"{backbone} distilled from {name}'s {matched}, delta rising"] = arm
        arms[f"{backbone} fused with {name}"] = Arm((*options, *fused_with(name)))
    return arms


ARMS: dict[str, Arm] = {
    "cgcnn": Arm(),
    "crysxpp": Arm(("--model", "crysxpp")),
    "crysxpp from crysae": Arm(("--model", "crysxpp", "--init_from"), "crysae"),
    "crysgnn fine-tuned": Arm(("--model.conv_layers", "5", "--init_from"), "crysgnn"),
    "cgcnn distilled from crysgnn": distilled("crysgnn"),
    "cgcnn distilled from crysgnn, delta chosen": distilled("crysgnn", *DELTAS),
    "cgcnn from decoys": Arm(("--init_from",), "decoys"),
    "crysxpp from decoys": Arm(("--model", "crysxpp", "--init_from"), "decoys"),
    "cgcnn distilled from decoys": distilled("decoys"),
    "cgcnn distilled from decoys, delta chosen": distilled("decoys", *DELTAS),
    "cgcnn distilled from decoys, delta rising": distilled("decoys", *RISING),
    "cgcnn distilled from crysgnn, delta rising": distilled("crysgnn", *RISING),
    "cgcnn from decoys that saw the test structures": Arm(("--init_from",), "decoys, test structures seen"),
    **{
        f"cgcnn distilled from crysgnn's {encoder.removeprefix('crysgnn, ')}{delta}": distilled(encoder, *options)
        for encoder in ENCODERS
        if encoder.startswith("crysgnn, ")
        for delta, options in (("", ()), (", delta rising", RISING))
    },
    TOGETHER: Arm(),
    "cgcnn from several properties": Arm(("--init_from",), SEVERAL),
    "cgcnn from several properties, five networks": Arm(("--ensemble", "5", "--init_from"), SEVERAL),
    "cgcnn from decoys, fused with sevennet-0": Arm((*fused_with("sevennet-0"), "--init_from"), "decoys"),
    "cgcnn fused with sevennet-0, five networks": Arm((*fused_with("sevennet-0"), "--ensemble", "5")),
    "cgcnn from several properties, fused with sevennet-0": Arm((*fused_with("sevennet-0"), "--init_from"), SEVERAL),
    "cgcnn from several properties, fused with sevennet-0, five networks": Arm(
        (*fused_with("sevennet-0"), "--ensemble", "5", "--init_from"), SEVERAL
    ),
    "gatgnn": Arm(GATGNN),
    "gatgnn distilled from crysgnn": distilled("crysgnn", *GATGNN),
    "gatgnn distilled from decoys, delta rising": distilled("decoys", *GATGNN, *RISING),
    **with_potential("chgnet"),
    **with_potential("sevennet-0"),
    **with_potential("imitation-jarvis"),
    "cgcnn from imitation": Arm(("--init_from",), "imitation"),
    "alignn": Arm(ALIGNN),
    "alignn distilled from crysgnn": distilled("crysgnn", *ALIGNN),
    "alignn distilled from decoys, delta rising": distilled("decoys", *ALIGNN, *RISING),
    "cgcnn in fp32": Arm(FP32),
    "gatgnn in fp32": Arm((*GATGNN, *FP32)),
    "alignn, 30 epochs": Arm((*ALIGNN, *GENTLE)),
    "alignn fused with sevennet-0, 30 epochs": Arm((*ALIGNN, *GENTLE, *fused_with("sevennet-0"))),
    "small alignn": Arm(SMALL_ALIGNN),
    "small alignn fused with sevennet-0": Arm((*SMALL_ALIGNN, *fused_with("sevennet-0"))),
    "small alignn in fp32": Arm((*SMALL_ALIGNN, *FP32)),
    TEXT_ALONE: Arm(text="own"),
    "cgcnn with the space group": Arm(text="space group"),
    "cgcnn with text": Arm(text="own"),
    "cgcnn with shuffled text": Arm(text="shuffled"),
    "cgcnn with text, distilled from crysgnn": Arm(("--head.teacher",), "crysgnn", text="own"),
    "cgcnn with text, distilled from decoys, delta rising": Arm((*RISING, "--head.teacher"), "decoys", text="own"),
    "gatgnn with the space group": Arm(GATGNN, text="space group"),
    "gatgnn with text": Arm(GATGNN, text="own"),
    "gatgnn with shuffled text": Arm(GATGNN, text="shuffled"),
    "alignn with the space group": Arm(ALIGNN, text="space group"),
    "alignn with text": Arm(ALIGNN, text="own"),
    "alignn with shuffled text": Arm(ALIGNN, text="shuffled"),
}
WITHOUT_TEXT = [name for name, arm in ARMS.items() if arm.text is None and name != TOGETHER and arm.encoder != SEVERAL]
OF_SEVERAL = [name for name, arm in ARMS.items() if name == TOGETHER or arm.encoder == SEVERAL]

Results = dict[str, dict[str, dict[int, float]]]


@dataclass
class Study:
    """Runs in one folder.

    Args:
        work: Folder of encoders and runs.
        results: CSV file with a row per run.
        pretraining_data: Structures that encoders are trained on; None where no arm needs one to be made.
        tasks: Options of ``crysmm train`` by name of the task: data, target and split.
        jobs: Number of runs at a time, which share the cores.
        recipe: Options of ``crysmm train`` for all arms.
    """

    work: Path
    results: Path
    pretraining_data: Path | None
    tasks: dict[str, list[str]]
    jobs: int = 1
    recipe: Sequence[str] = field(default_factory=lambda: RECIPE)
    _lock: Lock = field(default_factory=Lock)

    def run(self, arms: Sequence[str], seeds: Sequence[int]) -> None:
        """Make every run that has no result, and the encoders that they need."""
        done = read_results(self.results)
        missing = [
            (seed, task, arm)
            for seed, task, arm in product(seeds, self.tasks, arms)
            if seed not in done.get(arm, {}).get(task, {})
        ]
        encoders = sorted({encoder for _, _, arm in missing if (encoder := ARMS[arm].encoder) in ENCODERS})
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(self.pretrain, encoders))
            list(pool.map(lambda run: self.train(*run), missing))

    def pretrain(self, name: str) -> None:
        """Pre-train one encoder."""
        command = ["pretrain", "--root_dir", str(self.pretraining_data), *PRETRAINING, *ENCODERS[name]]
        call(command, self.encoder_folder(name), self.jobs)

    def train(self, seed: int, task: str, arm: str) -> None:
        """Train one run and add its result to the file."""
        mae = self.test_error(seed, task, arm)
        with self._lock:
            results = read_results(self.results)
            results.setdefault(arm, {}).setdefault(task, {})[seed] = mae
            write_results(results, self.results)

    def test_error(self, seed: int, task: str, arm: str) -> float:
        """Return the test MAE of one run."""
        options = ["--random_seed", str(seed), *self.recipe, *self.options(task, arm)]
        folder = self.work / "runs" / folder_name(arm) / folder_name(task) / f"seed_{seed}"
        call(["train", *self.tasks[task], *options], folder, self.jobs)
        return error_of(folder)

    def options(self, task: str, arm: str) -> list[str]:
        """Return the options of ``crysmm train`` that the arm adds to the recipe."""
        encoder = ARMS[arm].encoder
        folder = [] if encoder is None else [SHIPPED.get(encoder) or str(self.encoder_folder(encoder))]
        return [*ARMS[arm].options, *folder]

    def encoder_folder(self, name: str) -> Path:
        """Return the run folder of an encoder that is not shipped."""
        return self.work / "encoders" / folder_name(name)


def read_rows(data: Path) -> list[dict[str, Any]]:
    """Read a JSONL file, which may be compressed."""
    return [json.loads(line) for _, line in jsonl_lines(data)]


def replace_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a JSONL file, or replace it."""
    with replacing(path) as temporary:
        write_rows(rows, temporary, packed=False)


def is_known(row: dict[str, Any], name: str) -> bool:
    """Return whether a row has a property."""
    return row.get(name) is not None


def folder_name(name: str) -> str:
    """Convert the name of an arm, a task or an encoder to that of a folder."""
    return name.replace(",", "").replace("'", "").replace(" ", "_")


def call(command: Sequence[str], output: Path, jobs: int) -> None:
    """Call ``crysmm`` with these arguments, unless the result exists.

    Raises:
        SystemExit: The run has failed; its log has the reason.
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


def command_line(
    description: str | None, results: str, arms: Sequence[str]
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the parser that all studies share, and that of its command ``run``, to which options can be added.

    Args:
        description: Description of the study.
        results: Default name of the file of results, in the folder of all runs.
        arms: Arms to choose from.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="do what is not done yet")
    run.add_argument("--arms", nargs="+", required=True, choices=arms, metavar="ARM", help=", ".join(arms))
    run.add_argument("--seeds", default="1,2,3", type=numbers, help="comma-separated (1,2,3)")
    run.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (1)")
    for command in (run, commands.add_parser("report", help="print what has come out")):
        command.add_argument("--work", type=Path, required=True, help="folder of all runs")
        command.add_argument("--results", type=Path, help=f"CSV file of their errors ({results} in that folder)")
    return parser, run


def numbers(text: str) -> list[int]:
    """Read comma-separated whole numbers."""
    return list(map(int, text.split(",")))


def error_of(run: Path) -> float:
    """Return the test MAE of a finished run, in the units of the transformed target."""
    scores = json.loads((run / "metrics.json").read_text())["test"]
    mae: float = scores.get("log10", scores)["mae"]
    return mae


def read_results(path: Path) -> Results:
    """Return test MAEs by arm, task and seed, with arms in the order of ``ARMS``; empty if there is no file."""
    results: Results = defaultdict(lambda: defaultdict(dict))
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                results[row["arm"]][row["task"]][int(row["seed"])] = float(row["test_mae"])
    return {arm: dict(results[arm]) for arm in ARMS if arm in results}


def write_results(results: Results, path: Path) -> None:
    """Write one row per run: arm, task, seed, test MAE; arms in the order of ``ARMS``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        (arm, task, seed, mae)
        for arm in ARMS
        for task, by_seed in results.get(arm, {}).items()
        for seed, mae in sorted(by_seed.items())
    ]
    write_csv_atomic(path, ("arm", "task", "seed", "test_mae"), rows)


def plain_backbone(arm: str) -> str | None:
    """Return the arm that another is compared with."""
    return None if arm in BACKBONES else next((name for name in BACKBONES if arm.startswith(f"{name} ")), BACKBONES[0])


def table(results: Results, reference_of: Callable[[str], str | None] = plain_backbone) -> str:
    """Return a Markdown table: mean and standard deviation over seeds, and the paired difference to another arm.

    Args:
        results: Results of the arms to show.
        reference_of: Returns the name of that arm, or None.
    """
    tasks = list(dict.fromkeys(task for by_task in results.values() for task in by_task))
    tasks.sort(key=lambda task: int(task) if task.isdigit() else 0)  # names stay in their order
    lines = ["| | " + " | ".join(_heading(task) for task in tasks) + " |", "|-" * (len(tasks) + 1) + "|"]
    for arm, by_task in results.items():
        of_reference = results.get(reference_of(arm) or "", {})
        cells = [_cell(by_task.get(task, {}), of_reference.get(task, {})) for task in tasks]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _heading(task: str) -> str:
    return f"{int(task):,}" if task.isdigit() else task


def _cell(maes: dict[int, float], reference: dict[int, float]) -> str:
    if not maes:
        return "not run"
    text = _spread(list(maes.values()))
    differences = [maes[seed] - reference[seed] for seed in maes if seed in reference]
    return f"{text} ({_spread(differences, '+')})" if differences else text


def _spread(values: Sequence[float], sign: str = "") -> str:
    mean = f"{statistics.mean(values):{sign}.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean} (one seed)"
