"""Predictions as tables: the columns of ``prediction_results_*_set.csv`` and of ``crysmm predict``.

One target: ``prediction``. Several: ``prediction_<name>`` each. Classes: ``prediction``, the most probable class,
and ``probability_<class>`` each. Numbers stand in original units with every digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crysmm.atomic_files import write_csv_atomic
from crysmm.data.scaler import TargetScaler, class_label


def prediction_columns(scaler: TargetScaler, names: Sequence[str]) -> list[str]:
    """Names of the columns that hold a prediction."""
    if scaler.classes is not None:
        return ["prediction", *(f"probability_{class_label(value)}" for value in scaler.classes)]
    return _named("prediction", names)


def prediction_cells(scaler: TargetScaler, prediction: np.ndarray) -> list[str]:
    """One crystal's cells under :func:`prediction_columns`, from ``[n_targets]`` values or ``[n_classes]``."""
    numbers = [repr(float(number)) for number in prediction]
    if scaler.classes is not None:
        return [class_label(scaler.classes[int(np.argmax(prediction))]), *numbers]
    return numbers


def write_predictions(
    path: Path,
    ids: Sequence[str],
    targets: np.ndarray,
    predictions: np.ndarray,
    scaler: TargetScaler,
    names: Sequence[str],
) -> None:
    """Write the predictions of one split: ``id,target,prediction``.

    Args:
        path: of the CSV file.
        ids: one a crystal.
        targets: ``[n, n_targets]`` original units; classes are written as their class.
        predictions: as :meth:`TargetScaler.decode` gives them.
        scaler: says whether these are values or probabilities.
        names: one a target.
    """
    if scaler.classes is not None:
        truth = [[class_label(scaler.classes[index])] for index in scaler.class_indices(targets)]
    else:
        truth = [[repr(float(number)) for number in row] for row in targets]
    header = ["id", *_named("target", names), *prediction_columns(scaler, names)]
    cells = (prediction_cells(scaler, row) for row in predictions)
    rows = ([name, *true, *predicted] for name, true, predicted in zip(ids, truth, cells, strict=True))
    write_csv_atomic(path, header, rows)


def _named(kind: str, names: Sequence[str]) -> list[str]:
    return [kind] if len(names) == 1 else [f"{kind}_{name}" for name in names]
