"""Seconds of this project for what ``benchmarks/peers`` times of others: a step of ALIGNN, two epochs of CGCNN.

Each prints one JSON line. The step is that of ``crysmm train``: its objective, its optimiser, its arithmetic.
"""

import argparse
import csv
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.timing import median_seconds
from crysmm.config import TrainingConfig
from crysmm.data.batch import collate_crystals
from crysmm.data.records import open_input
from crysmm.data.scaler import TargetScaler
from crysmm.memory import freed_memory_kept
from crysmm.models.heads import build_network
from crysmm.objectives.property import PropertyObjective
from crysmm.training.optimizers import make_optimizer
from crysmm.training.train import train
from data_prep.convert import readable_records

CPU = torch.device("cpu")


def alignn_step(config: TrainingConfig, steps: int) -> dict[str, float]:
    """Graphs, training steps and inference of one batch that holds all crystals of the input."""
    records = list(readable_records(open_input(config, None)))
    crystals = [record.crystal for record in records]
    targets = np.array([record.targets for record in records])
    settings = config.graph_settings()
    batch = collate_crystals(crystals, settings, targets=targets)
    build = median_seconds(lambda: collate_crystals(crystals, settings), steps)
    scaler = TargetScaler.fit(targets, list(range(len(records))), config)
    objective = PropertyObjective(build_network(config, 1), scaler, config.criterion)
    optimizer = make_optimizer(config, objective)

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            return objective.training_loss(batch)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    result = {"triplets": batch.connectivity.n_triplets, "build": build / len(records)}
    result["step"] = median_seconds(step, steps)
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    objective.eval()
    with torch.inference_mode():
        result["inference"] = median_seconds(loss, steps)
    return result


def cgcnn_epochs(config: TrainingConfig, count: int) -> dict[str, float]:
    """Two epochs of ``crysmm train``: the first with reading, neighbours and all else a run does but the second.

    Args:
        config: the data; all of it but two crystals are learned from.
        count: crystals there are.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"output_dir": Path(folder) / "run", "cache_dir": Path(folder), "epochs": 2, "progress": False}
        split = {"n_train": count - 2, "n_val": 1, "n_test": 1}
        start = time.perf_counter()
        result = train(config.model_copy(update=own | split))
        seconds = time.perf_counter() - start
        with (result.folder / "history.csv").open(newline="") as file:
            second = float(list(csv.DictReader(file))[1]["seconds"])
    return {"first_epoch": seconds - second, "epoch": second}


def main() -> None:
    """Read the command line, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "epochs"))
    parser.add_argument("--data", type=Path, required=True, help="crystals: JSONL file, or a folder")
    parser.add_argument("--count", type=int, help="crystals there are, for epochs")
    parser.add_argument("--precision", choices=("32", "bf16"), default="bf16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = "alignn" if arguments.what == "step" else "cgcnn"
    config = TrainingConfig.model_validate({
        "root_dir": arguments.data, "model": model, "batch_size": 64, "precision": arguments.precision, "device": "cpu"
    })  # fmt: skip
    if arguments.what == "epochs":
        print(json.dumps(cgcnn_epochs(config, arguments.count)))
        return
    with freed_memory_kept(CPU):
        print(json.dumps(alignn_step(config, arguments.steps)))


if __name__ == "__main__":
    main()
