"""Arms of a comparison and their training runs.

Arms are named sets of training settings, a constant prediction, and models used without training.

An arm is written ``NAME``, one of ``BUILT_IN``, or ``NAME:KEY=VALUE,KEY=VALUE``, where the keys are settings of
``crysmm train``, or ``zero_shot`` with a model to use without training.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crysmm.config.loading import SPLITTING, make_config, merge, read_settings
from crysmm.config.run import DEFAULT_CHOICES
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, first_of, nearest, shown
from crysmm.files import refuse_unwritable
from crysmm.inference.model_files import require_model
from crysmm.runs.run_folder import FREE_SETTINGS, RunFolder
from crysmm.zoo import resolve

ENCODER = "decoys-mp"  # shipped, with the settings of the default backbone
CONSTANT, ZERO_SHOT = "constant", "zero_shot"
BUILT_IN: dict[str, dict[str, Any]] = {
    "plain": {},
    "pretrained": {"init_from": ENCODER},
    "distilled": {"head": {"name": "distilled", "teacher": ENCODER, "delta": "rising"}},
    "text": {"head": {"name": "multimodal"}},
    "features": {"head": {"name": "features", "embeddings": "chgnet"}},
    "cgcnn": {"model": {"name": "cgcnn"}},
    "gatgnn": {"model": {"name": "gatgnn"}},
    "alignn": {"model": {"name": "alignn"}},
    "crysxpp": {"model": {"name": "crysxpp"}},
    CONSTANT: {},
}
"""Settings of the arms that are known by name."""
DEFAULT_ARMS = ("plain", "pretrained", "distilled", CONSTANT)

MARKER, IDS = "comparison.json", "ids"
FORMAT = "crysmm-comparison"
# Settings that the split of the comparison replaces in every run.
OF_THE_SPLIT = SPLITTING | {"ids_file"}
Size = int | None
"""Number of training crystals; None for the whole training split."""

# Settings that are the same for all arms: those of the data, the split, the target's values and the folders.
SHARED = OF_THE_SPLIT | {
    "root_dir", "output_dir", "file_format", "id_key", "limit", "strict", "cache_dir", "jobs", "random_seed",
    "max_hours", "device", "devices", "num_nodes", "progress", "resume", "overwrite",
    "target_key", "unit", "target_multiplication_factor", "classification_threshold", "model.classification",
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
    written = arms.items() if isinstance(arms, Mapping) else map(_parse, arms)
    found = [_make_arm(name, settings) for name, settings in written]
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
        return read_settings(path)
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
    settings: dict[str, Any] = {}
    for key, values in pairs:
        single = len(values) == 1 and key != "milestones"  # the only setting that is a list
        _add(settings, {key: values[0] if single else values}, f"--arms: {name} sets ")
    return name, settings


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
            _add(nested.setdefault(section, {}), content, f"--arms: {name} sets {section}.")
        elif dot:
            raise InputError(f"--arms: {name}: unknown setting {key}{nearest(key, list(TrainingConfig.model_fields))}")
        else:
            nested[key] = value
    return nested


def _add(settings: dict[str, Any], added: Mapping[str, Any], error: str) -> None:
    """Add settings to others; one that is there already is refused, with the beginning of an error message."""
    if twice := settings.keys() & added.keys():
        raise InputError(f"{error}{min(twice)} twice; keep one")
    settings.update(added)


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings under keys with dots; that of a choice, ``model.name``, is short ``model``."""
    return {
        f"{key}.{inner}".removesuffix(".name") if isinstance(value, Mapping) else key: content
        for key, value in settings.items()
        for inner, content in (value.items() if isinstance(value, Mapping) else [("", value)])
    }


@dataclass(frozen=True)
class ArmRun:
    """One training run of a comparison.

    Args:
        arm: Arm.
        size: Number of training crystals.
        seed: Seed of the run.
        config: Settings of the run.
    """

    arm: Arm
    size: Size
    seed: int
    config: TrainingConfig

    @property
    def folder(self) -> RunFolder:
        """Run folder."""
        assert self.config.output_dir is not None
        return RunFolder(self.config.output_dir)

    @property
    def name(self) -> str:
        """Name for messages."""
        return " ".join([self.arm.name, *([] if self.size is None else [f"on {self.size:,}"]), f"seed {self.seed}"])


@dataclass(frozen=True)
class Plan:
    """Runs of a comparison.

    Args:
        config: Settings that all arms share.
        arms: Arms, the first of which the others are compared with.
        sizes: Numbers of training crystals, increasing.
        n_seeds: Number of seeds.
    """

    config: TrainingConfig
    arms: Sequence[Arm]
    sizes: Sequence[Size]
    n_seeds: int

    @property
    def folder(self) -> Path:
        """Output folder."""
        assert self.config.output_dir is not None
        return self.config.output_dir

    @property
    def trained_arms(self) -> list[Arm]:
        """Arms that have runs of ``crysmm train``."""
        return [arm for arm in self.arms if arm.is_trained]

    def ids_file(self, size: Size) -> Path:
        """Return the file that lists the ids in each split."""
        return self.folder / IDS / f"{'all' if size is None else f'n_{size}'}.json"

    def run_folder(self, arm: Arm, size: Size, seed: int | None) -> Path:
        """Return the folder of a run, the same whatever other arms, sizes and seeds there are."""
        words = [*([] if size is None else [f"n_{size}"]), "untrained" if seed is None else f"seed_{seed}"]
        return self.folder / arm.name / "_".join(words)

    def settings(self, arm: Arm, size: Size = None, seed: int | None = None) -> TrainingConfig:
        """Return the settings of a run; the seed is by default that of the split.

        Raises:
            InputError: Settings of the arm are invalid.
        """
        seed = self.config.random_seed if seed is None else seed
        # Only what was given: defaults that depend on the backbone have to be filled in again.
        base = {key: value for key, value in self.config.given().items() if key not in OF_THE_SPLIT}
        own = {"ids_file": self.ids_file(size), "output_dir": self.run_folder(arm, size, seed), "random_seed": seed}
        return arm.config({**base, **own})

    def runs(self) -> list[ArmRun]:
        """List all training runs, so that early results are already a comparison of all arms."""
        seeds = [(self.config.random_seed + number) % 2**32 for number in range(self.n_seeds)]
        return [
            ArmRun(arm, size, seed, self.settings(arm, size, seed))
            for size in self.sizes
            for seed in seeds
            for arm in self.trained_arms
        ]

    def differing_settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings that are not the same for all trained arms, by arm."""
        settings = {arm.name: flat_settings(self.settings(arm).model_dump(mode="json")) for arm in self.trained_arms}
        ignored = FREE_SETTINGS | {"random_seed"}
        keys = list(dict.fromkeys(key for own in settings.values() for key in own if key not in ignored))
        values = {key: [own.get(key) for own in settings.values()] for key in keys}
        different = [key for key in keys if any(value != values[key][0] for value in values[key])]
        return {name: {key: own[key] for key in different if key in own} for name, own in settings.items()}

    @classmethod
    def of(
        cls,
        config: TrainingConfig,
        arms: Iterable[str] | Mapping[str, Mapping[str, Any] | None],
        sizes: Iterable[Size],
        n_seeds: int,
    ) -> Plan:
        """Plan the runs of a comparison; for the arguments see :func:`crysmm.compare`."""
        ordered = sorted(set(sizes), key=lambda size: math.inf if size is None else size)
        return cls(config, parse_arms(arms), ordered or [None], n_seeds)

    def check_folders(self) -> None:
        """Check the settings and folders of all runs and the models used without training; torch is not needed.

        Raises:
            InputError: One of them cannot be used.
            ModelFolderError: A model is not there.
        """
        self._check_folder()
        for run in self.runs():
            if not self.config.overwrite:
                run.folder.check(run.config)
        for arm in self.arms:
            if arm.zero_shot is not None:
                require_model(resolve(arm.zero_shot), may_be_ensemble=True)

    def check(self) -> None:
        """Check what :meth:`check_folders` does and the models that arms start from, before any structure is read.

        Raises:
            InputError: One of them cannot be used.
        """
        from crysmm.inference.model_teacher import describe_needed  # it imports torch

        self.check_folders()
        for arm in self.trained_arms:
            for model in self.settings(arm).models_needed():
                describe_needed(model)

    def _check_folder(self) -> None:
        """Refuse a folder with other content, or with a comparison that is neither resumed nor replaced."""
        folder = self.folder
        refuse_unwritable(folder)
        if not folder.is_dir() or not any(folder.iterdir()):
            return
        if self.read_marker() is None:
            found = sorted(path.name for path in folder.iterdir())
            raise InputError(
                f"--output_dir: {folder} holds other files ({first_of(found)}) and no comparison; name a new folder"
            )
        if not self.config.resume and not self.config.overwrite:
            raise InputError(
                f"--output_dir: {folder} holds a comparison; continue it, or add arms to it, with --resume, replace "
                "it with --overwrite, or name another folder"
            )

    def read_marker(self) -> dict[str, Any] | None:
        """Return the content of ``comparison.json``, or None if there is no such file of this package."""
        try:
            content = json.loads((self.folder / MARKER).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) and content.get("format") == FORMAT else None
