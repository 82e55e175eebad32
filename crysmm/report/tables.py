"""The scores of a run, which are read first: a few in large type, and tables of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crysmm.config.head import weight_name
from crysmm.report.numbers import duration, number, share
from crysmm.report.parts import Card, Table
from crysmm.runs.data import SPLITS
from crysmm.runs.plots import TITLES
from crysmm.runs.summary import CLASS_SCORES, len_of

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
