"""The results file of Matbench v0.1, as its ``MatbenchBenchmark.to_file`` writes it.

One JSON object, gzipped: for each task and fold the prediction of every test crystal (a number, or the probability of
the class), four scores, and free-form parameters; and a checksum over all of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.errors import InputError
from crysmm.files import replacing
from crysmm.io.json_stream import read_json_object
from crysmm.publish.matbench_tasks import TASKS, WITHOUT_STRUCTURES
from crysmm.version import __version__

VERSION = "0.6"  # of Matbench, whose form this is
BENCHMARK = "matbench_v0.1"
NAMES = {*TASKS, *WITHOUT_STRUCTURES}
NEARLY_ZERO = 1e-5  # targets smaller than this have no relative error
THRESHOLD = 0.5  # probabilities above it are the class


def scores(targets: Sequence[float], predictions: Sequence[float], *, is_classification: bool) -> dict[str, float]:
    """The scores of one fold as Matbench 0.6 records them, under its names.

    It turns probabilities into classes before the first score, so that its ``rocauc`` is that of the classes (and the
    balanced accuracy); the one of the probabilities stands in the run's ``metrics.json``.
    """
    return _class_scores(targets, predictions) if is_classification else _value_scores(targets, predictions)


def _value_scores(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    truth, found = np.asarray(targets), np.asarray(predictions)
    errors = np.abs(truth - found)
    large = np.abs(truth) > NEARLY_ZERO
    return {
        "mae": float(errors.mean()),
        "rmse": math.sqrt(float((errors**2).mean())),
        "mape": float((errors[large] / np.abs(truth[large])).mean()) if large.any() else math.nan,
        "max_error": float(errors.max()),
    }


def _class_scores(targets: Sequence[float], probabilities: Sequence[float]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

    truth, found = np.asarray(targets) > THRESHOLD, np.asarray(probabilities) > THRESHOLD
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, found)),
        "f1": float(f1_score(truth, found, zero_division=0)),
        "rocauc": float(roc_auc_score(truth, found)) if len(set(truth.tolist())) == 2 else math.nan,
    }


def fold_results(
    predictions: Mapping[str, float],
    targets: Sequence[float],
    parameters: Mapping[str, Any],
    *,
    is_classification: bool,
) -> dict[str, Any]:
    """What the file holds of one fold.

    Args:
        predictions: by id, in the order of the fold.
        targets: of the same crystals.
        parameters: anything that JSON takes, without lists of objects.
        is_classification: whether predictions are probabilities.
    """
    found = list(predictions.values())
    return {
        "data": dict(predictions),
        "parameters": dict(parameters),
        "scores": scores(targets, found, is_classification=is_classification),
        "uncertainty": None,
    }


def write_results(path: Path, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the file.

    Args:
        path: of the ``.json.gz``.
        tasks: by name, what :func:`fold_results` gives of each fold by name.
    """
    content = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": VERSION,
        "benchmark_name": BENCHMARK,
        "datestamp": datetime.now(UTC).strftime("%Y.%m.%d %H:%M.%S"),
        "user_metadata": {"crysmm": __version__},
        "tasks": {name: _task(name, folds) for name, folds in tasks.items()},
    }
    content["hash"] = checksum(content)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def _task(name: str, folds: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@module": "matbench.task",
        "@class": "MatbenchTask",
        "benchmark_name": BENCHMARK,
        "dataset_name": name,
        "results": dict(folds),
    }


def checksum(content: Mapping[str, Any]) -> str:
    """Matbench's, over all but ``hash``: of the JSON text with the keys in order."""
    kept = {key: value for key, value in content.items() if key != "hash"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """The tasks of a file, as :func:`write_results` takes them; none where there is no file.

    Raises:
        InputError: it is damaged, or was changed since it was written.
    """
    if not path.exists():
        return {}
    content = read_json_object(path)
    tasks = content.get("tasks")
    whole = isinstance(tasks, dict) and all(name in NAMES and _is_whole(task) for name, task in tasks.items())
    if not whole or content.get("hash") != checksum(content):
        raise InputError(f"{path} is not a results file of Matbench, or was changed; delete it to write a new one")
    return {name: task["results"] for name, task in content["tasks"].items()}


def _is_whole(task: Any) -> bool:
    """Whether it is a task with results of at least one fold."""
    folds = task.get("results") if isinstance(task, dict) else None
    if not isinstance(folds, dict) or not folds:
        return False
    return all(isinstance(fold, dict) and isinstance(fold.get("parameters"), dict) for fold in folds.values())
