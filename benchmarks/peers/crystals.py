"""What the scripts that predict with a peer share; runs in the peer's environment."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch

LARGER = 2


def arguments(description: str) -> argparse.Namespace:
    """The command line: which crystals, and where models and predictions go."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--crystals", type=Path, required=True, help="JSONL file")
    parser.add_argument("--output_dir", type=Path, required=True, help="of the checkpoints and models.json")
    parser.add_argument("--tiny", action="store_true", help="networks of a few thousand weights alone")
    return parser.parse_args()


def stir(model: torch.nn.Module, forward: Callable[[], object]) -> torch.nn.Module:
    """Give normalisations weights of their own and statistics of the crystals, which fresh ones lack.

    Larger weights than fresh ones make predictions depend more on the graph.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
            else:
                parameter *= LARGER
        model.train()
        for _ in range(3):
            forward()
    return model.eval()


def write_models(models: list[dict], folder: Path) -> None:
    """What was made: of each model the name, whose it is, its checkpoint and settings, its predictions by id."""
    (folder / "models.json").write_text(json.dumps(models))
