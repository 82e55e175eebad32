"""The run folder: what stands in it, and when it may be written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crysmm.config.run import RunConfig
from crysmm.errors import InputError
from crysmm.files import why_not_writable
from crysmm.inference.intervals import CALIBRATION_FILE
from crysmm.inference.model_card import CARD_FILE, holds_card
from crysmm.inference.model_folder import ENSEMBLE_FILE, Description, read_description

ALL_EPOCHS, EARLY_STOPPING, MAX_HOURS = "all epochs", "early stopping", "max_hours"
"""Ways for training to end; after the first two there is nothing to resume."""

AUDIT_REPORT, AUDIT_TABLE = "audit.json", "audit.csv"  # what crysmm audit writes
PART, MEMBER = "delta_", "member_"  # how the folders of the runs in a run begin
FILES_NAMED = 3  # of a run that is in the way

FREE_SETTINGS = frozenset({
    "cache_dir", "device", "devices", "ids_file", "init_from", "jobs", "max_hours", "num_nodes", "num_workers",
    "output_dir", "overwrite", "pin_memory", "progress", "resume", "root_dir", "strict",
})  # fmt: skip
"""Settings that may change when a run is resumed: the data, the split and the weights are compared themselves."""


class RunFolder:
    """The files of one run; the names are the ones users find.

    Args:
        path: the folder, which need not exist yet.
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
        """The results of a split: ``train``, ``val`` or ``test``."""
        return self.path / f"prediction_results_{split}_set.csv"

    def files(self) -> list[Path]:
        """Every file a run can leave."""
        return [
            self.config, self.log, self.ids, self.skipped, self.history, self.history_plot, self.parity_plot,
            self.metrics, self.report, self.checkpoint,
            self.path / "model.safetensors", self.path / "model.json", self.path / CALIBRATION_FILE,
            self.path / ENSEMBLE_FILE,
            *(self.predictions(split) for split in ("train", "val", "test")),
            self.path / AUDIT_REPORT, self.path / AUDIT_TABLE,
        ]  # fmt: skip

    @property
    def holds_run(self) -> bool:
        """Whether there is a file of a run in it."""
        return any(file.exists() for file in self.files())

    @property
    def parts(self) -> list[RunFolder]:
        """The runs in this one: of which the best has become it, one a delta, or which it is the mean of."""
        paths = sorted([*self.path.glob(f"{PART}*"), *self.path.glob(f"{MEMBER}*")])
        return [RunFolder(path) for path in paths if path.is_dir()]

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from."""
        return self.checkpoint.exists() or any(part.has_checkpoint or part.metrics.exists() for part in self.parts)

    @property
    def is_finished(self) -> bool:
        """Whether its run has come to its end, not to a time limit."""
        return self.metrics.exists() and self.read_metrics()["stopped_by"] != MAX_HOURS

    @property
    def description(self) -> Description:
        """Of its model, or of the first member of its ensemble.

        Raises:
            ModelFolderError: there is none.
        """
        member = self.path / f"{MEMBER}1"
        return read_description(member if (self.path / ENSEMBLE_FILE).is_file() else self.path)

    def read_metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds.

        Raises:
            InputError: it is not the file of a run.
        """
        metrics = _read_json(self.metrics)
        if "stopped_by" not in metrics:
            raise InputError(f"{self.metrics} is not of a run; begin the run again with --overwrite")
        return metrics

    def check(self, config: RunConfig) -> None:
        """Refuse to mix two runs.

        Raises:
            InputError: the folder cannot be written to, holds a run and neither resume nor overwrite is set, or the
                run to resume had other settings.
        """
        obstacle = why_not_writable(self.path)
        if obstacle is not None:
            raise InputError(f"output_dir {self.path} cannot be written to: {obstacle}; name another folder")
        if not self.holds_run or config.overwrite:
            return
        if not config.resume:
            found = ", ".join([file.name for file in self.files() if file.exists()][:FILES_NAMED])
            raise InputError(
                f"output_dir {self.path} holds a run ({found}); continue it with --resume, replace it with "
                "--overwrite, or name another folder"
            )
        if self.config.exists():
            _check_same(_read_json(self.config), config)

    def clear(self) -> None:
        """Remove the files of a run, and nothing else."""
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
        """Remove what resuming needs, and what a killed process has left of it."""
        checkpoints = self.checkpoint.parent
        for unfinished in checkpoints.glob(f".{self.checkpoint.name}.*.tmp"):
            unfinished.unlink()
        self.checkpoint.unlink(missing_ok=True)
        if checkpoints.is_dir() and not any(checkpoints.iterdir()):
            checkpoints.rmdir()
        for part in self.parts:
            part.discard_checkpoint()


def _check_same(stored: dict[str, Any], config: RunConfig) -> None:
    now = config.model_dump(mode="json")
    keys = (stored.keys() | now.keys()) - FREE_SETTINGS
    changed = sorted(key for key in keys if stored.get(key) != now.get(key))
    if changed:
        listed = "; ".join(f"{key} was {stored.get(key)!r} and is {now.get(key)!r}" for key in changed)
        raise InputError(
            f"the run in {config.output_dir} cannot be resumed with other settings: {listed}; give the settings it "
            "was begun with, or begin another run"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); begin the run again with --overwrite") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a run's settings; begin the run again with --overwrite")
    return content
