r"""Two processes against one, with the same global batches and the same number of cores.

    python -m benchmarks.two_processes --data mp_formation_energy_30000.jsonl.gz \
        --target_key formation_energy_per_atom --limit 2000

The backbones are CGCNN, whose batch normalization takes its statistics from the part of the batch in each process, and
a small ALIGNN with layer normalization, where both must agree to rounding. One and two processes alternate over the
seeds; seconds are the median over all epochs but the first of each run.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.processes import output_of
from crysmm.runs.history import read_history
from crysmm.runs.run_folder import RunFolder

SMALL_ALIGNN = {"alignn_layers": 1, "gcn_layers": 1, "hidden_features": 64, "norm": "layer"}
BACKBONES = {
    "CGCNN, batch norm": ["--model", "cgcnn"],
    "ALIGNN 1+1 of width 64, layer norm": [
        "--model", "alignn", *(part for name, value in SMALL_ALIGNN.items() for part in (f"--model.{name}", str(value)))
    ],
}  # fmt: skip


def measure(options: list[str], processes: int, cores: int) -> tuple[float, list[float]]:
    """Train with the cores divided among processes; return the test MAE and the seconds of all epochs but the first."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        command = [sys.executable, "-m", "crysmm", "train", *options]
        command += ["--output_dir", str(run.path), "--progress", "false"]
        command += ["--device", "cpu", "--devices", str(processes)]
        output_of(command, os.environ | {"OMP_NUM_THREADS": str(max(1, cores // processes))})
        seconds = [epoch["seconds"] for epoch in read_history(run.history)[1:]]
        return run.read_metrics()["test"]["mae"], seconds


def main() -> None:
    """Parse the command line, train in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="input of crysmm train")
    parser.add_argument("--target_key", help="property to train on, if the data has several")
    parser.add_argument("--limit", type=int, help="number of rows to read, from the first")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each run (10)")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated (1,2,3)")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 2
    common = ["--root_dir", str(arguments.data), "--epochs", str(arguments.epochs), "--precision", "32"]
    for name in ("target_key", "limit"):
        if (value := getattr(arguments, name)) is not None:
            common += [f"--{name}", str(value)]
    print("| backbone | processes | s per epoch | test MAE of each seed |\n|-|-|-|-|", flush=True)
    for backbone, options in BACKBONES.items():
        maes, seconds = defaultdict(list), defaultdict(list)
        for seed in arguments.seeds.split(","):
            for processes in (1, 2):
                mae, epochs = measure([*common, *options, "--random_seed", seed], processes, cores)
                maes[processes].append(mae)
                seconds[processes] += epochs
        for processes, values in maes.items():
            cells = f"{statistics.median(seconds[processes]):.2f} | {', '.join(f'{mae:.6f}' for mae in values)}"
            print(f"| {backbone} | {processes} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
