"""Checkpoints of ALIGNN (github.com/atomgptlab/alignn): ``alignn``, ``alignn_atomwise`` and ``alignn_atomwise_pure``.

The first has batch normalization, the others have layer normalization; weights have the same names as here. Graphs
are set in ``config.json``: ``k-nearest`` corresponds to ``as_jarvis`` here. ``pure_torch``, the builder without DGL,
takes both directions of a bond and the angles of ``alignn-torch`` and ``triplet_cutoff``. If several neighbors at the
same distance compete to be among the k nearest, that builder chooses by rounding errors.
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
from crysmm.inference.model_folder import BACKBONE
from crysmm.models.alignn import LARGEST_BOND
from crysmm.models.networks import build_network

NORMALIZATION = {"alignn": "batch", "alignn_atomwise": "layer", "alignn_atomwise_pure": "layer"}
CENTERS = {"edge_embedding.0.centers": (0.0, LARGEST_BOND), "angle_embedding.0.centers": (-1.0, 1.0)}
OTHER_OUTPUTS = ("fc_atomwise.", "fc_additional_output.")
UNREAD = (*OTHER_OUTPUTS, "_species_table")  # weights that predictions for a whole crystal do not depend on
PURE_TORCH_KEYS = ("cutoff", "max_neighbors", "three_body_cutoff")


def convert_alignn(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> ConvertedModel:
    """Convert a model of ALIGNN.

    Args:
        checkpoint: Checkpoint of ALIGNN.
        settings: Content of the ``config.json`` that ALIGNN's training wrote beside it.

    Raises:
        InputError: Settings or weights do not fit, or the model is of a kind that is not supported.
    """
    model = settings.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    if not isinstance(model, dict) or not isinstance(name, str) or name not in NORMALIZATION:
        raise InputError(
            f"--config: model.name is {shown(name)}; expected {', '.join(NORMALIZATION)}, as in the config.json that "
            "ALIGNN's training writes beside its checkpoints"
        )
    _refuse_unsupported(settings, model)
    weights = _used_weights(checkpoint.weights)
    sizes = _sizes(weights)
    n_outputs, _ = shape(weights, "fc.weight", 2)
    different = [
        f"model.{key} is {shown(model[key])} in --config and {size} in the checkpoint"
        for key, size in sizes.items()
        if model.get(key, size) != size
    ]
    if different:
        raise InputError("\n".join([*different, "give the config.json that was written beside the checkpoint"]))

    given = {key: model[key] for key in ("link", "classification") if model.get(key) is not None}
    config = make_config(
        TrainingConfig,
        {
            **_graph_settings(settings),
            "model": {**sizes, "name": "alignn", "norm": NORMALIZATION[name], **given, **_penalty(model)},
            "target_key": settings.get("target"),
            "target_multiplication_factor": settings.get("target_multiplication_factor"),
            "classification_threshold": settings.get("classification_threshold"),
        },
    )
    scaler = _scaler(config, n_outputs)
    target_names = [config.target_key or "target"]
    if scaler.n_targets > 1:  # the one name is that of a list of targets
        target_names = [f"{target_names[0]}_{column}" for column in range(scaler.n_targets)]
        config = config.model_copy(update={"target_key": None})
    network = build_network(config, n_outputs)
    bias = weights.get("fc.bias")
    if bias is not None and bias.dim() == 0:  # with the log link, ALIGNN sets the bias to a single number
        weights["fc.bias"] = bias.expand(n_outputs)
    fill(network, weights, original_name)
    return ConvertedModel(config, network, _notes(checkpoint, config), scaler, tuple(target_names))


def _refuse_unsupported(settings: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse models that this package cannot represent.

    Raises:
        InputError: With all reasons.
    """
    problems = [
        f"model.{key} is {shown(model[key])}, which is not supported; expected {only!r}"
        for key, only in MODEL_ONLY.items()
        if model.get(key, only) != only
    ]
    if settings.get("standard_scalar_and_pca"):
        problems.append(
            "standard_scalar_and_pca is true: the scale of the outputs is in sc.pkl, which is code and is not read"
        )
    is_atomwise = model["name"] != "alignn"
    if is_atomwise and model.get("calculate_gradient", True) and model.get("gradwise_weight", 1) != 0:
        problems.append(
            "the model predicts forces (model.calculate_gradient); only properties of the crystal are supported"
        )
    if settings.get("classification_threshold") is not None and not model.get("classification", False):
        problems.append("classification_threshold is set and model.classification is not: expected both or neither")
    if problems:
        raise InputError("\n".join(f"--config: {problem}" for problem in problems))


def _used_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the weights that predictions depend on.

    Raises:
        InputError: Bond lengths or cosines are expanded in other Gaussians than here.
    """
    for name, (first, last) in CENTERS.items():
        found = weights.get(name)
        if found is None:
            continue
        expected = torch.linspace(first, last, found.numel(), dtype=torch.double)
        if found.dim() != 1 or not torch.allclose(found.double(), expected):
            raise InputError(f"{name}: expected centers evenly spaced from {first:g} to {last:g}, got others")
    unread = UNREAD if n_layers(weights, "alignn_layers") else (*UNREAD, "angle_embedding.")
    return {name: value for name, value in weights.items() if name not in CENTERS and not name.startswith(unread)}


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Return widths and depths of the network; without line graph layers, the width of the angles is left out."""
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


def _graph_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert ALIGNN's graph settings to those of this package.

    Raises:
        InputError: Such graphs are not supported, or settings are missing.
    """
    strategy = settings.get("neighbor_strategy", "k-nearest")
    atom_features = {"atom_features": settings.get("atom_features", "cgcnn")}
    if strategy == "k-nearest":
        found = {key: settings[key] for key in ("cutoff", "max_neighbors", "use_canonize") if key in settings}
        return {**atom_features, "neighbor_strategy": strategy, "as_jarvis": True, **found}
    if strategy != "pure_torch":
        raise InputError(
            f"--config: neighbor_strategy {shown(strategy)}: these graphs are not supported; expected k-nearest or "
            "pure_torch"
        )
    missing = [key for key in PURE_TORCH_KEYS if key not in settings]
    if missing:
        raise InputError(
            f"--config: {', '.join(missing)} missing, which graphs of pure_torch depend on; give the config.json that "
            "ALIGNN's training wrote, not the one it read"
        )
    cutoff, max_neighbors, triplet_cutoff = (settings[key] for key in PURE_TORCH_KEYS)
    by_number = {"neighbor_strategy": "alignn-torch", "max_neighbors": max_neighbors}
    return {
        **atom_features,
        **(by_number if max_neighbors else {"neighbor_strategy": "radius"}),
        "cutoff": cutoff,
        "triplet_cutoff": None if triplet_cutoff in (None, cutoff) else triplet_cutoff,
    }


def _penalty(model: Mapping[str, Any]) -> dict[str, float]:
    """Return the settings of the penalty for short bonds; empty where the original's does not reach its outputs.

    The original adds the penalty to a total energy. That is its output only for ``alignn_atomwise`` without
    ``energy_mult_natoms``, where the addition is made in place.

    Raises:
        InputError: A value is not a number.
    """
    is_output = model["name"] == "alignn_atomwise" and not model.get("energy_mult_natoms", True)
    if not is_output or not model.get("use_penalty", True):
        return {}
    numbers = {}
    for key, default in (("penalty_factor", 0.1), ("penalty_threshold", 1.0)):
        value = model.get(key, default)
        number = finite_number(value)
        if number is None:
            unit = ", in Angstrom" if key == "penalty_threshold" else ""
            raise InputError(f"--config: model.{key} is {shown(value)}; expected a number{unit}")
        numbers[key] = number
    # no bond is shorter than a negative length
    return {
        "short_bond_penalty": numbers["penalty_factor"],
        "short_bond_length": max(0.0, numbers["penalty_threshold"]),
    }


def _scaler(config: TrainingConfig, n_outputs: int) -> TargetScaler:
    """Build a scaler for outputs that are values of the target, or logits of the classes 0, 1, ...

    Raises:
        InputError: One output represents two classes.
    """
    # ALIGNN trains on targets in original units, so nothing is standardized.
    if not config.is_classification:
        return TargetScaler(n_targets=n_outputs, standardize=False, mean=(0.0,) * n_outputs, std=(1.0,) * n_outputs)
    if n_outputs == 1:
        raise InputError("fc.weight has one output, and classes (model.classification) need one each")
    # The checkpoint does not record which values the classes had.
    classes = tuple(float(index) for index in range(n_outputs))
    return TargetScaler(n_targets=1, standardize=False, threshold=config.classification_threshold, classes=classes)


def _notes(checkpoint: Checkpoint, config: TrainingConfig) -> list[str]:
    """Return notes on differences from the original."""
    notes = []
    others = [name.removesuffix(".") for name in OTHER_OUTPUTS if f"{name}weight" in checkpoint.weights]
    if others:
        notes.append(f"outputs ignored, as they were not trained: {', '.join(others)}")
    if config.neighbor_strategy == "alignn-torch":
        notes.append(
            "if several neighbors are at the last distance, the original chooses among them by rounding; predictions "
            "for such crystals differ"
        )
    if config.is_classification and config.classification_threshold is None:
        notes.append("classes are named 0, 1, ..., in the order of the outputs")
    return notes


def original_name(name: str) -> str:
    """Return ALIGNN's name of a weight."""
    return name.removeprefix(BACKBONE).replace("head.output", "fc")
