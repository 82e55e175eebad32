"""Results of a comparison: scores of every run, differences to the first arm, tables, and verdicts in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.comparison.arms import Plan, Size
from crysmm.comparison.overview import aligned
from crysmm.comparison.statistics import METRICS, Difference, Score, paired_difference, scores_of
from crysmm.data.units import after_number, duration, named, number
from crysmm.errors import InputError, count
from crysmm.files import write_csv_atomic
from crysmm.inference.prediction_table import read_predictions
from crysmm.runs.run_folder import RunFolder

SCORES, PAIRS, PAGE = "comparison.csv", "paired.csv", "comparison.html"
SCORE_COLUMNS = (
    "arm", "size", "seed", "n_train", "property", "metric", "val", "test", "test_standard_error", "seconds",
)  # fmt: skip
PAIR_COLUMNS = (
    "arm", "first", "size", "property", "metric", "n_test", "n_seeds", "difference", "standard_error", "lower",
    "upper", "n_better", "n_worse", "seed_standard_error", "verdict",
)  # fmt: skip

Key = tuple[str, str]
"""Property (empty if there is only one) and metric."""


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm, trained on one training set with one seed.

    Args:
        arm: Name of the arm.
        size: Number of training crystals requested.
        seed: Seed of the run; None if the arm is not trained.
        n_train: Number of training crystals; 0 for a model that is used without training, and where unknown.
        folder: Folder with the predictions.
        val: Scores on the validation split.
        test: Scores on the test split.
        seconds: Training time; None if the arm is not trained.
    """

    arm: str
    size: Size
    seed: int | None
    n_train: int
    folder: Path
    val: Mapping[Key, Score]
    test: Mapping[Key, Score]
    seconds: float | None


@dataclass(frozen=True)
class Pair:
    """Comparison of an arm with the first arm.

    Args:
        arm: Name of the arm.
        first: Name of the first arm.
        size: Number of training crystals requested.
        target: Name of the property; empty if there is only one.
        difference: Difference over the test crystals.
        n_train: Number of training crystals, for texts; None if all pairs have the same.
    """

    arm: str
    first: str
    size: Size
    target: str
    difference: Difference
    n_train: int | None = None

    def text(self, units: Mapping[str, str | None]) -> str:
        """Return the comparison in words; ``units`` are those of the properties, None where unknown."""
        found = self.difference
        unit = after_number(units.get(self.target)) if found.metric == "mae" else ""
        metric = f"{METRICS[found.metric]}{f' of {self.target}' if self.target else ''}"
        given = [] if self.n_train is None else [f"{self.n_train:,} training crystals"]
        crystals = count(found.n, "test crystal")
        size = f"{number(abs(found.value))} ± {number(found.standard_error)}{unit}"
        interval = f"95% interval {signed(found.lower)} to {signed(found.upper)}{unit}"
        if found.verdict != "no difference":
            place = "".join(f" with {words}" for words in given)
            return (
                f"{self.arm} is {found.verdict} than {self.first}{place} by {size} ({metric}, {crystals}, {interval})"
            )
        words = " and ".join([*given, crystals])
        sign = "-" if found.value < 0 else "+"
        seeds = f"; it varies as much between the {found.n_seeds} seeds" if found.excludes_zero else ""
        return (
            f"no difference between {self.arm} and {self.first} can be seen with {words} ({metric} {sign}{size}, "
            f"{interval}{seeds})"
        )


@dataclass(frozen=True)
class Summary:
    """Scores of an arm on one training set, as means over its seeds.

    Args:
        n_train: Number of training crystals.
        n_seeds: Number of runs.
        val: Score on the validation split.
        test: Score on the test split.
        standard_error: Standard error of the test score over crystals.
        seconds: Training time of all seeds together; None if the arm is not trained.
    """

    n_train: int
    n_seeds: int
    val: float
    test: float
    standard_error: float
    seconds: float | None


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Args:
        folder: Output folder.
        test_ids: Ids of the test crystals.
        results: Results of all arms, by size, arm and seed.
        pairs: Comparisons with the first arm.
        settings: Settings that differ between the trained arms, by arm.
        units: Unit of each property (empty if there is only one), None where unknown.
        notes: Notes for the user.
    """

    folder: Path
    test_ids: Sequence[str]
    results: Sequence[ArmResult]
    pairs: Sequence[Pair]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    units: Mapping[str, str | None] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def page(self) -> Path:
        """Path of ``comparison.html``."""
        return self.folder / PAGE

    @property
    def arms(self) -> list[str]:
        """Names of the arms that have results."""
        return list(dict.fromkeys(result.arm for result in self.results))

    @property
    def sizes(self) -> list[Size]:
        """Sizes of the training sets, increasing."""
        return list(dict.fromkeys(result.size for result in self.results))

    @property
    def keys(self) -> list[Key]:
        """Property and metric of every score."""
        return list(self.results[0].test)

    def label(self, key: Key) -> str:
        """Return the name of a score with its unit, if it is known."""
        unit = self.units.get(key[0]) if key[1] == "mae" else None
        return named([" ".join(filter(None, [key[0], METRICS[key[1]]]))], [unit])[0]

    def of(self, arm: str, size: Size) -> list[ArmResult]:
        """Return the results of an arm on one training set, one per seed."""
        return [result for result in self.results if (result.arm, result.size) == (arm, size)]

    def pair(self, arm: str, size: Size, key: Key) -> Difference | None:
        """Return the difference of an arm to the first, or None for the first itself."""
        found = (pair for pair in self.pairs if (pair.arm, pair.size, pair.target) == (arm, size, key[0]))
        return next((pair.difference for pair in found if pair.difference.metric == key[1]), None)

    def summary(self, arm: str, size: Size, key: Key) -> Summary | None:
        """Return the scores of an arm as means over its seeds, or None if it has no result."""
        results = self.of(arm, size)
        if not results:
            return None
        val, test = (
            float(np.mean([scores[key].value for scores in splits]))
            for splits in ([result.val for result in results], [result.test for result in results])
        )
        error = float(np.mean([result.test[key].standard_error for result in results]))
        seconds = [result.seconds for result in results if result.seconds is not None]
        return Summary(results[0].n_train, len(results), val, test, error, sum(seconds) if seconds else None)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows of a table of all scores, with the differences to the first arm."""
        has_seeds = any(len(self.of(arm, size)) > 1 for arm in self.arms for size in self.sizes)
        first = self.results[0].arm if not self.pairs else self.pairs[0].first
        header = ["arm", "trained on", *(["seeds"] if has_seeds else []), "metric", "validation", "test"]
        header += [f"difference to {first}", "95% interval", "better in", "time"]
        rows = []
        for size in self.sizes:
            for arm in self.arms:
                for key in self.keys:
                    one, found = self.summary(arm, size, key), self.pair(arm, size, key)
                    if one is None:
                        continue
                    metric = self.label(key)
                    row = [arm, f"{one.n_train:,}" if one.n_train else "-", *([str(one.n_seeds)] if has_seeds else [])]
                    row += [metric, number(one.val), f"{number(one.test)} ± {number(one.standard_error)}"]
                    if found is None:
                        row += ["", "", ""]
                    else:
                        row.append(f"{signed(found.value)} ± {number(found.standard_error)}")
                        row.append(f"{signed(found.lower)} to {signed(found.upper)}")
                        row.append("-" if found.n_better is None else f"{found.n_better} of {found.n}")
                    rows.append([*row, "-" if one.seconds is None else duration(one.seconds)])
        return header, rows

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table, the comparisons in words, and the path of the page."""
        yield from aligned(*self.table())
        yield from (pair.text(self.units) for pair in self.pairs)
        yield f"written to {self.folder}: {SCORES}, {PAIRS}, and the page {self.page}"

    def write_tables(self) -> None:
        """Write ``comparison.csv`` and ``paired.csv``."""
        scores = [
            [
                result.arm, result.size, result.seed, result.n_train, *key, result.val[key].value, score.value,
                score.standard_error, result.seconds,
            ]
            for result in self.results
            for key, score in result.test.items()
        ]  # fmt: skip
        pairs = []
        for pair in self.pairs:
            found = pair.difference
            pairs.append([
                pair.arm, pair.first, pair.size, pair.target, found.metric, found.n, found.n_seeds, found.value,
                found.standard_error, found.lower, found.upper, found.n_better, found.n_worse, found.seed_error,
                found.verdict,
            ])  # fmt: skip
        write_csv_atomic(self.folder / SCORES, SCORE_COLUMNS, map(_cells, scores))
        write_csv_atomic(self.folder / PAIRS, PAIR_COLUMNS, map(_cells, pairs))


def signed(value: float) -> str:
    """Format a difference with its sign."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def _cells(row: Sequence[Any]) -> list[Any]:
    """Return the cells of a CSV row, empty for None and NaN."""
    return ["" if value is None or (isinstance(value, float) and math.isnan(value)) else value for value in row]


def read_results(plan: Plan, ids: Mapping[Size, Mapping[str, Sequence[str]]]) -> list[ArmResult]:
    """Read the results of all arms from their tables of predictions.

    Args:
        plan: Arms and their folders.
        ids: Ids in each split, by size of the training set.

    Raises:
        InputError: A table is damaged, or is not that of the crystals of this comparison.
    """
    runs = {(run.arm.name, run.size, run.seed): run.folder for run in plan.runs()}
    results = []
    for size in plan.sizes:
        for arm in plan.arms:
            n_train = 0 if arm.zero_shot is not None else len(ids[size]["id_train"])
            folders: dict[int | None, RunFolder] = {}
            if arm.is_trained:
                folders |= {seed: run for (name, of, seed), run in runs.items() if (name, of) == (arm.name, size)}
            else:
                folders[None] = RunFolder(plan.run_folder(arm, size, None))
            for seed, run in folders.items():
                if arm.is_trained and not run.metrics.is_file():
                    continue  # training has diverged, or had no time
                seconds = run.read_metrics()["seconds"] if arm.is_trained else None
                val, test = (
                    _read_scores(run.predictions(split), ids[size][f"id_{split}"]) for split in ("val", "test")
                )
                results.append(ArmResult(arm.name, size, seed, n_train, run.path, val, test, seconds))
    return results


def _read_scores(path: Path, ids: Sequence[str]) -> dict[Key, Score]:
    """Read the scores of the predictions for exactly these crystals."""
    table = read_predictions(path)
    if list(table.rows) != list(ids):
        raise InputError(f"{path} does not hold the crystals of this comparison; begin again with --overwrite")
    return scores_of(table)


def compare_with_first(results: Sequence[ArmResult], plan: Plan) -> list[Pair]:
    """Compare every arm with the first, on every training set."""
    first, pairs = plan.arms[0].name, []
    for size in plan.sizes:
        counts = [result.n_train for result in results if result.size == size and result.n_train]
        n_train = counts[0] if len(plan.sizes) > 1 and counts else None
        theirs = {result.seed: result.test for result in results if (result.arm, result.size) == (first, size)}
        for arm in plan.arms[1:]:
            ours = {result.seed: result.test for result in results if (result.arm, result.size) == (arm.name, size)}
            # An arm without training has one result for all seeds; otherwise a seed must have a result in both arms.
            common = None if None in ours or None in theirs else ours.keys() & theirs.keys()
            left, right = (
                [scores for seed, scores in one.items() if common is None or seed in common] for one in (ours, theirs)
            )
            for key in left[0] if left and right else ():
                found = paired_difference(key[1], [one[key] for one in left], [one[key] for one in right])
                pairs.append(Pair(arm.name, first, size, key[0], found, n_train))
    return pairs
