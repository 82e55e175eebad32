"""Run folders: the files in them, and the conditions for writing to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crysmm.config.run import RunConfig
from crysmm.data.split import read_ids
from crysmm.errors import InputError, first_of
from crysmm.files import is_held, refuse_unwritable
from crysmm.inference.model_card import CARD_FILE, holds_card
from crysmm.inference.model_files import CALIBRATION_FILE, DESCRIPTION_FILE, ENSEMBLE_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from crysmm.inference.model_folder import Description

ALL_EPOCHS, EARLY_STOPPING, CLOSED_FORM, MAX_HOURS = "all epochs", "early stopping", "closed form", "max_hours"
"""Ways for training to end; only after the last there is something to resume."""
TITLES = {"train": "training", "val": "validation", "test": "test"}  # of splits, for people
SPLITS = tuple(TITLES)

AUDIT_REPORT, AUDIT_TABLE = "audit.json", "audit.csv"  # what crysmm audit writes
PART, MEMBER = "delta_", "member_"  # prefixes of the folders of sub-runs

FREE_SETTINGS = frozenset({
    "cache_dir", "device", "devices", "ids_file", "jobs", "max_hours", "num_nodes", "num_workers", "output_dir",
    "overwrite", "pin_memory", "progress", "resume", "root_dir", "strict", "unit",
})  # fmt: skip
"""Settings that may change when a run is resumed; data and split are compared themselves, not by path."""


class RunFolder:
    """Paths of the files of a run.

    Args:
        path: Run folder, which need not exist yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.json"
        self.log = path / "train.log"
        self.ids = path / "ids_train_val_test.json"
        self.skipped = path / "skipped.csv"
        self.history = path / "history.csv"
        self.history_plot = path / "history.png"
        self.parity_plot = path / "parity.png"
        self.metrics = path / "metrics.json"
        self.report = path / "report.html"
        self.checkpoint = path / "checkpoints" / "last.ckpt"

    def predictions(self, split: str) -> Path:
        """Return the path of the predictions for ``train``, ``val`` or ``test``."""
        return self.path / f"prediction_results_{split}_set.csv"

    def files(self) -> list[Path]:
        """Return all files that a run can leave, without those of its sub-runs."""
        return [
            self.config, self.log, self.ids, self.skipped, self.history, self.history_plot, self.parity_plot,
            self.metrics, self.report, self.checkpoint,
            self.path / WEIGHTS_FILE, self.path / DESCRIPTION_FILE, self.path / CALIBRATION_FILE,
            self.path / ENSEMBLE_FILE,
            *(self.predictions(split) for split in SPLITS),
            self.path / AUDIT_REPORT, self.path / AUDIT_TABLE,
        ]  # fmt: skip

    def require_training(self) -> None:
        """Check that the folder is that of a run of ``crysmm train``, whose settings and split can be read.

        Raises:
            InputError: One of their files is missing.
        """
        for file in (self.config, self.ids):
            if not file.is_file():
                raise InputError(f"{self.path} is not the folder of a run of crysmm train: {file.name} is missing")

    @property
    def holds_run(self) -> bool:
        """True if the folder contains a file of a run."""
        return any(file.exists() for file in self.files())

    @property
    def is_running(self) -> bool:
        """True if a process is training in the folder: it holds the log."""
        return is_held(self.log)

    def refuse_running(self) -> None:
        """Refuse a folder in which another process is training.

        Raises:
            InputError: There is such a process.
        """
        if self.is_running:
            raise InputError(
                f"another process is training in {self.path}; wait for it, stop it, or name another output_dir"
            )

    def is_taken(self, config: RunConfig) -> bool:
        """Return True if the folder holds a run that is neither to be resumed nor to be replaced."""
        return self.holds_run and not (config.resume or config.overwrite)

    @property
    def parts(self) -> list[RunFolder]:
        """Folders of the sub-runs: one per delta, or one per ensemble member."""
        paths = sorted([*self.path.glob(f"{PART}*"), *self.path.glob(f"{MEMBER}*")])
        return [RunFolder(path) for path in paths if path.is_dir()]

    @property
    def has_checkpoint(self) -> bool:
        """True if the run can be resumed after at least one epoch."""
        return self.checkpoint.exists() or any(part.has_checkpoint or part.metrics.exists() for part in self.parts)

    @property
    def is_finished(self) -> bool:
        """True if the run has ended, and not because of a time limit; one that is being extended has a checkpoint."""
        ended = self.metrics.exists() and not self.checkpoint.exists()
        return ended and self.read_metrics()["stopped_by"] != MAX_HOURS

    def is_extended_by(self, config: RunConfig) -> bool:
        """Return whether settings resume the finished run in the folder with more epochs than it had."""
        if not (config.resume and self.is_finished and self.config.exists()):
            return False
        metrics = self.read_metrics()
        before: int = metrics.get("max_epochs", self.read_config().get("epochs", config.epochs))
        return config.epochs > before and metrics["stopped_by"] in (ALL_EPOCHS, EARLY_STOPPING)

    @property
    def description(self) -> Description:
        """Description of the run's model, or of the first member of its ensemble.

        Raises:
            ModelFolderError: The folder contains no model.
        """
        from crysmm.inference.model_folder import read_description  # it imports torch, which other checks do not need

        member = self.path / f"{MEMBER}1"
        return read_description(member if (self.path / ENSEMBLE_FILE).is_file() else self.path)

    def read_metrics(self) -> dict[str, Any]:
        """Read ``metrics.json``.

        Raises:
            InputError: The file was not written by a run.
        """
        metrics = _read_json(self.metrics)
        if "stopped_by" not in metrics:
            raise InputError(f"{self.metrics} was not written by a run; begin the run again with --overwrite")
        return metrics

    def read_config(self) -> dict[str, Any]:
        """Read the settings of the run.

        Raises:
            InputError: The file is missing or damaged.
        """
        return _read_json(self.config)

    def check(self, config: RunConfig) -> None:
        """Check that a run with these settings may write to the folder, so that two runs never mix.

        Raises:
            InputError: The folder is not writable, another process is training there, it holds a run and neither resume
                nor overwrite is set, or the run to resume had other settings.
        """
        refuse_unwritable(self.path)
        self.refuse_running()
        if config.root_dir is not None and config.root_dir.resolve() == self.path.resolve():
            raise InputError(
                f"output_dir {self.path} is also root_dir: the files of the run would lie among the structures; name "
                "another folder"
            )
        if self.is_taken(config):
            found = first_of([file.name for file in self.files() if file.exists()])
            raise InputError(
                f"output_dir {self.path} holds a run ({found}); continue it with --resume, replace it with "
                "--overwrite, or name another folder"
            )
        if config.overwrite or not self.config.exists():
            return
        before, now = self.read_config(), config.model_dump(mode="json")
        keys = sorted((before.keys() | now.keys()) - FREE_SETTINGS)
        if self.is_extended_by(config):
            keys.remove("epochs")
            if config.has_several_deltas:
                raise InputError(
                    f"the run in {self.path} chose one of several deltas and cannot be extended; train on with the "
                    "best alone: --head.delta X in another folder, with --init_from this one"
                )
        if config.ids_file is not None and self.ids.is_file() and read_ids(config.ids_file) != read_ids(self.ids):
            raise InputError(
                f"the run in {self.path} cannot be resumed with another split: {config.ids_file} has other ids than "
                f"{self.ids.name} there; begin another run"
            )
        changed = [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)
        ]
        if changed:
            raise InputError(
                f"the run in {config.output_dir} cannot be resumed with other settings: {'; '.join(changed)}; give the "
                "settings it was begun with, or begin another run"
            )

    def clear(self) -> None:
        """Remove the files of a run and its sub-runs, and nothing else."""
        for file in self.files():
            file.unlink(missing_ok=True)
        if holds_card(self.path):
            (self.path / CARD_FILE).unlink()
        self.discard_checkpoint()
        for part in self.parts:
            part.clear()
            if not any(part.path.iterdir()):
                part.path.rmdir()

    def discard_checkpoint(self) -> None:
        """Remove the checkpoint, and unfinished ones that a killed process has left."""
        checkpoints = self.checkpoint.parent
        for unfinished in checkpoints.glob(f".{self.checkpoint.name}.*.tmp"):
            unfinished.unlink()
        self.checkpoint.unlink(missing_ok=True)
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
        for part in self.parts:
            part.discard_checkpoint()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); begin the run again with --overwrite") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a run's settings; begin the run again with --overwrite")
    return content
