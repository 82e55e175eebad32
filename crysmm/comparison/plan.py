"""Runs of a comparison: their settings and their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.comparison.arms import Arm, flat_settings
from crysmm.config.loading import SIZES
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, first_of
from crysmm.files import refuse_unwritable
from crysmm.inference.model_folder import read_description
from crysmm.runs.run_folder import FREE_SETTINGS, RunFolder
from crysmm.zoo import resolve

MARKER, IDS = "comparison.json", "ids"
FORMAT = "crysmm-comparison"
# Settings that the split of the comparison replaces in every run.
OF_THE_SPLIT = SIZES | {"ids_file", "keep_data_order"}

Size = int | None
"""Number of training crystals; None for the whole training split."""


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
        given = self.config.model_dump(exclude_unset=True)
        base = {key: value for key, value in given.items() if key not in OF_THE_SPLIT}
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
        # Input files are free to change when a run is resumed, but make an arm another.
        ignored = (FREE_SETTINGS - {"init_from"}) | {"random_seed"}
        keys = list(dict.fromkeys(key for own in settings.values() for key in own if key not in ignored))
        values = {key: [own.get(key) for own in settings.values()] for key in keys}
        different = [key for key in keys if any(value != values[key][0] for value in values[key])]
        return {name: {key: own[key] for key in different if key in own} for name, own in settings.items()}

    def check(self) -> None:
        """Check the settings, the folders and the models that arms start from, before any structure is read.

        Raises:
            InputError: One of them cannot be used.
        """
        self._check_folder()
        for run in self.runs():
            if not self.config.overwrite:
                run.folder.check(run.config)
        for arm in self.trained_arms:
            for model in self.settings(arm).models_needed():
                read_description(resolve(model))

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
