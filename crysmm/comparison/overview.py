"""Table of the runs in a folder, from their settings and metrics; neither torch nor any structure is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.units import after_number, named
from crysmm.errors import InputError
from crysmm.report.html import duration, number, percentage
from crysmm.runs.run_folder import MAX_HOURS, SPLITS, RunFolder
from crysmm.runs.summary import describe_split, first_targets

HEADER = ("run", "model", "head", "data", "split", "target", "test error", "epochs", "time", "")
OWN_SETTINGS = {"model", "max_triplets", "random_seed"}  # keys that only the settings of a run have together


@dataclass(frozen=True)
class FoundRun:
    """A run in a folder.

    Args:
        name: Path relative to the folder that was searched.
        folder: Run folder.
        config: Settings of the run.
        metrics: Content of ``metrics.json``; None if the run has not ended.
    """

    name: str
    folder: RunFolder
    config: RunConfig
    metrics: Mapping[str, Any] | None

    @property
    def units(self) -> dict[str, str | None]:
        """Unit of each target, None where unknown; empty for an encoder, and for runs of earlier versions."""
        return {} if self.metrics is None else self.metrics.get("units", {})

    def row(self) -> list[str]:
        """Return the cells under ``HEADER``."""
        config, metrics = self.config, self.metrics
        if isinstance(config, TrainingConfig):
            members = f", {config.ensemble} members" if config.ensemble > 1 else ""
            head, target = f"{config.head.name}{members}", config.target_key or "-"
        else:
            assert isinstance(config, PretrainingConfig)
            head, target = f"pre-training, {config.method.name}", "-"
        if self.units:
            target = ", ".join(first_targets(named(list(self.units), list(self.units.values()))))
        epochs, time = f"of {config.epochs}", "-"
        if metrics is not None:
            time = duration(metrics["seconds"])
            epochs = f"{metrics['best_epoch']} of {metrics['epochs']}" if "best_epoch" in metrics else "-"
        data = "records" if config.root_dir is None else config.root_dir.name
        split = f"{self._sizes()} ({describe_split(config)})"
        return [self.name, config.model.name, head, data, split, target, self._error(), epochs, time, self._state()]

    def _sizes(self) -> str:
        try:
            ids = json.loads(self.folder.ids.read_text(encoding="utf-8"))
            return "/".join(str(len(ids[f"id_{split}"])) for split in SPLITS)
        except (OSError, ValueError, KeyError, TypeError):
            return "?"

    def _error(self) -> str:
        """Return the main score on the test split, or on the validation split if there is no other."""
        split = next((name for name in reversed(SPLITS) if name in (self.metrics or {})), None)
        if self.metrics is None or split in (None, "train"):
            return "-"
        scores, note = self.metrics[split], "" if split == "test" else f" ({split})"
        if "accuracy" in scores:
            return f"accuracy {percentage(scores['accuracy'])}{note}"
        if "per_target" in scores:
            return f"MAE/MAD {number(scores['mean']['mae_over_mad'])}{note}"
        return f"MAE {number(scores['mae'])}{after_number(next(iter(self.units.values()), None))}{note}"

    def _state(self) -> str:
        """Return a remark on a run that has not trained all its epochs; empty for the others."""
        if self.metrics is not None:
            return "can go on with --resume" if self.metrics["stopped_by"] == MAX_HOURS else ""
        finished = sum(part.metrics.exists() for part in self.folder.parts)
        done = f"{finished} of its parts" if finished else f"epoch {self._n_epochs()}"
        return f"unfinished: {done}" + (", can go on with --resume" if self.folder.has_checkpoint else "")

    def _n_epochs(self) -> int:
        try:
            with self.folder.history.open(encoding="utf-8") as file:
                return sum(1 for _ in file) - 1
        except OSError:
            return 0


def find_runs(folder: Path) -> tuple[list[FoundRun], list[str]]:
    """Find the runs of ``crysmm train`` and ``crysmm pretrain`` in a folder and its subfolders.

    Members of an ensemble and other parts of a run are not runs of their own.

    Args:
        folder: Folder to search.

    Returns:
        The runs by path, and notes on folders that cannot be read.

    Raises:
        InputError: The folder does not exist, or holds no run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that holds runs of crysmm train")
    runs, notes = [], []
    for path, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if "config.json" not in files:
            continue
        place = Path(path)
        try:
            found = _read_run(folder.name if place == folder else str(place.relative_to(folder)), RunFolder(place))
        except InputError as error:
            notes.append(str(error))
            continue
        if found is not None:
            runs.append(found)
            parts = {part.path.name for part in found.folder.parts}
            subfolders[:] = [name for name in subfolders if name not in parts]
    if not runs:
        raise InputError("\n".join([f"{folder} holds no run of crysmm train or crysmm pretrain", *notes]))
    return runs, notes


def _read_run(name: str, folder: RunFolder) -> FoundRun | None:
    """Read a run; None if the settings in the folder are those of another program.

    Raises:
        InputError: The settings or the metrics are damaged, or those of another version.
    """
    settings = folder.read_config()
    if not settings.keys() >= OWN_SETTINGS:
        return None
    try:
        kind = PretrainingConfig if "method" in settings else TrainingConfig
        config: RunConfig = kind.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"{folder.config} is damaged or of another version: {place}: {problem['msg']}") from None
    return FoundRun(name, folder, config, folder.read_metrics() if folder.metrics.exists() else None)


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]], *, n_left: int = 1) -> Iterator[str]:
    """Yield the lines of a table for the screen, the first columns aligned on the left and the others on the right."""
    cells = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
