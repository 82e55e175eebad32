"""Checkpoints of other code as files."""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from crysmm.crystals.crystal import Crystal

DATA = Path(__file__).parent / "data"


class Original(NamedTuple):
    """A model of other code: its files, and what it predicts by id."""

    code: str
    checkpoint: Path
    config: Path | None
    predictions: dict[str, list[float]]


def tensor(stored: dict[str, Any]) -> torch.Tensor:
    numbers = np.frombuffer(base64.b64decode(stored["data"]), dtype=np.float32)
    return torch.from_numpy(numbers.copy()).reshape(stored["shape"])


def read_crystals() -> dict[str, Crystal]:
    """Crystals that the originals have predicted: all atoms have 12 nearest neighbors, whatever the rounding."""
    rows = map(json.loads, (DATA / "crystals.jsonl").read_text().splitlines())
    return {row["id"]: Crystal.from_arrays(row["lattice_mat"], row["frac_coords"], row["elements"]) for row in rows}


@pytest.fixture(scope="session")
def sample() -> list[Crystal]:
    """The crystals of :func:`read_crystals`, in their order."""
    return list(read_crystals().values())


def write_original(name: str, folder: Path) -> Original:
    """The checkpoint and config file of one of the models in the folder data."""
    content = json.loads((DATA / f"{name}.json").read_text())
    weights = {key: tensor(stored) for key, stored in content["weights"].items()}
    whole = {"epoch": 3, "state_dict": weights}
    if content["code"] == "cgcnn":
        whole["normalizer"] = {key: torch.tensor(value) for key, value in (content["normalizer"] or {}).items()}
    torch.save(whole if content["code"] == "cgcnn" else weights, folder / "checkpoint.pt")
    config = None
    if content["config"] is not None:
        config = folder / "config.json"
        config.write_text(json.dumps(content["config"]))
    return Original(content["code"], folder / "checkpoint.pt", config, content["predictions"])


@pytest.fixture
def original(request: pytest.FixtureRequest, tmp_path: Path) -> Original:
    """One of the models in the folder data, by name."""
    return write_original(request.param, tmp_path)
