"""Benchmarks of the JARVIS-Leaderboard: which crystal is in which split, and its value.

A name is ``category-subcategory-property-dataset-split-metric``. The values lie in
``benchmarks/category/subcategory/dataset_property.json.zip`` of the package jarvis_leaderboard, as
``{"train": {id: value}, "val": {...}, "test": {...}}``; some have no ``val``. Choudhary et al., npj Comput. Mater. 10,
93 (2024).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crysmm.errors import InputError, brief, first_of, shown
from crysmm.io.json_stream import read_json_object
from crysmm.publish.submission import carve_validation, installed_file

Values = dict[str, tuple[float, ...]]
"""By id, in the order of the benchmark; several for a spectrum."""

PARTS = ("category", "subcategory", "property", "dataset", "split", "metric")
EXAMPLE = "AI-SinglePropertyPrediction-formation_energy_peratom-dft_3d-test-mae"
METRICS = {"mae": "MAE", "acc": "accuracy", "multimae": "MAE"}
PACKAGE = "jarvis_leaderboard"
ENDING = ".csv.zip"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Args:
        name: its whole name.
        target: the property.
        metric: ``mae``, ``acc`` or ``multimae``.
        train: values to learn from.
        val: values to choose the epoch by; empty where the benchmark leaves that to the contributor.
        test: values to be predicted.
        notes: what the user should know of it.
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
        """Whether the values are classes."""
        return self.metric == "acc"

    @property
    def values(self) -> Values:
        """Those of all splits."""
        return {**self.train, **self.val, **self.test}

    def with_validation(self, share: float, seed: int) -> Benchmark:
        """The benchmark with a validation split drawn from the training split, for one that has none of its own."""
        train, val = carve_validation(list(self.train), share, seed)
        return replace(
            self,
            train={name: self.train[name] for name in train},
            val={name: self.train[name] for name in val},
            notes=(*self.notes, f"it has no validation split: {len(val):,} crystals of its training split are taken"),
        )

    def ids(self) -> dict[str, list[str]]:
        """What an ``ids_train_val_test.json`` holds."""
        return {"id_train": list(self.train), "id_val": list(self.val), "id_test": list(self.test)}


def load_benchmark(name: str, path: Path | None) -> Benchmark:
    """A benchmark by its name.

    Args:
        name: such as ``EXAMPLE``.
        path: of its ``.json.zip`` (or ``.json``); by default it is looked for in the package jarvis_leaderboard, if
            that is installed.

    Raises:
        InputError: the name is none, the file is not there or does not hold a benchmark, or it is of a kind that is
            not offered here.
    """
    parts = _parts(name)
    path = path or _installed(name, parts)
    content = read_json_object(path)
    splits = {split: _values(content.get(split, {}), parts["metric"], path) for split in ("train", "val", "test")}
    if not splits["test"] or not splits["train"]:
        empty = " and ".join(split for split in ("train", "test") if not splits[split])
        raise InputError(f"{path} has no crystals under {empty}; a benchmark to train on has both")
    train, val, notes = _disjoint(splits)
    return Benchmark("-".join(parts.values()), parts["property"], parts["metric"], train, val, splits["test"], notes)


def _parts(name: str) -> dict[str, str]:
    words = name.removesuffix(ENDING).split("-")
    parts = dict(zip(PARTS, words, strict=False))
    if len(words) != len(PARTS) or not all(re.fullmatch(r"\w[\w.]*", word) for word in words):
        raise InputError(
            f"--benchmark: {name!r} is not the name of a benchmark; expected {'-'.join(PARTS)}, such as {EXAMPLE}"
        )
    if parts["metric"] not in METRICS or parts["split"] != "test":
        raise InputError(
            f"--benchmark: {name} asks for the {parts['metric']} of the split {parts['split']}; offered are "
            f"{', '.join(METRICS)} of test"
        )
    return parts


def _installed(name: str, parts: Mapping[str, str]) -> Path:
    file = f"{parts['dataset']}_{parts['property']}.json.zip"
    place = f"benchmarks/{parts['category']}/{parts['subcategory']}/{file}"
    found = installed_file(PACKAGE, place)
    if found is None:
        raise InputError(
            f"--benchmark: the values of {name} are not here; give the file with --benchmark_file {file}: it is in "
            f"{PACKAGE}/{place} of the package {PACKAGE} on PyPI (pip install --no-deps {PACKAGE}) and of its "
            "repository"
        )
    return found


def _values(content: Any, metric: str, path: Path) -> Values:
    if not isinstance(content, dict):
        raise InputError(f'{path} is not the file of a benchmark; expected {{"train": {{id: value}}, "test": {{...}}}}')
    try:
        return {str(name): _numbers(value, metric) for name, value in content.items()}
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds a value that is no number: {brief(error)}") from error


def _numbers(value: Any, metric: str) -> tuple[float, ...]:
    words = str(value).split(";") if metric == "multimae" else [value]
    numbers = tuple(map(float, words))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(shown(value))
    return numbers


def _disjoint(splits: Mapping[str, Values]) -> tuple[Values, Values, tuple[str, ...]]:
    """Training and validation splits without what the later splits hold too; some benchmarks give an id twice."""
    later = set(splits["test"])
    kept, notes = {}, []
    for split in ("val", "train"):
        doubled = [name for name in splits[split] if name in later]
        kept[split] = {name: value for name, value in splits[split].items() if name not in later}
        later |= set(splits[split])
        if doubled:
            named = first_of(doubled)
            notes.append(f"its {split} split holds {len(doubled)} ids of another, which are left out of it: {named}")
    return kept["train"], kept["val"], tuple(notes)
