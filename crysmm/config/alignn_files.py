"""ALIGNN's and CrysMMNet's config files, read as settings of ours.

A key with a meaning here is translated, one without is accepted and named in a printed line, and a key that asks
for something else than is offered is refused with the reason. Defaults of theirs, where ours differ, are those of
ALIGNN 2025.4.1 and 2026.8.11 and of CrysMMNet.
"""

from collections.abc import Iterator, Set
from typing import Any

from crysmm.errors import InputError, shown

SYNONYMS = {"target": "target_key", "id_tag": "id_key", "standard_scalar_and_pca": "standardize_target"}
WITHOUT_MEANING = frozenset({
    "version", "dataset", "filename", "dtype", "warmup_steps", "save_dataloader", "write_checkpoint",
    "write_predictions", "store_outputs", "log_tensorboard", "compute_line_graph", "cutoff_extra",
    "three_body_cutoff", "normalize_graph_level_loss", "distributed", "data_parallel", "use_lmdb",
    "read_existing", "gpu_memory_fraction", "ddp_find_unused_parameters", "resume_checkpoint",
    "lr_total_epochs", "deterministic",
})  # fmt: skip
MODEL_WITHOUT_MEANING = frozenset({
    "output_features", "num_classes", "grad_multiplier", "calculate_gradient",
    "atomwise_output_features", "graphwise_weight", "gradwise_weight", "stresswise_weight", "atomwise_weight",
    "zero_inflated", "force_mult_natoms", "energy_mult_natoms", "include_pos_deriv", "use_cutoff_function",
    "inner_cutoff", "three_body_cutoff", "stress_multiplier", "add_reverse_forces", "lg_on_fly",
    "batch_stress", "multiply_cutoff", "use_penalty", "extra_features", "exponent", "penalty_factor",
    "penalty_threshold", "use_zbl", "zbl_cutoff", "additional_output_features", "additional_output_weight",
    "conv_type", "num_heads", "logscale", "hurdle",
})  # fmt: skip
LAYER_NORM_NAMES = ("alignn_atomwise", "alignn_atomwise_pure", "alignn_layernorm")
RADIUS_NAMES = ("radius_graph", "radius_graph_jarvis")
CAPPED_NAMES = ("pure_torch", "torch_graph", "fast_graph")

# What theirs is where a file leaves the key out, and ours is something else.
THEIR_DEFAULTS = {
    "model": "alignn_atomwise; CrysMMNet: alignn",
    "epochs": "300",
    "learning_rate": "0.01",
    "weight_decay": "0",
    "criterion": "mse",
    "standardize_target": "false",
    "keep_data_order": "true; CrysMMNet: false",
    "cutoff": "5 since 2026, 8 before",
    "num_workers": "4",
}
THEIR_ATOMWISE_DEFAULTS = {"alignn_layers": "2", "gcn_layers": "2", "hidden_features": "64"}

# Keys of theirs whose other values change the model or its training into something not offered.
ONLY: dict[str, Any] = {"dtype": "float32"}
MODEL_ONLY: dict[str, Any] = {
    "zero_inflated": False,
    "use_cutoff_function": False,
    "multiply_cutoff": False,
    "extra_features": 0,
    "atomwise_weight": 0,
    "additional_output_weight": 0,
    "conv_type": "alignn",
}


def translate(settings: dict[str, Any], given: Set[str] = frozenset()) -> tuple[dict[str, Any], list[str]]:
    """A config file of ours, ALIGNN's or CrysMMNet's as settings of ours.

    Args:
        settings: the file's content.
        given: settings that stand elsewhere (on the command line), so that nothing is said of their defaults.

    Returns:
        The settings, and a line a thing the user should know.

    Raises:
        InputError: A setting asks for what is not offered here.
    """
    model = settings.get("model")
    model = model if isinstance(model, dict) else {}
    if not _is_peers(settings, model):
        return _renamed(settings), []
    _refuse(settings, model)
    translated = {key: value for key, value in _renamed(settings).items() if key not in WITHOUT_MEANING}
    notes = [_line("without a meaning here, left aside", _aside(settings, model))]
    for split in ("train", "val", "test"):
        if translated.get(f"n_{split}") is not None:
            translated.pop(f"{split}_ratio", None)
    if "use_amp" in translated:
        translated["precision"] = "bf16" if translated.pop("use_amp") else "32"
    if model:
        translated["model"] = translate_model(model)
    notes.extend(_strategy(translated))
    if "output_features" in model:
        notes.append("model.output_features is not needed: the targets in the data say how many there are")
    notes.append(_line("left out, so this package's default holds", _left_out(translated, model, given)))
    return translated, [note for note in notes if note]


def translate_model(model: dict[str, Any]) -> dict[str, Any]:
    """The model section of such a file as ours: ALIGNN's later names are ALIGNN with layer norm."""
    translated = {key: value for key, value in model.items() if key not in MODEL_WITHOUT_MEANING}
    if model.get("name") in LAYER_NORM_NAMES:
        translated |= {"name": "alignn", "norm": "layer"}
    return translated


def _is_peers(settings: dict[str, Any], model: dict[str, Any]) -> bool:
    return (
        model.get("name") in LAYER_NORM_NAMES
        or not MODEL_WITHOUT_MEANING.isdisjoint(model)
        or not (WITHOUT_MEANING | {"use_amp"}).isdisjoint(settings)
    )


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    for theirs, ours in SYNONYMS.items():
        if theirs in settings and ours in settings:
            raise InputError(f"{theirs} and {ours} are one setting; give one of the two")
    return {SYNONYMS.get(key, key): value for key, value in settings.items()}


def _refuse(settings: dict[str, Any], model: dict[str, Any]) -> None:
    problems = [
        f"{key}: {shown(settings[key])} is not offered here; expected {only!r}"
        for key, only in ONLY.items()
        if settings.get(key, only) != only
    ]
    problems += [
        f"model.{key}: {shown(model[key])} is not offered here; expected {only!r}"
        for key, only in MODEL_ONLY.items()
        if model.get(key, only) != only
    ]
    if settings.get("criterion") in ("poisson", "zig"):
        problems.append(f"criterion: {settings['criterion']!r} is not offered here; choose l1, mse or huber")
    if settings.get("neighbor_strategy") == "voronoi":
        problems.append("neighbor_strategy: 'voronoi' is not offered here; choose k-nearest, cgcnn or radius")
    if _learns_forces(model):
        problems.append(
            "model.calculate_gradient: forces and stresses are not learned here, only properties of the crystal; "
            "set it to false to learn the energy alone"
        )
    if problems:
        raise InputError("\n".join(problems))


def _learns_forces(model: dict[str, Any]) -> bool:
    """Whether ALIGNN would; its defaults (gradient on, weights 1 and 0) count only where one of the keys is set."""
    if not {"calculate_gradient", "gradwise_weight", "stresswise_weight"} & set(model):
        return False
    weights = model.get("gradwise_weight", 1), model.get("stresswise_weight", 0)
    return bool(model.get("calculate_gradient", True)) and any(weight != 0 for weight in weights)


def _aside(settings: dict[str, Any], model: dict[str, Any]) -> list[str]:
    top = [key for key in settings if key in WITHOUT_MEANING]
    return top + [f"model.{key}" for key in model if key in MODEL_WITHOUT_MEANING - {"output_features"}]


def _strategy(translated: dict[str, Any]) -> Iterator[str]:
    theirs = translated.get("neighbor_strategy")
    if theirs in RADIUS_NAMES or (theirs in CAPPED_NAMES and translated.get("max_neighbors", 12) is None):
        translated["neighbor_strategy"] = "radius"
        yield f"neighbor_strategy {theirs} is read as radius"
    elif theirs in CAPPED_NAMES:
        translated["neighbor_strategy"] = "k-nearest"
        exact = "; alignn-torch with triplet_cutoff makes theirs exactly" if theirs == "pure_torch" else ""
        yield f"neighbor_strategy {theirs} is read as k-nearest: whole shells, both directions, every bond angle{exact}"


def _left_out(translated: dict[str, Any], model: dict[str, Any], given: Set[str]) -> list[str]:
    present = set(translated) | given
    missing = [f"{key} (theirs: {theirs})" for key, theirs in THEIR_DEFAULTS.items() if key not in present]
    if model.get("name") == "cgcnn" and "neighbor_strategy" not in present:
        missing.append("neighbor_strategy (theirs: k-nearest)")
    if model.get("name") in LAYER_NORM_NAMES[:2]:
        missing += [f"model.{k} (theirs: {theirs})" for k, theirs in THEIR_ATOMWISE_DEFAULTS.items() if k not in model]
    return missing


def _line(lead: str, items: list[str]) -> str:
    return f"{lead}: {', '.join(items)}" if items else ""
