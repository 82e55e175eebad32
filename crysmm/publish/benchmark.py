"""Benchmarks of the JARVIS-Leaderboard: the crystals in each split, and their target values.

A name is ``category-subcategory-property-dataset-split-metric``. The values are in
``benchmarks/category/subcategory/dataset_property.json.zip`` of the package jarvis_leaderboard, as
``{"train": {id: value}, "val": {...}, "test": {...}}``; some benchmarks have no ``val``. Choudhary et al., npj Comput.
Mater. 10, 93 (2024).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, brief, first_of, shown
from crysmm.io.json_stream import read_json_object
from crysmm.publish.submission import benchmark_settings, draw_validation, installed_file

Values = dict[str, tuple[float, ...]]
"""Target values by id, in the order of the benchmark: one, or several for a spectrum."""

PARTS = ("category", "subcategory", "property", "dataset", "split", "metric")
EXAMPLE = "AI-SinglePropertyPrediction-formation_energy_peratom-dft_3d-test-mae"
RUN, DATA, IDS = "run", "data.jsonl.gz", "ids.json"  # what the folder of a training on a benchmark holds
METRICS = {"mae": "MAE", "acc": "accuracy", "multimae": "MAE"}
PACKAGE = "jarvis_leaderboard"
ENDING = ".csv.zip"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the leaderboard.

    Args:
        name: Full name.
        target: Property to predict.
        metric: ``mae``, ``acc`` or ``multimae``.
        train: Values to train on.
        val: Values to choose the best epoch on; empty if the benchmark leaves that choice to the contributor.
        test: Values to predict.
        notes: Notes for the user, one line each.
    """

    name: str
    target: str
    metric: str
    train: Values
    val: Values
    test: Values
    notes: tuple[str, ...] = ()

    @property
    def is_classification(self) -> bool:
        """True if the values are classes."""
        return self.metric == "acc"

    def with_validation(self, fraction: float, seed: int) -> Benchmark:
        """Return the benchmark with a validation split drawn from its training split."""
        train, val = draw_validation(list(self.train), fraction, seed)
        return replace(
            self,
            train={name: self.train[name] for name in train},
            val={name: self.train[name] for name in val},
            notes=(*self.notes, f"no validation split in the benchmark: {len(val):,} training crystals are used"),
        )

    def ids(self) -> dict[str, list[str]]:
        """Return the content of an ``ids_train_val_test.json``."""
        return {"id_train": list(self.train), "id_val": list(self.val), "id_test": list(self.test)}


def run_settings(benchmark: Benchmark, config: TrainingConfig) -> TrainingConfig:
    """Return the settings of the run on a benchmark, in the folder ``RUN`` of ``output_dir``."""
    assert config.output_dir is not None
    folder = config.output_dir
    return benchmark_settings(
        config,
        folder / DATA,
        benchmark.target,
        folder / IDS,
        folder / RUN,
        is_classification=benchmark.is_classification,
    )


def load_benchmark(name: str, path: Path | None) -> Benchmark:
    """Load a benchmark by its name.

    Args:
        name: Full name, such as ``EXAMPLE``.
        path: Its ``.json.zip`` (or ``.json``) file; None looks for it in the package jarvis_leaderboard.

    Raises:
        InputError: The name is invalid, the file is missing or does not hold a benchmark, or the benchmark is of an
            unsupported kind.
    """
    words = name.removesuffix(ENDING).split("-")
    if len(words) != len(PARTS) or not all(re.fullmatch(r"\w[\w.]*", word) for word in words):
        raise InputError(
            f"--benchmark: {name!r} is not the name of a benchmark; expected {'-'.join(PARTS)}, such as {EXAMPLE}"
        )
    parts = dict(zip(PARTS, words, strict=True))
    metric = parts["metric"]
    if metric not in METRICS or parts["split"] != "test":
        raise InputError(
            f"--benchmark: {name} needs the {metric} of the split {parts['split']}; supported are {', '.join(METRICS)} "
            "of test"
        )
    if path is None:
        file = f"{parts['dataset']}_{parts['property']}.json.zip"
        place = f"benchmarks/{parts['category']}/{parts['subcategory']}/{file}"
        path = installed_file(PACKAGE, place)
        if path is None:
            raise InputError(
                f"--benchmark: the values of {name} are not installed; give the file with --benchmark_file {file}: it "
                f"is in {PACKAGE}/{place} of the package {PACKAGE} on PyPI (pip install --no-deps {PACKAGE}) and of "
                "its repository"
            )
    content = read_json_object(path)
    splits = {split: _read_values(content.get(split, {}), metric, path) for split in ("train", "val", "test")}
    if not splits["test"] or not splits["train"]:
        empty = " and ".join(split for split in ("train", "test") if not splits[split])
        raise InputError(f"{path} has no crystals under {empty}; a benchmark to train on has both")
    train, val, notes = _remove_duplicates(splits)
    return Benchmark("-".join(words), parts["property"], metric, train, val, splits["test"], notes)


def _read_values(content: Any, metric: str, path: Path) -> Values:
    """Read the values of one split."""
    if not isinstance(content, dict):
        raise InputError(f'{path} is not the file of a benchmark; expected {{"train": {{id: value}}, "test": {{...}}}}')
    values = {}
    try:
        for name, value in content.items():
            words = str(value).split(";") if metric == "multimae" else [value]  # spectra are "0.1;0.2;..."
            values[str(name)] = tuple(map(float, words))
            if not all(map(math.isfinite, values[str(name)])):
                raise ValueError(shown(value))
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds a value that is not a number: {brief(error)}") from error
    return values


def _remove_duplicates(splits: Mapping[str, Values]) -> tuple[Values, Values, tuple[str, ...]]:
    """Remove ids from the training and validation splits that a later split holds too, as in some benchmarks.

    Returns:
        The training split, the validation split, and a note for each split that has changed.
    """
    later = set(splits["test"])
    kept, notes = {}, []
    for split in ("val", "train"):
        doubled = [name for name in splits[split] if name in later]
        kept[split] = {name: value for name, value in splits[split].items() if name not in later}
        later |= set(splits[split])
        if doubled:
            notes.append(f"the {split} split holds {len(doubled)} ids of another split, left out: {first_of(doubled)}")
    return kept["train"], kept["val"], tuple(notes)
