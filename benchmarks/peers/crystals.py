"""Shared parts of the scripts that predict with a peer; runs in the peer's environment."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch

LARGER = 2


def arguments(description: str) -> argparse.Namespace:
    """Parse the command line: the crystals, and the folder for models and predictions."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--crystals", type=Path, required=True, help="JSONL file")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the checkpoints and models.json")
    parser.add_argument("--tiny", action="store_true", help="only networks of a few thousand weights")
    return parser.parse_args()


def stir(model: torch.nn.Module, forward: Callable[[], object]) -> torch.nn.Module:
    """Give normalizations random weights and the statistics of the crystals, which new ones lack.

    All weights are made larger, so that predictions depend more on the graph.
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
    """Write ``models.json``: name, code, checkpoint, settings and predictions by id of each model."""
    (folder / "models.json").write_text(json.dumps(models))
