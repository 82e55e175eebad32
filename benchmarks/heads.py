r"""Seconds an epoch of training with each head, on the same crystals, by turns.

    python -m benchmarks.heads --data examples/sample_data --descriptions examples/sample_data/descriptions.jsonl

A teacher's embeddings and those of texts are made before the first epoch and lie in the cache. What is compared is the
median over the epochs of all turns but the first of each.
"""

import argparse
import csv
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from crysmm.config import TrainingConfig
from crysmm.training.train import train

EPOCHS = 6


def main() -> None:
    """Read the command line, train by turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="what crysmm train reads")
    parser.add_argument("--target_key", help="of the data, where it has several properties")
    parser.add_argument("--limit", type=int, help="read only the first so many rows")
    parser.add_argument("--teacher", default="crysgnn-mp", help="model folder or shipped name (crysgnn-mp)")
    parser.add_argument("--descriptions", type=Path, help="of the crystals; without them no multimodal head")
    parser.add_argument("--models", nargs="+", default=["cgcnn", "gatgnn"], help="backbones (cgcnn gatgnn)")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    heads: dict[str, dict[str, Any]] = {
        "vanilla": {"name": "vanilla"},
        "distilled": {"name": "distilled", "teacher": arguments.teacher},
    }
    if arguments.descriptions is not None:
        heads["multimodal"] = {"name": "multimodal", "descriptions": arguments.descriptions, "encoder": "minilm"}
    print("| backbone | " + " | ".join(heads) + " |" + "\n" + "|-" * (len(heads) + 1) + "|")
    for model in arguments.models:
        seconds = epoch_seconds(model, heads, arguments)
        medians = {head: statistics.median(values) for head, values in seconds.items()}
        cells = [f"{median:.2f} s ({median / medians['vanilla']:.2f})" for median in medians.values()]
        print(f"| {model} | " + " | ".join(cells) + " |", flush=True)


def epoch_seconds(
    model: str, heads: dict[str, dict[str, Any]], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Of each head, the seconds of every epoch that counts."""
    seconds = defaultdict(list)
    for _ in range(arguments.turns):
        for name, head in heads.items():
            with tempfile.TemporaryDirectory() as folder:
                config = TrainingConfig.model_validate(
                    {
                        "root_dir": arguments.data,
                        "target_key": arguments.target_key,
                        "limit": arguments.limit,
                        "output_dir": Path(folder) / "run",
                        "model": model,
                        "head": head,
                        "epochs": EPOCHS,
                        "progress": False,
                    }
                )
                with (train(config).folder / "history.csv").open(newline="") as file:
                    seconds[name] += [float(row["seconds"]) for row in csv.DictReader(file)][1:]
    return seconds


if __name__ == "__main__":
    main()
