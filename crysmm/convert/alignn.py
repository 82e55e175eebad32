"""ALIGNN's checkpoints (github.com/atomgptlab/alignn): ``alignn``, ``alignn_atomwise`` and ``alignn_atomwise_pure``.

The first has batch normalisation, the others layer normalisation; the names of the weights are those used here. How
graphs were made stands in ``config.json``: ``k-nearest`` is ``as_jarvis`` here, and of ``pure_torch``, the builder
without DGL, both directions and angles are as ``alignn-torch`` and ``triplet_cutoff`` say. Which of several neighbours
at one distance are the k nearest, that builder leaves to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from crysmm.config.alignn_files import MODEL_ONLY
from crysmm.config.loading import make_config
from crysmm.config.training import TrainingConfig
from crysmm.convert.checkpoint import Checkpoint, ConvertedModel, fill, finite_number, n_layers, shape
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError, shown
from crysmm.models.alignn import LARGEST_BOND
from crysmm.models.networks import build_network

NORMALIZATION = {"alignn": "batch", "alignn_atomwise": "layer", "alignn_atomwise_pure": "layer"}
CENTERS = {"edge_embedding.0.centers": (0.0, LARGEST_BOND), "angle_embedding.0.centers": (-1.0, 1.0)}
OTHER_OUTPUTS = ("fc_atomwise.", "fc_additional_output.")
UNREAD = (*OTHER_OUTPUTS, "_species_table")  # by a prediction of the crystal
PURE_TORCH_KEYS = ("cutoff", "max_neighbors", "three_body_cutoff")


def convert_alignn(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> ConvertedModel:
    """The model of a checkpoint.

    Args:
        checkpoint: of ALIGNN.
        settings: the ``config.json`` that ALIGNN's training has written beside it.

    Raises:
        InputError: settings or weights do not fit, or the model does what is not offered here.
    """
    model = settings.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    if not isinstance(model, dict) or not isinstance(name, str) or name not in NORMALIZATION:
        raise InputError(
            f"--config: model.name is {shown(name)}; expected {', '.join(NORMALIZATION)}, as in the config.json that "
            "ALIGNN's training writes beside its checkpoints"
        )
    _refuse(settings, model)
    weights = _without_unread(checkpoint.weights)
    sizes = _sizes(weights)
    n_outputs, _ = shape(weights, "fc.weight", 2)
    _check_sizes(model, sizes)
    config = _config(settings, model, sizes)
    scaler = _scaler(config, n_outputs)
    names = [config.target_key or "target"]
    if scaler.n_targets > 1:  # the name is that of a list
        names = [f"{names[0]}_{column}" for column in range(scaler.n_targets)]
        config = config.model_copy(update={"target_key": None})
    network = build_network(config, n_outputs)
    fill(network, _with_whole_bias(weights, n_outputs), original_name)
    return ConvertedModel(config, network, _notes(checkpoint, model, config), scaler, tuple(names))


def _config(settings: Mapping[str, Any], model: Mapping[str, Any], sizes: Mapping[str, int]) -> TrainingConfig:
    """What the model is, and on which graphs."""
    ours = {
        **sizes,
        "name": "alignn",
        "norm": NORMALIZATION[model["name"]],
        "link": model.get("link"),
        "classification": model.get("classification"),
    }
    return make_config(
        TrainingConfig,
        {
            **_graph_settings(settings),
            "model": {key: value for key, value in ours.items() if value is not None},
            "target_key": settings.get("target"),
            "target_multiplication_factor": settings.get("target_multiplication_factor"),
            "classification_threshold": settings.get("classification_threshold"),
        },
    )


def _refuse(settings: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse models that do what is not offered here."""
    problems = [
        f"model.{key} is {shown(model[key])}, which is not offered here; expected {only!r}"
        for key, only in MODEL_ONLY.items()
        if model.get(key, only) != only
    ]
    if settings.get("standard_scalar_and_pca"):
        problems.append(
            "standard_scalar_and_pca is true: the scale of the outputs stands in sc.pkl, which is code and not read"
        )
    is_atomwise = model["name"] != "alignn"
    if is_atomwise and model.get("calculate_gradient", True) and model.get("gradwise_weight", 1) != 0:
        problems.append("the model gives forces (model.calculate_gradient); only properties of the crystal are here")
    if settings.get("classification_threshold") is not None and not model.get("classification", False):
        problems.append("classification_threshold is set and model.classification is not: expected both or neither")
    if problems:
        raise InputError("\n".join(f"--config: {problem}" for problem in problems))


def _graph_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The graphs of a config file, as settings of ours."""
    strategy = settings.get("neighbor_strategy", "k-nearest")
    atom_features = {"atom_features": settings.get("atom_features", "cgcnn")}
    if strategy == "k-nearest":
        found = {key: settings[key] for key in ("cutoff", "max_neighbors", "use_canonize") if key in settings}
        return {**atom_features, "neighbor_strategy": strategy, "as_jarvis": True, **found}
    if strategy != "pure_torch":
        raise InputError(
            f"--config: neighbor_strategy {shown(strategy)}: these graphs cannot be made here; expected k-nearest or "
            "pure_torch"
        )
    missing = [key for key in PURE_TORCH_KEYS if key not in settings]
    if missing:
        raise InputError(
            f"--config: {', '.join(missing)} missing, which graphs of pure_torch depend on; give the config.json that "
            "ALIGNN's training has written, not the one it has read"
        )
    cutoff, max_neighbors, triplet_cutoff = (settings[key] for key in PURE_TORCH_KEYS)
    by_number = {"neighbor_strategy": "alignn-torch", "max_neighbors": max_neighbors}
    return {
        **atom_features,
        **(by_number if max_neighbors else {"neighbor_strategy": "radius"}),
        "cutoff": cutoff,
        "triplet_cutoff": None if triplet_cutoff in (None, cutoff) else triplet_cutoff,
    }


def _without_unread(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that predictions depend on.

    Raises:
        InputError: bond lengths or cosines are expanded in other Gaussians than here.
    """
    for name, (first, last) in CENTERS.items():
        found = weights.get(name)
        if found is not None and not _are_evenly_spaced(found, first, last):
            raise InputError(f"{name}: expected centres evenly spaced from {first:g} to {last:g}, got others")
    unread = UNREAD if n_layers(weights, "alignn_layers") else (*UNREAD, "angle_embedding.")
    return {name: value for name, value in weights.items() if name not in CENTERS and not name.startswith(unread)}


def _are_evenly_spaced(centers: Tensor, first: float, last: float) -> bool:
    return centers.dim() == 1 and torch.allclose(
        centers.double(), torch.linspace(first, last, len(centers), dtype=torch.double)
    )


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Widths and depths; what there is none of has its default."""
    hidden_features, atom_input_features = shape(weights, "atom_embedding.layer.0.weight", 2)
    embedding_features, edge_input_features = shape(weights, "edge_embedding.1.layer.0.weight", 2)
    sizes = {
        "alignn_layers": n_layers(weights, "alignn_layers"),
        "gcn_layers": n_layers(weights, "gcn_layers"),
        "atom_input_features": atom_input_features,
        "edge_input_features": edge_input_features,
        "embedding_features": embedding_features,
        "hidden_features": hidden_features,
    }
    if sizes["alignn_layers"]:
        _, sizes["triplet_input_features"] = shape(weights, "angle_embedding.1.layer.0.weight", 2)
    return sizes


def _check_sizes(model: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Refuse a config file of another model.

    Raises:
        InputError: it says other sizes than the weights have.
    """
    different = [
        f"model.{key} is {shown(model[key])} in --config and {size} in the checkpoint"
        for key, size in sizes.items()
        if model.get(key, size) != size
    ]
    if different:
        raise InputError("\n".join([*different, "give the config.json that was written beside the checkpoint"]))


def _with_whole_bias(weights: dict[str, Tensor], n_outputs: int) -> dict[str, Tensor]:
    """The weights with one bias an output: with the link log theirs starts as a single number."""
    bias = weights.get("fc.bias")
    return {**weights, "fc.bias": bias.expand(n_outputs)} if bias is not None and bias.dim() == 0 else weights


def original_name(name: str) -> str:
    """What ALIGNN calls a weight of a network here."""
    return name.removeprefix("backbone.").replace("head.output", "fc")


def _scaler(config: TrainingConfig, n_outputs: int) -> TargetScaler:
    """Outputs are values of the target, or logits of classes 0, 1, ...

    Raises:
        InputError: one output stands for two classes.
    """
    if config.is_classification:
        if n_outputs == 1:
            raise InputError("fc.weight has one output, and classes (model.classification) need one each")
        classes = tuple(float(index) for index in range(n_outputs))
        threshold = config.classification_threshold
        return TargetScaler(n_targets=1, standardize=False, threshold=threshold, classes=classes)
    return TargetScaler(n_targets=n_outputs, standardize=False, mean=(0.0,) * n_outputs, std=(1.0,) * n_outputs)


def _notes(checkpoint: Checkpoint, model: Mapping[str, Any], config: TrainingConfig) -> list[str]:
    notes = []
    others = [name.removesuffix(".") for name in OTHER_OUTPUTS if f"{name}weight" in checkpoint.weights]
    if others:
        notes.append(f"outputs left aside, which were not trained: {', '.join(others)}")
    if config.neighbor_strategy == "alignn-torch":
        notes.append(
            "of several neighbours at one distance the original takes the first ones by rounding, so that crystals "
            "where that is the last distance are predicted otherwise"
        )
    has_penalty = model["name"] == "alignn_atomwise" and model.get("use_penalty", True)
    if has_penalty and not model.get("energy_mult_natoms", True):
        notes.append(
            f"the original adds a penalty for bonds shorter than {_shortest_bond(model):g} Angstrom, which is left out"
        )
    if config.is_classification and config.classification_threshold is None:
        notes.append("classes are named 0, 1, ..., in the order of the outputs")
    return notes


def _shortest_bond(model: Mapping[str, Any]) -> float:
    """The length in Angstrom below which the original adds a penalty.

    Raises:
        InputError: it is no number.
    """
    found = model.get("penalty_threshold", 1)
    shortest = finite_number(found)
    if shortest is None:
        raise InputError(f"--config: model.penalty_threshold is {shown(found)}; expected a number, in Angstrom")
    return shortest
