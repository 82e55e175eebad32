r"""Time and memory of building a store, training and predicting, by number of crystals.

    python -m benchmarks.scale --counts 1000,10000,100000 --work DIR

The crystals are made from the sample data by strain and substitution. For each count the store is built by one process
per core, then CGCNN is trained for an epoch, the loader is read alone, all crystals are predicted, and an encoder is
pre-trained for an epoch of CrysGNN. Memory is anonymous memory (RssAnon) of the main process, and of all its workers
together, sampled five times a second; pages mapped from files are not counted. Existing results are not computed again,
so that a stopped run can be continued.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from benchmarks.processes import CHECKOUT, SAMPLE_DATA, check, heading, output_of, row
from crysmm.config import TrainingConfig
from crysmm.data.loader import BatchSampler, make_loader
from crysmm.data.store import Store, build_store
from crysmm.files import write_json_atomic
from crysmm.io.inputs import open_input
from data_prep.synthetic import PROPERTY

SECONDS_BETWEEN_LOOKS = 0.2
BATCHES_READ = 200
HEADING = (
    "| crystals | store: s | crystals/s | GiB | workers, GiB | epoch: s | crystals/s | GiB | loader: crystals/s "
    "| prediction: s | GiB | workers, GiB | CrysGNN: crystals/s | GiB |"
)


@dataclass
class Memory:
    """Peak anonymous memory, GiB."""

    own: float = 0.0
    workers: float = 0.0

    def look(self, process: int) -> None:
        """Sample a process and its descendants."""
        self.own = max(self.own, anonymous(process))
        self.workers = max(self.workers, sum(map(anonymous, descendants(process))))


def anonymous(process: int) -> float:
    """Return RssAnon of a process in GiB, or 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon")), 0.0)


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, directly or not."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    children = list(map(int, text.split()))
    return children + [other for child in children for other in descendants(child)]


def watched(command: list[str]) -> tuple[float, Memory]:
    """Run a command and return its seconds and memory.

    Raises:
        SystemExit: The command failed.
    """
    memory, done = Memory(), Event()
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:

        def watch() -> None:
            while not done.wait(SECONDS_BETWEEN_LOOKS):
                memory.look(process.pid)

        thread = Thread(target=watch)
        thread.start()
        errors = process.communicate()[1]
        done.set()
        thread.join()
    check(command, process.returncode, errors)
    return time.perf_counter() - start, memory


def settings(work: Path, count: int) -> dict[str, str]:
    """Return the settings of ``crysmm train`` for a number of crystals."""
    return {"root_dir": str(work / f"{count}.jsonl"), "target_key": PROPERTY, "cache_dir": str(work / "cache")}


def measure(work: Path, count: int) -> dict[str, float]:
    """Make the crystals, build, train, load and predict; return the results by name."""
    chosen = settings(work, count)
    if not Path(chosen["root_dir"]).exists():
        make = [sys.executable, "-m", "data_prep.synthetic", "--input", str(SAMPLE_DATA), "--count", str(count)]
        make += ["--output", chosen["root_dir"]]
        check(make, subprocess.run(make, cwd=CHECKOUT).returncode, "")  # it prints its own progress and errors
    own = [sys.executable, "-m", "benchmarks.scale", "--work", str(work), "--counts", str(count)]
    crysmm = [sys.executable, "-m", "crysmm"]
    options = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    run = work / f"run_{count}"
    once = ["--epochs", "1", "--overwrite"]
    store, in_store = watched([*own, "--only", "store"])
    _, in_training = watched([*crysmm, "train", *options, "--output_dir", str(run), *once])
    metrics = json.loads((run / "metrics.json").read_text())
    loader = output_of([*own, "--only", "loader"])
    files = ["--root_dir", chosen["root_dir"], "--output", str(work / f"predictions_{count}.csv")]
    prediction, in_prediction = watched([*crysmm, "predict", "--model", str(run), *files])
    pretraining = work / f"encoder_{count}"
    untagged = [part for name in ("root_dir", "cache_dir") for part in (f"--{name}", chosen[name])]
    learn = [*crysmm, "pretrain", *untagged, "--method", "crysgnn", "--output_dir", str(pretraining), *once]
    _, in_pretraining = watched(learn)
    encoder = json.loads((pretraining / "metrics.json").read_text())
    return {
        "store": store,
        "store_own": in_store.own,
        "store_workers": in_store.workers,
        "epoch": metrics["seconds_per_epoch"],
        "epoch_own": in_training.own,
        "loader": float(loader),
        "prediction": prediction,
        "prediction_own": in_prediction.own,
        "prediction_workers": in_prediction.workers,
        "crysgnn": encoder["seconds_per_epoch"],
        "crysgnn_own": in_pretraining.own,
    }


def build(work: Path, count: int) -> Store:
    """Build the store for a number of crystals, or open it from the cache."""
    config = TrainingConfig.model_validate(settings(work, count))
    return build_store(open_input(config, None), config.graph_settings(), cache_dir=config.cache_dir)


def loading_rate(store: Store) -> float:
    """Return the crystals per second that the loader batches, in random order, in one process."""
    sampler = BatchSampler(range(len(store)), store.n_triplets, 64, seed=1)
    start, crystals = time.perf_counter(), 0
    for step, share in enumerate(make_loader(store, sampler, merge=True)):
        crystals += share.n_crystals
        if step == BATCHES_READ:
            break
    return crystals / (time.perf_counter() - start)


def line(count: int, figures: dict[str, float]) -> str:
    """Return the line of the table for one count."""
    cells = [
        f"{count:,}",
        f"{figures['store']:.0f}",
        f"{count / figures['store']:,.0f}",
        f"{figures['store_own']:.2f}",
        f"{figures['store_workers']:.2f}",
        f"{figures['epoch']:.1f}",
        f"{count / figures['epoch']:,.0f}",
        f"{figures['epoch_own']:.2f}",
        f"{figures['loader']:,.0f}",
        f"{figures['prediction']:.0f}",
        f"{figures['prediction_own']:.2f}",
        f"{figures['prediction_workers']:.2f}",
        f"{count / figures['crysgnn']:,.0f}",
        f"{figures['crysgnn_own']:.2f}",
    ]
    return row(cells)


def main() -> None:
    """Parse the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1000,10000", help="numbers of crystals, comma-separated (1000,10000)")
    parser.add_argument("--work", type=Path, required=True, help="folder for crystals, stores and runs")
    parser.add_argument("--only", choices=("store", "loader"), help=argparse.SUPPRESS)  # runs in a watched process
    arguments = parser.parse_args()
    counts = list(map(int, arguments.counts.split(",")))
    if arguments.only:
        store = build(arguments.work, counts[0])
        if arguments.only == "loader":
            print(loading_rate(store))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(heading(HEADING))
    for count in counts:
        path = arguments.work / f"figures_{count}.json"
        if not path.exists():
            write_json_atomic(path, measure(arguments.work, count))
        print(line(count, json.loads(path.read_text())), flush=True)


if __name__ == "__main__":
    main()
