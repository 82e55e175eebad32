"""Time this project on what ``benchmarks/peers`` times for others: training steps, and two epochs of CGCNN.

Each prints one JSON line. The steps are those of ``crysmm train``: its objective, its optimizer, its arithmetic.
"""

import argparse
import json
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.timing import median_seconds
from crysmm.config import TrainingConfig
from crysmm.data.batch import CrystalBatch, collate_crystals
from crysmm.data.building import count_triplets
from crysmm.data.loader import batch_ends
from crysmm.data.scaler import TargetScaler
from crysmm.engines.memory import keep_freed_memory
from crysmm.graphs.neighbors import find_edges
from crysmm.io.inputs import open_input
from crysmm.models.networks import build_network
from crysmm.objectives.property import PropertyObjective
from crysmm.runs.history import read_history
from crysmm.runs.run_folder import RunFolder
from crysmm.training.train import train
from crysmm.training.trainer import make_optimizer
from data_prep.convert import readable_records

CPU = torch.device("cpu")


def training_steps(config: TrainingConfig, repeats: int) -> dict[str, float]:
    """Time graphs, training steps and inference for all crystals of the input.

    Args:
        config: Training config; without ``max_triplets`` the crystals make one batch.
        repeats: Repetitions after a first one that is not counted.

    Returns:
        Sizes of the batches, medians in seconds (graphs: per crystal), and peak memory of the training steps in GiB.
    """
    records = list(readable_records(open_input(config, None)))
    crystals = [record.crystal for record in records]
    targets = np.array([record.targets for record in records])
    settings = config.graph_settings()
    build, build_merged = (
        median_seconds(lambda merge=merge: collate_crystals(crystals, settings, merge=merge), repeats)
        for merge in (False, True)
    )
    triplets = np.array([count_triplets(len(crystal), find_edges(crystal, settings)) for crystal in crystals])
    ends = batch_ends(triplets, len(crystals), config.max_triplets)
    parts = [slice(start, end) for start, end in pairwise([0, *ends])]
    batches = [collate_crystals(crystals[part], settings, targets=targets[part], merge=True) for part in parts]
    scaler = TargetScaler.fit(targets, list(range(len(records))), config)
    objective = PropertyObjective(build_network(config, 1), scaler, config.criterion)
    optimizer = make_optimizer(config, objective)

    def loss(batch: CrystalBatch) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            return objective.training_loss(batch)

    def steps() -> None:
        for batch in batches:
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()

    result = {
        "atoms": sum(len(batch.atom_features) for batch in batches),
        "computed_bonds": sum(len(batch.bond_vectors) for batch in batches),
        "triplets": int(triplets.sum()),
        "computed_triplets": sum(batch.connectivity.n_triplets for batch in batches),
        "batches": len(batches),
        "build": build / len(records),
        "build_merged": build_merged / len(records),
    }
    result["step"] = median_seconds(steps, repeats)
    # before inference, so that the peak is that of the training steps
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    objective.eval()
    with torch.inference_mode():
        result["inference"] = median_seconds(lambda: list(map(loss, batches)), repeats)
    return result


def cgcnn_epochs(config: TrainingConfig, count: int) -> dict[str, float]:
    """Time two epochs of ``crysmm train``; the first includes everything that a run does but the second epoch.

    Args:
        config: Training config; all crystals but two are trained on.
        count: Number of crystals.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"output_dir": Path(folder) / "run", "cache_dir": Path(folder), "epochs": 2, "progress": False}
        split = {"n_train": count - 2, "n_val": 1, "n_test": 1, "val_ratio": None, "test_ratio": None}
        start = time.perf_counter()
        result = train(config.model_copy(update=own | split))
        seconds = time.perf_counter() - start
        second = read_history(RunFolder(result.folder).history)[1]["seconds"]
    return {"first_epoch": seconds - second, "epoch": second}


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "epochs"))
    parser.add_argument("--data", type=Path, required=True, help="crystals: JSONL file, or a folder")
    parser.add_argument("--count", type=int, help="number of crystals, for epochs")
    parser.add_argument("--precision", choices=("32", "bf16"), default="bf16")
    parser.add_argument(
        "--model", choices=("cgcnn", "gatgnn", "alignn"), default="alignn", help="backbone of the steps (alignn)"
    )
    parser.add_argument(
        "--max_triplets", type=int, help="most triplets in a batch; by default one batch holds all crystals"
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = TrainingConfig.model_validate({
        "root_dir": arguments.data,
        "model": arguments.model if arguments.what == "steps" else "cgcnn",
        "batch_size": 64,
        "max_triplets": arguments.max_triplets,
        "precision": arguments.precision,
        "device": "cpu",
    })  # fmt: skip
    if arguments.what == "epochs":
        print(json.dumps(cgcnn_epochs(config, arguments.count)))
        return
    with keep_freed_memory(CPU):
        print(json.dumps(training_steps(config, arguments.steps)))


if __name__ == "__main__":
    main()
