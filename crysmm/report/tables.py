"""What a page is made of besides figures: numbers in large type, and tables."""

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

from crysmm.config.head import weight_name
from crysmm.config.loading import options
from crysmm.config.training import TrainingConfig
from crysmm.data.duplicates import Counterpart, find_counterparts, rows_by_formula
from crysmm.data.store import Store
from crysmm.device import Machine
from crysmm.report.errors import Group, Judged
from crysmm.report.html import duration, number, share
from crysmm.runs.data import SPLITS, TrainingData
from crysmm.runs.plots import TITLES
from crysmm.runs.summary import CLASS_SCORES, count, describe_split, len_of


@dataclass(frozen=True)
class Card:
    """A number in large type.

    Args:
        label: what it is.
        value: the number.
        detail: what to hold beside it.
    """

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows, the others are numbers.

    Args:
        caption: what it shows.
        header: names of the columns.
        rows: of cells.
        is_text: the other columns hold text, not numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False


MOST_TARGETS = 50  # rows of a table
RELATIVE_ERRORS = {"MAE/MAD": "mae_over_mad", "R2": "r2"}
ERRORS = {"MAE": "mae", "RMSE": "rmse", "MAD": "mad", **RELATIVE_ERRORS}

LOGARITHMS = "logarithms to base 10, which were learned"

Metrics = Mapping[str, Any]


def cards(metrics: Metrics, split: str) -> list[Card]:
    """The scores of a split, beside those of the others."""
    splits = {name: metrics[name] for name in SPLITS if name in metrics}
    scores = splits[split]
    if "accuracy" in scores:
        chance = f"always the most frequent class: {share(scores['accuracy_of_most_frequent'])}"
        accuracy = Card("accuracy", share(scores["accuracy"]), chance)
        return [accuracy, *(_card(splits, split, name, CLASS_SCORES[name]) for name in ("ROC-AUC", "F1"))]
    if "per_target" in scores:
        means = {name: one["mean"] for name, one in splits.items()}
        found = [_card(means, split, f"{name}, mean", key) for name, key in RELATIVE_ERRORS.items()]
    else:
        found = [_card(splits, split, name, key) for name, key in {"MAE": "mae", **RELATIVE_ERRORS}.items()]
    return [*found, *([_interval_card(scores["intervals"])] if "intervals" in scores else [])]


def tables(metrics: Metrics, split: str) -> list[Table]:
    """The scores of all splits, of the targets one by one, of the members or deltas."""
    splits = {name: metrics[name] for name in SPLITS if name in metrics}
    scores = splits[split]
    if "accuracy" in scores:
        found = [_table_of_classes(splits)]
    elif "per_target" in scores:
        means = {name: one["mean"] for name, one in splits.items()}
        rows = [[TITLES[name], *(number(one[key]) for key in RELATIVE_ERRORS.values())] for name, one in means.items()]
        caption = f"Each target on the {TITLES[split]} split, in the unit of the input"
        found = [Table("Means of all targets", ["split", *RELATIVE_ERRORS], rows), _table_of_targets(caption, scores)]
        if "log10" in scores:
            found.append(_table_of_targets(f"The same of the {LOGARITHMS}", scores["log10"]))
    else:
        found = [_table_of_errors("Errors in the unit of the input", splits)]
        if "log10" in scores:
            logarithms = {name: one["log10"] for name, one in splits.items()}
            found.append(_table_of_errors(f"Errors of the {LOGARITHMS}", logarithms))
    return [*found, *_tables_of_runs(metrics, split)]


def _card(splits: Metrics, split: str, label: str, key: str) -> Card:
    others = [f"{TITLES[name]} {number(splits[name][key])}" for name in splits if name != split]
    return Card(label, number(splits[split][key]), ", ".join(others))


def _interval_card(intervals: Metrics) -> Card:
    label = f"held by {intervals['asked']:.0%} intervals"
    if "reason" in intervals:
        return Card(label, "-", f"infinite: {intervals['reason']}, there are {intervals['n_validation']}")
    width = f"of the targets; median width {number(intervals['median_width'])}" if "median_width" in intervals else ""
    return Card(label, share(intervals["covered"]), width)


def _table_of_errors(caption: str, splits: Metrics) -> Table:
    columns = [*ERRORS.values(), "mae_of_train_mean"]
    rows = [
        [TITLES[name], f"{len_of(one):,}", *(number(one[column]) for column in columns)] for name, one in splits.items()
    ]
    return Table(caption, ["split", "crystals", *ERRORS, "MAE of the training mean"], rows)


def _table_of_targets(caption: str, scores: Metrics) -> Table:
    targets = list(scores["per_target"].items())
    shown = targets[:MOST_TARGETS]
    rows = [[name, *(number(one[column]) for column in ERRORS.values())] for name, one in shown]
    header = ["target", *ERRORS]
    if "intervals" in scores:
        header.append(f"held by {scores['intervals']['asked']:.0%} intervals")
        of_targets = scores["intervals"]["per_target"]
        for row, (name, _) in zip(rows, shown, strict=True):
            row.append(share(of_targets[name]["covered"]))
    more = f"; the first {MOST_TARGETS} of {len(targets):,}" if len(targets) > len(shown) else ""
    return Table(caption + more, header, rows)


def _table_of_classes(splits: Metrics) -> Table:
    rows = [
        [
            TITLES[name],
            f"{one['n']:,}",
            share(one["accuracy"]),
            number(one["roc_auc"]),
            number(one["f1"]),
            share(one["accuracy_of_most_frequent"]),
        ]
        for name, one in splits.items()
    ]
    return Table("All splits", ["split", "crystals", *CLASS_SCORES, "accuracy of the most frequent class"], rows)


def _tables_of_runs(metrics: Metrics, split: str) -> list[Table]:
    """Of the members of an ensemble, and of the deltas that were tried."""
    found = []
    if "members" in metrics:
        score, _ = _main_score(metrics[split])
        rows = [
            [
                name.replace("_", " "),
                _main_score(member[split])[1],
                f"{member['best_epoch']} of {member['epochs']}",
                duration(member["seconds"]),
            ]
            for name, member in metrics["members"].items()
        ]
        rows.append(["ensemble", _main_score(metrics[split])[1], "", duration(metrics["seconds"])])
        caption = f"The members of the ensemble, and their mean, on the {TITLES[split]} split"
        found.append(Table(caption, ["", score, "best epoch", "time"], rows))
    if "deltas" in metrics:
        measure, chosen = metrics["monitored"], weight_name(metrics["delta"])
        rows = [
            [f"{name}, chosen" if name == chosen else name, number(one[measure]), f"{one['best_epoch']}"]
            for name, one in metrics["deltas"].items()
        ]
        found.append(Table("Deltas that were tried", ["delta", measure, "best epoch"], rows))
    return found


def _main_score(scores: Metrics) -> tuple[str, str]:
    """Name and value of the one number that tells most."""
    if "accuracy" in scores:
        return "accuracy", share(scores["accuracy"])
    if "per_target" in scores:
        return "MAE/MAD, mean", number(scores["mean"]["mae_over_mad"])
    return "MAE", number(scores["mae"])


MOST_COMPARED = 1000  # structures, about a millisecond each


@dataclass(frozen=True)
class Shared:
    """What a split shares with the training split.

    Args:
        has_formula: ``[n]`` whether a training crystal has a crystal's formula.
        counterparts: by row of the store, of the crystals with such a formula whose structures were compared.
    """

    has_formula: np.ndarray
    counterparts: Mapping[int, Counterpart]

    def kinds(self, rows: Sequence[int]) -> np.ndarray:
        """``[n]`` how alike each crystal and its counterpart are, empty where that is not known."""
        return np.array([self.counterparts[row].kind if row in self.counterparts else "" for row in rows])


def find_shared(store: Store, training: Sequence[int], rows: Sequence[int], first: Sequence[int]) -> Shared:
    """Look for the formulas of some crystals in the training split, and compare the structures of some of these.

    Args:
        store: the crystals.
        training: rows learned from.
        rows: held out.
        first: those of them to compare before others.
    """
    of_training, held_out = rows_by_formula(store.formulas, training), rows_by_formula(store.formulas, rows)
    has_formula = np.array([store.formulas[row] in of_training for row in rows])
    formulas = sorted(held_out.keys() & of_training.keys())
    random.Random(0).shuffle(formulas)
    wanted = {store.formulas[row] for row in first}
    formulas.sort(key=lambda formula: formula not in wanted)
    compared: list[int] = []
    left = MOST_COMPARED
    for formula in formulas:
        cost = len(held_out[formula]) + len(of_training[formula])
        if cost <= left:
            left -= cost
            compared += held_out[formula]
    found = find_counterparts(store, training, compared, progress=False)
    return Shared(has_formula, {counterpart.row: counterpart for counterpart in found})


def shared_table(judged: Judged, shared: Shared) -> Table:
    """How far off the crystals are that have something in common with training crystals, and those that have not."""
    kinds = shared.kinds(judged.rows)
    domain = judged.assessment.domain
    groups = {
        "all": np.ones(len(kinds), dtype=bool),
        "formula of a training crystal": shared.has_formula,
        "identical structure in training": kinds == "identical",
        "near-identical structure in training": kinds == "near-identical",
        "formula of no training crystal": ~shared.has_formula,
        **({} if domain is None else {"unlike the training crystals": np.array([bool(note) for note in domain])}),
    }
    errors = judged.errors
    rows = [
        [
            name,
            f"{members.sum():,}",
            share(members.mean()),
            errors.text(errors.values[members].mean()) if members.any() else "-",
        ]
        for name, members in groups.items()
    ]
    n_left = int(shared.has_formula.sum()) - len(shared.counterparts)
    left = f"; of {n_left:,} with a shared formula, structures were not compared: crysmm audit does" if n_left else ""
    caption = f"What {TITLES[judged.split]} crystals share with the training split{left}"
    return Table(caption, ["crystals", "number", "share", errors.measure], rows)


MOST_SKIPPED = 50  # rows of the table


def data_facts(data: TrainingData, config: TrainingConfig, split: str, unseen: Sequence[Group]) -> dict[str, str]:
    """A sentence on each subject.

    Args:
        data: of the run.
        config: how it was split is read.
        split: the one that the model is judged by.
        unseen: its crystals with elements that no training crystal holds, by element.
    """
    store = data.store
    sizes = ", ".join(f"{len(data.rows(name)):,} {TITLES[name]}" for name in SPLITS)
    facts = {
        "read": f"{len(store):,} crystals of {len(store.elements)} elements, on average {store.n_atoms.mean():.1f} "
        f"atoms and {store.n_edges.mean():.0f} bonds",
        "split": f"{sizes} ({describe_split(config)})",
        "rows left out": f"{len(data.skipped):,}" if data.skipped else "none",
        f"{TITLES[split]} elements in no training crystal": ", ".join(
            f"{one.name} ({count(one.n, 'crystal')})" for one in unseen
        )
        or "none",
    }
    if data.texts is not None:
        lines = "; ".join(line.strip() for line in data.texts.lines)
        facts["descriptions"] = lines.removeprefix("descriptions: ")
    if data.embeddings is not None and config.distillation is not None:
        facts["teacher"] = f"{config.distillation.teacher}, {data.embeddings.width} features an atom"
    return facts


def skipped_table(data: TrainingData) -> Table:
    """The first rows that were left out, and why."""
    shown = data.skipped[:MOST_SKIPPED]
    more = f"; the first {MOST_SKIPPED}, all stand in skipped.csv" if len(data.skipped) > len(shown) else ""
    rows = [(row.id or row.file, row.file, row.reason) for row in shown]
    return Table(f"Rows left out ({len(data.skipped):,}{more})", ["id", "file", "reason"], rows, is_text=True)


NOT_OF_THE_RUN = {"resume", "overwrite", "progress"}


def command(config: TrainingConfig) -> list[str]:
    """The command of such a run, each option with its value; none where it has learned from records in memory."""
    if config.root_dir is None:
        return []
    names = [name for name in TrainingConfig.model_fields if name not in NOT_OF_THE_RUN]
    parts = ["crysmm train"]
    for word in options(config, names):
        if word.startswith("--"):
            parts.append(word)
        else:
            parts[-1] += f" {shlex.quote(word)}"
    return parts


def timing(metrics: Mapping[str, Any]) -> dict[str, str]:
    """How long it took, and how it ended."""
    facts = {"time in all": duration(metrics["seconds"])}
    if "seconds_per_epoch" in metrics:
        facts["time of an epoch"] = duration(metrics["seconds_per_epoch"])
    if "best_epoch" in metrics:
        facts["best epoch"] = f"{metrics['best_epoch']} of {metrics['epochs']}, by {metrics['monitored']}"
    facts["training ended by"] = metrics["stopped_by"].replace("_", " ")
    if metrics.get("peak_memory_gib") is not None:
        facts["most memory taken"] = f"{metrics['peak_memory_gib']:.2f} GiB"
    if "n_parameters" in metrics:
        facts["parameters"] = f"{metrics['n_parameters']:,}"
    return facts


def environment(machine: Machine, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What it was computed on, and with."""
    device = str(machine.device)
    if machine.device.type == "cuda":
        device = f"{device}, {torch.cuda.get_device_name(machine.device)}"
    return {
        "finished": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M UTC%z"),
        "device": device,
        "precision": "bf16" if machine.precision == "bf16" else "32 bits",
        "processes": f"{metrics['n_processes']}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        **machine.versions(),
    }
