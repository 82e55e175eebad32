"""Table of the runs in a folder, from their settings and metrics; neither torch nor any structure is read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, FiniteFloat, ValidationError

from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.units import after_number, duration, named, number
from crysmm.errors import InputError, first_problem
from crysmm.report.html import percentage
from crysmm.runs.run_folder import MAX_HOURS, SPLITS, RunFolder
from crysmm.runs.summary import describe_split, first_targets

HEADER = ("run", "model", "head", "data", "split", "target", "test error", "epochs", "time", "")
Model = TypeVar("Model", bound=BaseModel)
OWN_SETTINGS = {"model", "max_triplets", "random_seed"}  # keys that only the settings of a run have together


class MeanScores(BaseModel):
    """Means over several targets."""

    mae_over_mad: float | None = None


class Scores(BaseModel):
    """Scores on a split, of which there is one for each kind of targets."""

    mae: float | None = None
    accuracy: float | None = None
    mean: MeanScores | None = None


class Results(BaseModel):
    """Part of ``metrics.json`` that is shown; files of earlier versions lack some of it."""

    stopped_by: str
    seconds: FiniteFloat | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    units: dict[str, str | None] = {}
    val: Scores | None = None
    test: Scores | None = None


@dataclass(frozen=True)
class FoundRun:
    """A run in a folder.

    Args:
        name: Path relative to the folder that was searched.
        folder: Run folder.
        config: Settings of the run.
        results: Results; None if the run has not ended, or they are damaged.
        damage: What is wrong with ``metrics.json``; empty if nothing is.
    """

    name: str
    folder: RunFolder
    config: RunConfig
    results: Results | None
    damage: str = ""

    @property
    def units(self) -> dict[str, str | None]:
        """Unit of each target, None where unknown; empty for an encoder, and for runs of earlier versions."""
        return {} if self.results is None else self.results.units

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of crystals in each split; empty if the file of their ids cannot be read."""
        try:
            ids = json.loads(self.folder.ids.read_text(encoding="utf-8"))
            return {split: len(ids[f"id_{split}"]) for split in SPLITS}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def row(self) -> list[str]:
        """Return the cells under ``HEADER``."""
        config, results = self.config, self.results
        if isinstance(config, TrainingConfig):
            members = f", {config.ensemble} members" if config.ensemble > 1 else ""
            head, target = f"{config.head.name}{members}", config.target_key or "-"
        else:
            assert isinstance(config, PretrainingConfig)
            head, target = f"pre-training, {config.method.name}", "-"
        if self.units:
            target = ", ".join(first_targets(named(list(self.units), list(self.units.values()))))
        epochs, time = f"of {config.epochs}", "-"
        if results is not None:
            time = "-" if results.seconds is None else duration(results.seconds)
            best = results.best_epoch
            epochs = "-" if best is None else f"{best} of {results.epochs or config.epochs}"
        data = "records" if config.root_dir is None else config.root_dir.name
        split = f"{'/'.join(map(str, self.sizes.values())) or '?'} ({describe_split(config)})"
        return [self.name, config.network, head, data, split, target, self._error(), epochs, time, self._state()]

    def _error(self) -> str:
        """Return the main score on the test split, or on the validation split if there is no other."""
        scores, note = None, ""
        if self.results is not None:
            scores, note = (self.results.test, "") if self.results.test else (self.results.val, " (val)")
        if scores is None:
            return "-"
        if scores.accuracy is not None:
            return f"accuracy {percentage(scores.accuracy)}{note}"
        if scores.mean is not None:
            return f"MAE/MAD {number(scores.mean.mae_over_mad)}{note}"
        return f"MAE {number(scores.mae)}{after_number(next(iter(self.units.values()), None))}{note}"

    def _state(self) -> str:
        """Return a remark on a run that is damaged or has not trained all its epochs; empty for the others."""
        if self.damage:
            return f"{self.folder.metrics.name} is damaged"
        if self.results is not None:
            return "can go on with --resume" if self.results.stopped_by == MAX_HOURS else ""
        finished = sum(part.metrics.exists() for part in self.folder.parts)
        done = f"{finished} of its parts" if finished else f"epoch {self._n_epochs()}"
        if self.folder.is_running:
            return f"running: {done}"
        return f"unfinished: {done}" + (", can go on with --resume" if self.folder.has_checkpoint else "")

    def _n_epochs(self) -> int:
        try:
            with self.folder.history.open("rb") as file:
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
    runs: list[FoundRun] = []
    notes: list[str] = []

    def note_unreadable(error: OSError) -> None:
        notes.append(f"{error.filename} cannot be read: {error.strerror}")

    for path, subfolders, files in os.walk(folder, onerror=note_unreadable):
        subfolders[:] = sorted((name for name in subfolders if not name.startswith(".")), key=_in_order)
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
            notes += [found.damage] if found.damage else []
            parts = {part.path.name for part in found.folder.parts}
            subfolders[:] = [name for name in subfolders if name not in parts]
    if not runs:
        raise InputError("\n".join([f"{folder} holds no run of crysmm train or crysmm pretrain", *notes]))
    return runs, notes


def _in_order(name: str) -> list[tuple[str, int]]:
    """Return the key by which names are sorted as people do: ``run_2`` before ``run_10``."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _read_run(name: str, folder: RunFolder) -> FoundRun | None:
    """Read a run; None if the settings in the folder are those of another program.

    Raises:
        InputError: The settings are damaged, or those of another version.
    """
    settings = folder.read_config()
    if not settings.keys() >= OWN_SETTINGS:
        return None
    kind = PretrainingConfig if "method" in settings else TrainingConfig
    config: RunConfig = _valid(kind, settings, folder.config)
    try:
        results = _valid(Results, folder.read_metrics(), folder.metrics) if folder.metrics.exists() else None
    except InputError as error:
        return FoundRun(name, folder, config, None, str(error))
    return FoundRun(name, folder, config, results)


def _valid(kind: type[Model], content: Mapping[str, Any], path: Path) -> Model:
    """Return the content of a file as a model.

    Raises:
        InputError: It is damaged, or of another version.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path} is damaged or of another version: {first_problem(error)}") from None


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]], *, n_left: int = 1) -> Iterator[str]:
    """Yield the lines of a table for the screen, the first columns aligned on the left and the others on the right."""
    cells = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
