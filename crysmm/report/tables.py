"""Cards, tables and lists of a report: scores, overlap with the training split, the data and the run."""

from __future__ import annotations

import os
import platform
import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import torch

from crysmm.config.loading import options
from crysmm.config.models import weight_name
from crysmm.config.training import TrainingConfig
from crysmm.data.duplicates import Counterpart, find_counterparts, rows_by_formula
from crysmm.data.store import Store
from crysmm.data.units import after_name, after_number, duration, named, number
from crysmm.device import Machine
from crysmm.errors import count
from crysmm.report.errors import EvaluatedSplit, Group
from crysmm.report.html import percentage
from crysmm.runs.data import TrainingData
from crysmm.runs.run_folder import SPLITS, TITLES
from crysmm.runs.summary import CLASS_SCORES, describe_split, first_targets

MAX_TARGETS = 50  # rows of a table
MAX_SKIPPED = 50  # rows of the table of rows left out
MAX_COMPARED = 1000  # structures; comparing one takes about a millisecond
RELATIVE_ERRORS = {"MAE/MAD": "mae_over_mad", "R2": "r2"}
ERRORS = {"MAE": "mae", "RMSE": "rmse", "MAD": "mad", **RELATIVE_ERRORS}
NOT_OF_THE_RUN = {"resume", "overwrite", "progress"}  # options of the call that do not change the result

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class ScoreCard:
    """Number in large type.

    Args:
        label: Name of the number.
        value: The number as text.
        detail: Numbers to compare it with.
    """

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Table:
    """Table whose first column names the rows.

    Args:
        caption: Title of the table.
        header: Names of the columns.
        rows: Cells of each row.
        is_text: True if the other columns hold text instead of numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False


def score_cards(metrics: Metrics, split: str) -> list[ScoreCard]:
    """Return the main scores of a split, each next to those of the other splits."""
    splits = {name: metrics[name] for name in SPLITS if name in metrics}
    scores, unit = splits[split], _unit(metrics)
    cards = []
    if "accuracy" in scores:
        baseline = f"always the most frequent class: {percentage(scores['accuracy_of_most_frequent'])}"
        cards.append(ScoreCard("accuracy", percentage(scores["accuracy"]), baseline))
        shown = {name: CLASS_SCORES[name] for name in ("ROC-AUC", "F1")}
    elif "per_target" in scores:
        splits = {name: one["mean"] for name, one in splits.items()}
        shown = {f"{name}, mean": key for name, key in RELATIVE_ERRORS.items()}
    else:
        shown = {"MAE": "mae", **RELATIVE_ERRORS}
    for label, key in shown.items():
        others = [f"{TITLES[name]} {number(splits[name][key])}" for name in splits if name != split]
        title = named([label], [unit])[0] if label == "MAE" else label
        cards.append(ScoreCard(title, number(splits[split][key]), ", ".join(others)))
    if "intervals" in scores:
        intervals = scores["intervals"]
        label = f"coverage of {intervals['asked']:.0%} intervals"
        if "reason" in intervals:
            cards.append(
                ScoreCard(label, "-", f"infinite: {intervals['reason']}, there are {intervals['n_validation']}")
            )
        else:
            low, high = map(percentage, intervals.get("covered_between", (None, None)))
            about = f"of the targets, {low} to {high} with 95% confidence"
            width = ""
            if "median_width" in intervals:
                width = f"; median width {number(intervals['median_width'])}{after_number(unit)}"
            cards.append(ScoreCard(label, percentage(intervals["covered"]), about + width))
    return cards


def _unit(metrics: Metrics) -> str | None:
    """Return the unit of the first target, or None if it is not known."""
    return next(iter(metrics.get("units", {}).values()), None)


def score_tables(metrics: Metrics, split: str) -> list[Table]:
    """Return tables of the scores: of all splits, and of each target, ensemble member and delta if there are several.

    Args:
        metrics: Content of ``metrics.json``.
        split: Split whose scores are broken down.
    """
    splits = {name: metrics[name] for name in SPLITS if name in metrics}
    scores = splits[split]
    tables = []
    if "accuracy" in scores:
        header = ["split", "crystals", *CLASS_SCORES, "accuracy of the most frequent class"]
        rows = []
        for name, one in splits.items():
            accuracies = [percentage(one[key]) for key in ("accuracy", "accuracy_of_most_frequent")]
            numbers = [number(one["roc_auc"]), number(one["f1"])]
            rows.append([TITLES[name], f"{one['n']:,}", accuracies[0], *numbers, accuracies[1]])
        tables.append(Table("All splits", header, rows))
    elif "per_target" in scores:
        means = {name: one["mean"] for name, one in splits.items()}
        rows = [[TITLES[name], *(number(one[key]) for key in RELATIVE_ERRORS.values())] for name, one in means.items()]
        tables.append(Table("Means over all targets", ["split", *RELATIVE_ERRORS], rows))
        units, each = metrics.get("units", {}), f"Each target on the {TITLES[split]} split"
        caption = each if units and all(units.values()) else f"{each}, in the unit of the input if no other is given"
        tables.append(_table_of_targets(caption, scores, units))
        if "log10" in scores:
            caption = f"Base-10 logarithm of each target on the {TITLES[split]} split, as trained on"
            tables.append(_table_of_targets(caption, scores["log10"], {}))
    else:
        tables.append(_table_of_splits(f"Errors{after_name(_unit(metrics))}", splits))
        if "log10" in scores:
            logarithms = {name: one["log10"] for name, one in splits.items()}
            tables.append(_table_of_splits("Errors of the base-10 logarithms, as trained on", logarithms))
    if "members" in metrics:
        tables.append(_table_of_members(metrics, split))
    if "deltas" in metrics:
        metric, best = metrics["monitored"], weight_name(metrics["delta"])
        rows = [
            [f"{name}, chosen" if name == best else name, number(one[metric]), f"{one['best_epoch']}"]
            for name, one in metrics["deltas"].items()
        ]
        tables.append(Table("Deltas tried", ["delta", metric, "best epoch"], rows))
    return tables


def _table_of_splits(caption: str, splits: Metrics) -> Table:
    """Tabulate the errors of one target, a row per split."""
    columns = [*ERRORS.values(), "mae_of_train_mean"]
    rows = [
        [TITLES[name], f"{one['n']:,}", *(number(one[column]) for column in columns)] for name, one in splits.items()
    ]
    return Table(caption, ["split", "crystals", *ERRORS, "MAE of the training mean"], rows)


def _table_of_targets(caption: str, scores: Metrics, units: Mapping[str, str | None]) -> Table:
    """Tabulate the errors of one split, a row per target, with its unit if that is known."""
    targets = list(scores["per_target"].items())
    shown = targets[:MAX_TARGETS]
    names = named([name for name, _ in shown], [units.get(name) for name, _ in shown])
    rows = [
        [name, f"{one['n']:,}", *(number(one[column]) for column in ERRORS.values())]
        for name, (_, one) in zip(names, shown, strict=True)
    ]
    header = ["target", "crystals", *ERRORS]
    if "intervals" in scores:
        header.append(f"coverage of {scores['intervals']['asked']:.0%} intervals")
        covered = scores["intervals"]["per_target"]
        for row, (name, _) in zip(rows, shown, strict=True):
            row.append(percentage(covered[name]["covered"]))
    more = f" (the first {MAX_TARGETS} of {len(targets):,})" if len(targets) > len(shown) else ""
    return Table(caption + more, header, rows)


def _table_of_members(metrics: Metrics, split: str) -> Table:
    """Tabulate the main score of each member of an ensemble and of their mean."""

    def main_score(scores: Metrics) -> tuple[str, str]:
        if "accuracy" in scores:
            return "accuracy", percentage(scores["accuracy"])
        if "per_target" in scores:
            return "MAE/MAD, mean", number(scores["mean"]["mae_over_mad"])
        return named(["MAE"], [_unit(metrics)])[0], number(scores["mae"])

    rows = []
    for name, member in metrics["members"].items():
        epochs = f"{member['best_epoch']} of {member['epochs']}"
        rows.append([name.replace("_", " "), main_score(member[split])[1], epochs, duration(member["seconds"])])
    score, value = main_score(metrics[split])
    rows.append(["ensemble", value, "", duration(metrics["seconds"])])
    caption = f"Ensemble members and their mean on the {TITLES[split]} split"
    return Table(caption, ["", score, "best epoch", "time"], rows)


@dataclass(frozen=True)
class Overlap:
    """Overlap of a split with the training split.

    Args:
        has_formula: True for each crystal whose formula is in the training split, ``[n]``.
        counterparts: Most similar training crystals by store row, of the crystals that were compared.
    """

    has_formula: np.ndarray
    counterparts: Mapping[int, Counterpart]


def find_overlap(store: Store, training: Sequence[int], rows: Sequence[int], first: Sequence[int]) -> Overlap:
    """Look up formulas in the training split, and compare up to ``MAX_COMPARED`` structures with the same formula.

    ``crysmm audit`` compares all of them.

    Args:
        store: Store of all crystals.
        training: Store rows of the training split.
        rows: Store rows of the held-out crystals.
        first: Held-out rows to compare before the others.
    """
    training_rows, held_out = rows_by_formula(store.formulas, training), rows_by_formula(store.formulas, rows)
    has_formula = np.array([store.formulas[row] in training_rows for row in rows])
    formulas = sorted(held_out.keys() & training_rows.keys())
    random.Random(0).shuffle(formulas)  # an unbiased sample if not all can be compared
    preferred = {store.formulas[row] for row in first}
    formulas.sort(key=lambda formula: formula not in preferred)  # stable: the others stay shuffled
    compared: list[int] = []
    budget = MAX_COMPARED
    for formula in formulas:
        # Structures are read once per formula, so the cost is a sum and not a product.
        cost = len(held_out[formula]) + len(training_rows[formula])
        if cost <= budget:
            budget -= cost
            compared += held_out[formula]
    found = find_counterparts(store, training, compared, progress=False)
    return Overlap(has_formula, {counterpart.row: counterpart for counterpart in found})


def overlap_table(evaluated: EvaluatedSplit, overlap: Overlap) -> Table:
    """Tabulate the errors of crystals with and without similar crystals in the training split."""
    found, domain = overlap.counterparts, evaluated.assessment.domain
    kinds = np.array([found[row].kind if row in found else "" for row in evaluated.rows])
    groups = {
        "all": np.ones(len(kinds), dtype=bool),
        "formula of a training crystal": overlap.has_formula,
        "identical structure in training": kinds == "identical",
        "near-identical structure in training": kinds == "near-identical",
        "formula of no training crystal": ~overlap.has_formula,
    }
    if domain is not None:
        groups["unlike the training crystals"] = np.array([bool(note) for note in domain])
    errors = evaluated.errors
    rows = []
    for name, members in groups.items():
        error = errors.text(errors.values[members].mean()) if members.any() else "-"
        rows.append([name, f"{members.sum():,}", percentage(members.mean()), error])
    caption = f"Overlap of the {TITLES[evaluated.split]} split with the training split"
    if n_left := int(overlap.has_formula.sum()) - len(found):
        caption += f" (structures of {n_left:,} crystals with a shared formula not compared; crysmm audit does this)"
    return Table(caption, ["crystals", "number", "fraction", errors.label], rows)


def data_facts(data: TrainingData, config: TrainingConfig, split: str, unseen: Sequence[Group]) -> dict[str, str]:
    """Describe the data: sizes, split, rows left out, unseen elements, texts and teacher.

    Args:
        data: Data of the run.
        config: Settings of the run.
        split: Split that the model is evaluated on.
        unseen: Its crystals with elements that are in no training crystal, by element.
    """
    store = data.store
    sizes = ", ".join(f"{len(data.rows(name)):,} {TITLES[name]}" for name in SPLITS)
    symbols = ", ".join(f"{group.name} ({count(group.n, 'crystal')})" for group in unseen)
    facts = {
        "crystals": f"{len(store):,} with {len(store.elements)} elements; on average {store.n_atoms.mean():.1f} atoms "
        f"and {store.n_edges.mean():.0f} edges",
        "split": f"{sizes} ({describe_split(config)})",
        "rows left out": f"{len(data.skipped):,}" if data.skipped else "none",
        **({"rows without a target": "; ".join(first_targets(gaps))} if (gaps := store.gaps()) else {}),
        f"{TITLES[split]} elements in no training crystal": symbols or "none",
    }
    if data.texts is not None:
        lines = "; ".join(line.strip() for line in data.texts.lines)
        facts["descriptions"] = lines.removeprefix("descriptions: ")
    if (features := data.potential_features) is not None and features.teacher is not None:
        facts["potential"] = f"{features.teacher.name}, {features.width} features per atom"
    if data.teacher_features is not None and config.distillation is not None:
        facts["teacher"] = f"{config.distillation.teacher}, {data.teacher_features.width} features per atom"
    return facts


def skipped_table(data: TrainingData) -> Table:
    """Tabulate the first rows that were left out, with the reasons."""
    # Rows without an id are named by their file alone.
    shown = data.skipped[:MAX_SKIPPED]
    more = f"; the first {MAX_SKIPPED}, all of them in skipped.csv" if len(data.skipped) > len(shown) else ""
    rows = [(row.id or row.file, row.file, row.reason) for row in shown]
    return Table(f"Rows left out ({len(data.skipped):,}{more})", ["id", "file", "reason"], rows, is_text=True)


def command(config: TrainingConfig) -> list[str]:
    """Return the ``crysmm train`` command of a run, one option with its value per item; none for records in memory."""
    if config.root_dir is None:
        return []
    parts = ["crysmm train"]
    for word in options(config, [name for name in TrainingConfig.model_fields if name not in NOT_OF_THE_RUN]):
        if word.startswith("--"):
            parts.append(word)
        else:
            parts[-1] += f" {shlex.quote(word)}"
    return parts


def timing(metrics: Metrics) -> dict[str, str]:
    """Describe the time and the memory that training took, and the reason it ended."""
    facts = {"total time": duration(metrics["seconds"])}
    if "seconds_per_epoch" in metrics:
        facts["time per epoch"] = duration(metrics["seconds_per_epoch"])
    if "best_epoch" in metrics:
        facts["best epoch"] = f"{metrics['best_epoch']} of {metrics['epochs']}, by {metrics['monitored']}"
    facts["training ended by"] = metrics["stopped_by"].replace("_", " ")
    if "peak_memory_gib" in metrics:
        facts["peak memory"] = f"{metrics['peak_memory_gib']:.2f} GiB"
    if "n_parameters" in metrics:
        facts["parameters"] = f"{metrics['n_parameters']:,}"
    return facts


def environment(machine: Machine, metrics: Metrics) -> dict[str, str]:
    """Describe the machine and the versions of the software."""
    device = str(machine.device)
    if machine.device.type == "cuda":
        device = f"{device}, {torch.cuda.get_device_name(machine.device)}"
    return {
        "finished": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M UTC%z"),
        "device": device,
        "precision": "bf16" if machine.precision == "bf16" else "32-bit",
        "processes": f"{metrics['n_processes']}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        **machine.versions(),
    }
