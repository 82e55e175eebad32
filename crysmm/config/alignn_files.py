"""Translation of config files of ALIGNN and CrysMMNet into settings of this package.

A key with an equivalent here is translated; a key that has no effect here is accepted and named in a note; a key that
requests something unsupported is refused with the reason. Their defaults, where they differ from those here, are taken
from ALIGNN 2025.4.1 and 2026.8.11 and from CrysMMNet.
"""

from collections.abc import Set
from typing import Any

from crysmm.errors import InputError, shown

SYNONYMS = {"target": "target_key", "id_tag": "id_key", "standard_scalar_and_pca": "standardize_target"}
IGNORED = frozenset({
    "version", "dataset", "filename", "dtype", "warmup_steps", "save_dataloader", "write_checkpoint",
    "write_predictions", "store_outputs", "log_tensorboard", "compute_line_graph", "cutoff_extra",
    "three_body_cutoff", "normalize_graph_level_loss", "distributed", "data_parallel", "use_lmdb",
    "read_existing", "gpu_memory_fraction", "ddp_find_unused_parameters", "resume_checkpoint",
    "lr_total_epochs", "deterministic",
})  # fmt: skip
MODEL_IGNORED = frozenset({
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

# Their defaults of keys that a file may leave out, where the defaults here differ.
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

# The only supported values of keys whose other values change the model or its training.
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
    """Translate the content of a config file of this package, ALIGNN or CrysMMNet.

    Args:
        settings: Content of the file.
        given: Names of settings given on the command line, whose defaults need no note.

    Returns:
        The settings, and notes for the user, one line each.

    Raises:
        InputError: A setting requests something unsupported, or stands in the file under two names.
    """
    for theirs, ours in SYNONYMS.items():
        if theirs in settings and ours in settings:
            raise InputError(f"{theirs} and {ours} are one setting; give one of the two")
    renamed = {SYNONYMS.get(key, key): value for key, value in settings.items()}
    model = settings["model"] if isinstance(settings.get("model"), dict) else {}
    is_theirs = (
        model.get("name") in LAYER_NORM_NAMES
        or not MODEL_IGNORED.isdisjoint(model)
        or not (IGNORED | {"use_amp"}).isdisjoint(settings)
    )
    if not is_theirs:
        return renamed, []
    _refuse_unsupported(settings, model)

    translated = {key: value for key, value in renamed.items() if key not in IGNORED}
    for split in ("train", "val", "test"):
        if translated.get(f"n_{split}") is not None:  # ALIGNN ignores the ratio then
            translated.pop(f"{split}_ratio", None)
    if "use_amp" in translated:
        translated["precision"] = "bf16" if translated.pop("use_amp") else "32"
    if model:
        translated["model"] = translate_model(model)
    notes = _translate_strategy(translated)

    ignored = [key for key in settings if key in IGNORED]
    ignored += [f"model.{key}" for key in model if key in MODEL_IGNORED - {"output_features"}]
    if ignored:
        notes.insert(0, f"ignored, as they have no effect here: {', '.join(ignored)}")
    if "output_features" in model:
        notes.append("model.output_features is not needed: the data decide the number of targets")
    defaults = _differing_defaults(translated.keys() | given, model)
    if defaults:
        notes.append(f"left out, so this package's defaults apply: {', '.join(defaults)}")
    return translated, notes


def translate_model(model: dict[str, Any]) -> dict[str, Any]:
    """Translate the model section of such a file; ALIGNN's later variants are ALIGNN with layer norm."""
    translated = {key: value for key, value in model.items() if key not in MODEL_IGNORED}
    if model.get("name") in LAYER_NORM_NAMES:
        translated |= {"name": "alignn", "norm": "layer"}
    return translated


def _refuse_unsupported(settings: dict[str, Any], model: dict[str, Any]) -> None:
    """Raise an error that names every setting that requests something unsupported."""
    problems = [
        f"{prefix}{key}: {shown(section[key])} is not supported; expected {only!r}"
        for prefix, section, supported in (("", settings, ONLY), ("model.", model, MODEL_ONLY))
        for key, only in supported.items()
        if section.get(key, only) != only
    ]
    if settings.get("criterion") in ("poisson", "zig"):
        problems.append(f"criterion: {settings['criterion']!r} is not supported; choose l1, mse or huber")
    if settings.get("neighbor_strategy") == "voronoi":
        problems.append("neighbor_strategy: 'voronoi' is not supported; choose k-nearest, cgcnn or radius")
    # ALIGNN's defaults (gradient on, weights 1 and 0) count only if the file sets one of the three keys: a file
    # without them comes from a version, or a model, without forces.
    trains_forces = not {"calculate_gradient", "gradwise_weight", "stresswise_weight"}.isdisjoint(model)
    trains_forces = trains_forces and bool(model.get("calculate_gradient", True))
    if trains_forces and (model.get("gradwise_weight", 1) != 0 or model.get("stresswise_weight", 0) != 0):
        problems.append(
            "model.calculate_gradient: forces and stresses are not learned here, only properties of the crystal; "
            "set it to false to learn the energy alone"
        )
    if problems:
        raise InputError("\n".join(problems))


def _translate_strategy(translated: dict[str, Any]) -> list[str]:
    """Replace a neighbor strategy of later ALIGNN versions in place; return a note if there is one."""
    theirs = translated.get("neighbor_strategy")
    if theirs in RADIUS_NAMES or (theirs in CAPPED_NAMES and translated.get("max_neighbors", 12) is None):
        translated["neighbor_strategy"] = "radius"
        return [f"neighbor_strategy {theirs} is read as radius"]
    if theirs in CAPPED_NAMES:
        translated["neighbor_strategy"] = "k-nearest"
        exact = "; alignn-torch with triplet_cutoff builds exactly theirs" if theirs == "pure_torch" else ""
        kept = "whole shells, both directions, every bond angle"
        return [f"neighbor_strategy {theirs} is read as k-nearest: {kept}{exact}"]
    return []


def _differing_defaults(present: Set[str], model: dict[str, Any]) -> list[str]:
    """List settings that are not present and whose default differs from theirs, with their default."""
    differing = [f"{key} (theirs: {theirs})" for key, theirs in THEIR_DEFAULTS.items() if key not in present]
    if model.get("name") == "cgcnn" and "neighbor_strategy" not in present:
        differing.append("neighbor_strategy (theirs: k-nearest)")
    if model.get("name") in LAYER_NORM_NAMES[:2]:
        missing = THEIR_ATOMWISE_DEFAULTS.keys() - model.keys()
        differing += [f"model.{key} (theirs: {THEIR_ATOMWISE_DEFAULTS[key]})" for key in sorted(missing)]
    return differing
