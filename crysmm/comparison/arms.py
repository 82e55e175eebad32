"""Arms of a comparison: named sets of training settings, a constant prediction, and models used without training.

An arm is written ``NAME``, one of ``BUILT_IN``, or ``NAME:KEY=VALUE,KEY=VALUE``, where the keys are settings of
``crysmm train``, or ``zero_shot`` with a model to use without training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crysmm.config.loading import SIZES, make_config, merge, nearest, read_json
from crysmm.config.run import DEFAULT_CHOICES
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, shown

ENCODER = "decoys-mp"  # shipped, with the settings of the default backbone
CONSTANT, ZERO_SHOT = "constant", "zero_shot"
BUILT_IN: dict[str, dict[str, Any]] = {
    "plain": {},
    "pretrained": {"init_from": ENCODER},
    "distilled": {"head": {"name": "distilled", "teacher": ENCODER, "delta": "rising"}},
    "text": {"head": {"name": "multimodal"}},
    "cgcnn": {"model": {"name": "cgcnn"}},
    "gatgnn": {"model": {"name": "gatgnn"}},
    "alignn": {"model": {"name": "alignn"}},
    "crysxpp": {"model": {"name": "crysxpp"}},
    CONSTANT: {},
}
"""Settings of the arms that are known by name."""
DEFAULT_ARMS = ("plain", "pretrained", "distilled", CONSTANT)

# Settings that are the same for all arms: those of the data, the split, the target's values and the folders.
SHARED = SIZES | {
    "root_dir", "output_dir", "file_format", "id_key", "limit", "strict", "cache_dir", "jobs", "random_seed",
    "ids_file", "keep_data_order", "max_hours", "device", "devices", "num_nodes", "progress", "resume", "overwrite",
    "target_key", "target_multiplication_factor", "classification_threshold", "model.classification",
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One arm of a comparison.

    Args:
        name: Name of the arm and of the folder of its runs.
        settings: Settings in which it differs from the others, nested as in a config file.
        zero_shot: Folder or shipped name of the model to use without training, or None.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    zero_shot: str | None = None

    @property
    def is_trained(self) -> bool:
        """True if the arm has runs of ``crysmm train``."""
        return self.zero_shot is None and self.name != CONSTANT

    def config(self, base: Mapping[str, Any]) -> TrainingConfig:
        """Return the settings of a run of this arm.

        Args:
            base: Settings that all arms share.

        Raises:
            InputError: Settings are invalid (one line each, with the name of the arm).
        """
        try:
            return make_config(TrainingConfig, merge(base, self.settings))
        except InputError as error:
            lines = (f"arm {self.name}: {line}" for line in str(error).splitlines())
            raise InputError("\n".join(lines)) from None


def parse_arms(arms: Iterable[str] | Mapping[str, Mapping[str, Any] | None]) -> list[Arm]:
    """Return the arms in their order.

    Args:
        arms: Arms as on the command line, or settings by name; settings of a built-in arm are added to its own.

    Raises:
        InputError: A name is unknown or given twice, or a setting is shared by all arms.
    """
    pairs = list(arms.items()) if isinstance(arms, Mapping) else [_parse(text) for text in arms]
    found = [_make_arm(name, settings) for name, settings in pairs]
    if not found:
        raise InputError(f"--arms: none given; known by name are {', '.join(BUILT_IN)}")
    names = [arm.name.lower() for arm in found]  # folders of these names may be the same on some disks
    twice = next((arm.name for number, arm in enumerate(found) if arm.name.lower() in names[:number]), None)
    if twice is not None:
        raise InputError(f"--arms: {twice} is given twice; give each arm its own name: other:KEY=VALUE")
    return found


def read_arms(path: Path) -> dict[str, Any]:
    """Read a JSON file with the settings of each arm by name.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return read_json(path)
    except InputError as error:
        raise InputError(str(error).replace("--config:", "--arms_file:", 1)) from None


def _parse(text: str) -> tuple[str, dict[str, Any] | None]:
    """Split ``NAME:KEY=VALUE,KEY=VALUE`` into a name and settings; None without a colon."""
    name, colon, rest = text.partition(":")
    if not colon:
        return name, None
    pairs: list[tuple[str, list[str]]] = []
    for word in rest.split(","):
        key, equals, value = word.partition("=")
        if equals:
            pairs.append((key.strip().removeprefix("--"), [value]))
        elif pairs:
            pairs[-1][1].append(word)  # a value with commas, such as head.delta=0.1,0.5
        else:
            raise InputError(f"--arms: {text!r} cannot be read; expected NAME, or NAME:KEY=VALUE,KEY=VALUE")
    return name, {
        key: values[0] if len(values) == 1 and key != "milestones" else values  # the only setting that is a list
        for key, values in pairs
    }


def _make_arm(name: str, settings: Mapping[str, Any] | None) -> Arm:
    """Check the name and the settings of an arm."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name, re.ASCII):
        raise InputError(f"--arms: {shown(name)} cannot name an arm; expected letters, digits and _ . + -")
    if settings is None and name not in BUILT_IN:
        raise InputError(
            f"--arms: unknown arm {name}{nearest(name, list(BUILT_IN))}; known by name are {', '.join(BUILT_IN)}, and "
            f"others are written {name}:KEY=VALUE,KEY=VALUE with settings of crysmm train, or {name}:zero_shot=MODEL"
        )
    if not isinstance(settings, Mapping | None):
        raise InputError(f'--arms: {name}: expected settings, {{"model": "alignn", ...}}, got {shown(settings)}')
    own = _nested(name, settings or {})
    model = own.pop(ZERO_SHOT, None)
    if model is not None and (own or name in BUILT_IN or not isinstance(model, str) or not model):
        raise InputError(
            f"--arms: {name}: zero_shot names a model that is used without training, under a name of its own and "
            "without other settings, such as shipped:zero_shot=cgcnn-formation-energy"
        )
    if name == CONSTANT and own:
        raise InputError(f"--arms: {name} is the mean of the training split and has no settings")
    for key in flat_settings(own):
        if key in SHARED:
            raise InputError(f"--arms: {name} sets {key}, which is the same for all arms; give it as an option")
    return Arm(name, merge(BUILT_IN.get(name, {}), own), model)


def _nested(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings nested as in a config file, from keys with dots, ``model.conv_layers``, or nested ones."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        section, dot, inner = key.partition(".")
        if section in DEFAULT_CHOICES:
            content = {inner: value} if dot else value if isinstance(value, Mapping) else {"name": value}
            nested[section] = {**nested.get(section, {}), **content}
        elif dot:
            raise InputError(f"--arms: {name}: unknown setting {key}{nearest(key, list(TrainingConfig.model_fields))}")
        else:
            nested[key] = value
    return nested


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings under keys with dots; that of a choice, ``model.name``, is short ``model``."""
    return {
        f"{key}.{inner}".removesuffix(".name") if isinstance(value, Mapping) else key: content
        for key, value in settings.items()
        for inner, content in (value.items() if isinstance(value, Mapping) else [("", value)])
    }
