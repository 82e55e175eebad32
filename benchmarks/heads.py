r"""Measure the seconds per epoch of training with each head, on the same crystals, in alternating runs.

    python -m benchmarks.heads --data examples/sample_data --descriptions examples/sample_data/descriptions.jsonl

Embeddings of the teacher and of texts are computed before the first epoch and cached. The medians are over the epochs
of all runs, without the first epoch of each.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from crysmm.config import TrainingConfig
from crysmm.runs.history import read_history
from crysmm.runs.run_folder import RunFolder
from crysmm.training.train import train

EPOCHS = 6


def main() -> None:
    """Parse the command line, train in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="input of crysmm train")
    parser.add_argument("--target_key", help="property to train on, if the data has several")
    parser.add_argument("--limit", type=int, help="number of rows to read, from the first")
    parser.add_argument("--teacher", default="crysgnn-mp", help="model folder or shipped name (crysgnn-mp)")
    parser.add_argument(
        "--descriptions", type=Path, help="descriptions of the crystals; without them there is no multimodal head"
    )
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
    """Return the seconds of every counted epoch, by head."""
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
                history = read_history(RunFolder(train(config).folder).history)
                seconds[name] += [epoch["seconds"] for epoch in history[1:]]
    return seconds


if __name__ == "__main__":
    main()
