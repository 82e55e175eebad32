"""Predict with ALIGNN's networks and random weights, on graphs of its own builders, one crystal at a time."""

import json
import os
import warnings

os.environ.setdefault("DGLBACKEND", "pytorch")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

from collections.abc import Callable
from pathlib import Path

import dgl
import torch
from alignn.graphs import Graph
from alignn.models.alignn import ALIGNN, ALIGNNConfig
from alignn.models.alignn_atomwise import ALIGNNAtomWise, ALIGNNAtomWiseConfig
from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig
from alignn.torch_graph_builder import batch_torch_graph_pairs, build_pure_torch_graph
from alignn_step import lattices, read
from crystals import arguments, stir, write_models

CLASSES = {
    "alignn": (ALIGNN, ALIGNNConfig),
    "alignn_atomwise": (ALIGNNAtomWise, ALIGNNAtomWiseConfig),
    "alignn_atomwise_pure": (ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig),
}
TINY = {
    "alignn_layers": 1, "gcn_layers": 1, "edge_input_features": 20, "triplet_input_features": 10,
    "embedding_features": 4, "hidden_features": 6,
}  # fmt: skip
NO_FORCES = {"atom_input_features": 92, "calculate_gradient": False, "gradwise_weight": 0.0}
PENALTY = {"energy_mult_natoms": False, "use_penalty": True, "penalty_factor": 0.2, "penalty_threshold": 2.5}
K_NEAREST = {"neighbor_strategy": "k-nearest", "cutoff": 8.0, "max_neighbors": 12, "use_canonize": True}
PURE = {"neighbor_strategy": "pure_torch", "cutoff": 5.0, "max_neighbors": 12, "three_body_cutoff": 3.5}
RADIUS = {**PURE, "cutoff": 4.0, "max_neighbors": None, "three_body_cutoff": None}


def variants(tiny_only: bool) -> dict[str, dict]:
    """Return config files by name, which cover all settings that change the network."""
    atomwise, pure = ({"name": name, **NO_FORCES} for name in ("alignn_atomwise", "alignn_atomwise_pure"))
    batch = {"name": "alignn"}
    tiny = {
        "alignn": {**K_NEAREST, "model": {**batch, **TINY, "output_features": 2}},
        "alignn-log": {**K_NEAREST, "use_canonize": False, "model": {**batch, **TINY, "link": "log"}},
        "alignn-classes": {
            **K_NEAREST, "classification_threshold": 0.1, "model": {**batch, **TINY, "classification": True}
        },
        "alignn_atomwise": {**K_NEAREST, "model": {**atomwise, **TINY, "alignn_layers": 2, "link": "logit"}},
        "alignn_atomwise-penalty": {**K_NEAREST, "model": {**atomwise, **TINY, **PENALTY, "link": "log"}},
        "alignn_atomwise_pure": {**PURE, "model": {**pure, **TINY}},
        "alignn_atomwise_pure-radius": {**RADIUS, "model": {**pure, **TINY}},
    }  # fmt: skip
    full = {
        "alignn": {**K_NEAREST, "model": batch},
        "alignn_atomwise_pure": {**PURE, "model": {**pure, "alignn_layers": 4, "hidden_features": 256}},
    }
    named = {f"tiny-{name}": config for name, config in tiny.items()}
    return {**named, **({} if tiny_only else {f"full-{name}": config for name, config in full.items()})}


def builder(config: dict) -> Callable:
    """Return a function from crystals to the graphs, line graphs and lattices that the model takes."""

    def k_nearest(crystals: list) -> tuple:
        pairs = [
            Graph.atom_dgl_multigraph(
                crystal, cutoff=config["cutoff"], max_neighbors=config["max_neighbors"], atom_features="cgcnn",
                use_canonize=config["use_canonize"],
            )
            for crystal in crystals
        ]  # fmt: skip
        return *(dgl.batch(list(side)) for side in zip(*pairs, strict=True)), lattices(crystals)

    def pure_torch(crystals: list) -> tuple:
        pairs = [
            build_pure_torch_graph(
                crystal, config["cutoff"], config["three_body_cutoff"], config["max_neighbors"], atom_features="cgcnn"
            )
            for crystal in crystals
        ]
        return *batch_torch_graph_pairs(pairs), lattices(crystals)

    return k_nearest if config["neighbor_strategy"] == "k-nearest" else pure_torch


def main() -> None:
    """Predict and write the models."""
    given = arguments(__doc__)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    crystals = dict(zip(ids(given.crystals), read(given.crystals), strict=True))
    models = []
    for name, config in variants(given.tiny).items():
        torch.manual_seed(1)
        network, settings = CLASSES[config["model"]["name"]]
        model, build = network(settings(**config["model"])), builder(config)
        # batches of a few, as line graphs take memory
        first = list(crystals.values())[:6]
        stir(model, lambda model=model, build=build, first=first: model(build(first)))
        path = given.output_dir / f"{name}.pt"
        weights = model.state_dict()
        torch.save({"model": weights} if config["model"]["name"] == "alignn" else weights, path)
        predictions = {}
        with torch.no_grad():
            for crystal_id, crystal in crystals.items():
                output = model(build([crystal]))
                values = (output["out"] if isinstance(output, dict) else output).flatten()
                predictions[crystal_id] = (values.exp() if model.classification else values).tolist()
        full = {"target": "target", "atom_features": "cgcnn", **config}
        models.append({"name": name, "code": "alignn", "config": full, "checkpoint": str(path)})
        models[-1]["predictions"] = predictions
    write_models(models, given.output_dir)


def ids(path: Path) -> list[str]:
    """Return the ids in a JSONL file."""
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
