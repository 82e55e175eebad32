"""Lines that a run prints about its data, its settings and its result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crysmm.config.graph import GraphSettings
from crysmm.config.loading import options
from crysmm.config.models import weight_name
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.units import after_number, named
from crysmm.errors import count
from crysmm.runs.run_folder import MAX_HOURS, SPLITS, RunFolder

if TYPE_CHECKING:
    from crysmm.device import Machine
    from crysmm.runs.data import RunData, TrainingData

REASONS_SHOWN = 3
CLASS_SCORES = {"accuracy": "accuracy", "ROC-AUC": "roc_auc", "F1": "f1"}  # keys of metrics.json by their title
TARGETS_SHOWN = 4
SHAPE = ("model", *GraphSettings.model_fields)  # settings that must be the same for weights to fit
STOPPED_EARLY = "max_hours stopped training early: repeat the command with --resume to continue"


def describe_data(data: RunData, folder: RunFolder) -> list[str]:
    """Return lines on the crystals that were read, the rows that were skipped, and notes on how they were read."""
    store, n_skipped = data.store, len(data.skipped)
    n_elements = len(store.elements)
    lines = [
        f"read {count(len(store), 'crystal')} of {count(n_elements, 'element')}, on average "
        f"{store.n_atoms.mean():.1f} atoms and {store.n_edges.mean():.0f} bonds"
    ]
    lines += [f"  {line}" for line in first_targets(store.gaps())]
    if n_skipped:
        reasons = [f"  {row.file or row.id}: {row.reason}" for row in data.skipped[:REASONS_SHOWN]]
        more = [f"  and {n_skipped - REASONS_SHOWN} more"] if n_skipped > REASONS_SHOWN else []
        lines += [f"skipped {count(n_skipped, 'row')}, listed in {folder.skipped}:", *reasons, *more]
    if store.notes:
        notes = [f"  {note.file}: {note.note}" for note in store.notes[:REASONS_SHOWN]]
        lines += [f"{count(len(store.notes), 'note')} on how structures were read, all in crysmm check:", *notes]
    return lines


def describe_task(data: TrainingData, config: TrainingConfig, baseline: float) -> list[str]:
    """Return lines on the split, the target, the baseline, texts and the teacher.

    Args:
        data: Crystals of the run.
        config: Settings of the run.
        baseline: Validation score of a prediction without a network: the loss for classes, else the MAE.
    """
    from crysmm.data.scaler import varies  # torch comes with it, which lists of runs do without

    sizes = ", ".join(f"{len(data.rows(split))} {split}" for split in SPLITS)
    n_skipped = len(data.skipped) - len(data.store.skipped)  # rows of the store that are not used
    n_left = len(data.store) - n_skipped - sum(len(data.rows(split)) for split in SPLITS)
    sizes += f", {n_left} in none" if n_left else ""
    names, classes = data.store.target_names, data.scaler.classes
    target = ", ".join(first_targets(named(names, data.units)))
    if classes is not None:
        score = f"predicting the frequencies of the {len(classes)} classes has a validation loss of {baseline:.4g}"
    else:
        metric = "MAE" if data.scaler.n_targets == 1 else "MAE / standard deviation"
        unit = after_number(data.units[0]) if metric == "MAE" else ""
        score = f"predicting the mean of the training split has a validation {metric} of {baseline:.4g}{unit}"
    lines = [f"split: {sizes} ({describe_split(config)})", f"target {target}: {score}"]
    targets = data.targets("train")
    least, most = np.nanmin(targets, axis=0), np.nanmax(targets, axis=0)
    if constant := [name for name, differs in zip(names, varies(most - least, most), strict=True) if not differs]:
        lines.append(f"  equal for all training crystals, so that nothing can be learned: {', '.join(constant)}")
    if config.unit is None and any(data.units):
        lines.append("  the unit is that of columns of this name, by assumption; --unit gives another")
    lines += [] if data.texts is None else data.texts.lines
    if data.potential_features is not None and data.potential_features.teacher is not None:
        name, width = data.potential_features.teacher.name, data.potential_features.width
        use = "added to the atom embeddings" if config.has_graph_network else "the means over the atoms of each crystal"
        lines.append(f"potential {name}: {width} features per atom, {use}")
    if data.teacher_features is not None and config.distillation is not None:
        deltas = ", ".join(map(weight_name, config.distillation.delta))
        lines.append(
            f"teacher {config.distillation.teacher}: {data.teacher_features.width} features per atom, delta {deltas}"
        )
    if not config.has_graph_network:
        lines.append(
            "a Gaussian process, fitted at once: settings of backbone, graphs, epochs and optimizer are not used"
        )
    if config.model.link != "identity" and config.standardize_target and classes is None:
        lines.append(f"model.link {config.model.link}: the target is not standardized")
    return lines


def describe_split(config: RunConfig) -> str:
    """Describe how the crystals were split."""
    if config.ids_file is not None:
        return f"as in {config.ids_file}"
    if config.keep_data_order:
        return "in the order of the rows"
    return f"{config.split_strategy}, seed {config.random_seed}"


def describe_machine(config: RunConfig, machine: Machine, n_parameters: int, n_processes: int) -> str:
    """Describe the network, the device and the precision."""
    processes = f", {n_processes} processes" if n_processes > 1 else ""
    bits = "bf16" if machine.precision == "bf16" else "32 bits"
    return f"{config.model.name} with {n_parameters:,} parameters on {machine.device}{processes}, {bits}"


def describe_result(metrics: Mapping[str, Any], folder: RunFolder) -> list[str]:
    """Return lines on the best epoch's metrics, the files that were written, and what to do next."""
    lines = [
        f"{split}: {_scores(metrics[split], metrics.get('units', {}))} ({count(metrics[split]['n'], 'crystal')})"
        for split in ("val", "test")
        if split in metrics
    ]
    if "best_epoch" in metrics:
        lines[0] += f", best epoch {metrics['best_epoch']} of {metrics['epochs']}"
    lines += describe_trust(metrics.get("test", {}), metrics.get("units", {}))
    if metrics["stopped_by"] == MAX_HOURS:
        lines.append(STOPPED_EARLY)
    model = shlex.quote(str(folder.path))
    return [
        *lines,
        f"written to {folder.path}: {_names(folder)}",
        f"look at:      {folder.report}, in a browser",
        f"predict with: crysmm predict --model {model} --root_dir FOLDER --output predictions.csv",
        f"audit with:   crysmm audit --model {model}",
    ]


def describe_members(metrics: Mapping[str, Any]) -> list[str]:
    """Return a line with the metrics of each member of an ensemble, and a heading for the ensemble itself."""
    members = metrics["members"]
    split = "test" if "test" in metrics else "val"
    return [
        f"{name}, {split}: {_scores(member[split], metrics.get('units', {}))}" for name, member in members.items()
    ] + ["ensemble:"]


def describe_trust(test: Mapping[str, Any], units: Mapping[str, str | None]) -> list[str]:
    """Return a line on the fraction of the test targets inside the intervals, or none if there are no intervals.

    Args:
        test: Metrics of the test split.
        units: Unit of each target, None where unknown.
    """
    # Classes have no intervals, and a run may have no test split.
    if "intervals" not in test:
        return []
    intervals = test["intervals"]
    asked, n_validation = intervals["asked"], intervals["n_validation"]
    if "reason" in intervals:  # infinite, as there are too few validation crystals for this coverage
        return [f"{asked:.0%} intervals: infinite; {intervals['reason']}, there are {n_validation}"]
    unit = after_number(next(iter(units.values()), None))
    width = f", median width {_number(intervals['median_width'])}{unit}" if "median_width" in intervals else ""
    infinite = [name for name, each in intervals.get("per_target", {}).items() if "reason" in each]
    if infinite:
        width = f"; those of {', '.join(first_targets(infinite))} are infinite: too few validation crystals have it"
    covered, confidence = "none", ""
    if intervals["covered"] is not None:
        low, high = intervals["covered_between"]
        covered, confidence = f"{intervals['covered']:.1%}", f" (95% confidence: {low:.0%} to {high:.0%})"
    end = f"; cut at {intervals['lowest']:g}{unit} (target_min)" if "lowest" in intervals else ""
    return [f"{asked:.0%} intervals: hold {covered} of the test targets{confidence}{width}{end}"]


def describe_encoder(metrics: Mapping[str, Any], config: RunConfig, folder: RunFolder) -> list[str]:
    """Return lines on a pre-trained encoder's metrics, the files that were written, and the commands to use it with."""
    model = shlex.quote(str(folder.path))
    lines = [f"best epoch {metrics['best_epoch']} of {metrics['epochs']}; on the held-out crystals:"]
    lines += [f"  {name.replace('_', ' ')}: {_number(value)}" for name, value in metrics["quality"].items()]
    if metrics["stopped_by"] == MAX_HOURS:
        lines.append(STOPPED_EARLY)
    return [
        *lines,
        f"written to {folder.path}: model.safetensors, {_names(folder)}",
        f"fine-tune with: crysmm train {shlex.join([*options(config, SHAPE), '--init_from'])} {model}",
        f"distill with: crysmm train --head distilled --head.teacher {model}",
    ]


def _scores(metrics: Mapping[str, Any], units: Mapping[str, str | None]) -> str:
    """Name the main metrics of a split, or of one target."""
    if "accuracy" in metrics:
        return ", ".join(f"{name} {_number(metrics[key])}" for name, key in CLASS_SCORES.items())
    if "per_target" in metrics:
        each = [
            f"{name}: {_scores(one, {name: units.get(name)})}"
            + (f" ({count(one['n'], 'label')})" if one["n"] < metrics["n"] else "")
            for name, one in metrics["per_target"].items()
        ]
        return f"MAE/MAD {_number(metrics['mean']['mae_over_mad'])} on average; {'; '.join(first_targets(each))}"
    error = f"{_number(metrics['mae'])}{after_number(next(iter(units.values()), None))}"
    return f"MAE {error}, MAE/MAD {_number(metrics['mae_over_mad'])}, R2 {_number(metrics['r2'])}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def first_targets(targets: Sequence[str]) -> list[str]:
    """Return the first few of the entries for each target; a spectrum has hundreds."""
    n_more = len(targets) - TARGETS_SHOWN
    return [*targets[:TARGETS_SHOWN], *([f"and {n_more} more"] if n_more > 0 else [])]


def _names(folder: RunFolder) -> str:
    shown = [folder.report, folder.predictions("test"), folder.metrics, folder.parity_plot, folder.history_plot]
    return ", ".join(path.name for path in shown if path.exists())
