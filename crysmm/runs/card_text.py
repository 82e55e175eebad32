"""Text of the model card that is written with every model."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from crysmm import __version__
from crysmm.config.loading import options
from crysmm.config.models import MultimodalConfig
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.scaler import class_label
from crysmm.data.units import after_number, duration, named, number
from crysmm.elements import SYMBOLS
from crysmm.inference.model_card import CITATION, SCORES, Card, as_text
from crysmm.inference.model_folder import (
    Description,
    ModelDescription,
    names_in_head,
    names_in_method,
    read_description,
)
from crysmm.inference.papers import PAPERS, papers_behind
from crysmm.runs.run_folder import FREE_SETTINGS, RunFolder
from crysmm.runs.summary import SHAPE, TARGETS_SHOWN, describe_split, describe_trust, first_targets

LICENSE = (
    "License: not chosen. If you share this model, state here the license of the weights and the data they were "
    "trained on."
)
SELECTED = {"test": "", "val": ", on which the epoch was selected"}  # splits that are reported
LAST_USUAL = SYMBOLS.index("Pu")  # hardly any data set has heavier elements
PATHS = frozenset({"root_dir", "ids_file", "init_from"})  # input files


def run_card(
    run: RunFolder,
    config: RunConfig,
    metrics: Mapping[str, Any],
    *,
    name: str | None = None,
) -> Card:
    """Return the card of a run of ``crysmm train`` or ``crysmm pretrain``.

    Args:
        run: Run folder with the model, or its members, and the ids in each split.
        config: Settings of the run.
        metrics: Content of ``metrics.json``.
        name: Name of the model; by default that of the folder.
    """
    name = name or run.path.resolve().name
    description = run.description
    sizes = {key.removeprefix("id_"): len(ids) for key, ids in json.loads(run.ids.read_text(encoding="utf-8")).items()}
    sections = {
        "Use": _use(name, description),
        "Data": _data(config, description, sizes, metrics["n_skipped"]),
        "Model": _model(description, metrics.get("n_parameters")),
        "Command": _command(name, config, description, metrics),
        SCORES: _bullets(_held_out(description, metrics, sizes["val"])),
        "Limits": _bullets(_limits(description)),
        CITATION: _citation(config, description),
    }
    how = f"pre-trained by {config.method.name}" if isinstance(config, PretrainingConfig) else "trained"
    return Card(name, f"{_summary(config, description)}, {how} on {sizes['train']:,} crystals.", sections)


def converted_card(folder: Path, notes: Sequence[str]) -> Card:
    """Return the card of a model that was converted from other code.

    Args:
        folder: Folder of the model.
        notes: Differences from the original, one line each.
    """
    description, name = read_description(folder), folder.resolve().name
    origin = description.converted_from
    assert origin is not None
    sections = {
        "Use": _use(name, description),
        "Data": "The checkpoint does not name the crystals that it was trained on.",
        "Model": _model(description, None),
        "Command": f"```\ncrysmm convert --from {origin.code} {shlex.quote(origin.file)} --output_dir {name}\n```\n\n"
        f"With {versions(description)}; sha256 of the checkpoint: {origin.sha256}.",
        SCORES: _bullets(["unknown: the checkpoint has none"]),
        "Limits": _bullets([*notes, *_limits(description)]),
        CITATION: _citation(description.config, description),
    }
    summary = _summary(description.config, description)
    return Card(name, f"{summary}, converted from {as_text(origin.file)}, a checkpoint of {origin.code}.", sections)


def _summary(config: RunConfig, description: Description) -> str:
    """Name the network and what it predicts, without the period."""
    network = config.network
    if not isinstance(description, ModelDescription):
        return f"encoder {network}, which predicts no property"
    assert isinstance(config, TrainingConfig)
    head = "" if config.head.name == "vanilla" else f", {config.head.name}"
    subject, verb = f"{network}{head}", "predicts"
    if config.ensemble > 1:
        subject, verb = f"{config.ensemble} networks ({subject})", "predict"
    names = as_text(", ".join(first_targets(description.target_names)))
    classes, threshold = description.scaler.classes, description.scaler.threshold
    if classes is None:
        return f"{subject} that {verb} {names}"
    labels = ", ".join(map(class_label, classes)) if threshold is None else f"1 above {threshold:g}, else 0"
    return f"{subject} that {verb} the class of {names} ({labels})"


def _use(name: str, description: Description) -> str:
    """Show three lines of Python and a command that predict, or the commands that start from an encoder."""
    if isinstance(description, ModelDescription):
        lines = ["import crysmm", "", f"model = crysmm.load({json.dumps(name)})", 'print(model.predict(["POSCAR"]))']
        code = "\n".join(["```python", *lines, "```"])
        return (
            "To predict the property of ordered crystals like those it was trained on, from POSCAR, CIF or xyz files:\n"
            f"\n{code}\n\nOr `crysmm predict --model {shlex.quote(name)} --files POSCAR`."
        )
    shape = shlex.join(options(description.config, SHAPE))
    return (
        "To start training from its weights, or to distill it into another network:\n\n```\n"
        f"crysmm train {shape}{' ' * bool(shape)}--init_from {shlex.quote(name)} --root_dir DATA --output_dir RUN\n"
        f"crysmm train --head distilled --head.teacher {shlex.quote(name)} --root_dir DATA --output_dir RUN\n```"
    )


def _data(config: RunConfig, description: Description, sizes: Mapping[str, int], n_skipped: int) -> str:
    """Describe the source of the crystals, the split, the targets and the elements, a line each."""
    source = "records in memory" if config.root_dir is None else f"`{as_text(config.root_dir.resolve().name)}`"
    counts = f"{sizes['train']:,} for training, {sizes['val']:,} for validation, {sizes['test']:,} left out of both"
    how = describe_split(config) if config.ids_file is None else f"as in {as_text(config.ids_file.name)}"
    lines = [f"Crystals from {source}: {counts} (split: {how}). {n_skipped:,} rows could not be used."]
    if isinstance(description, ModelDescription):
        units = dict(zip(description.target_names, description.units, strict=True))
        listed = as_text(", ".join(named(list(units), list(units.values()))))
        unknown = "" if all(units.values()) else ", in the unit of the data"
        lines.append(f"Target: {listed}{unknown}.")
    else:
        lines.append("Trained on structures alone, without the values of any property.")
    if description.elements is not None:
        lines.append(f"The {len(description.elements)} elements in its crystals: {', '.join(description.elements)}.")
    return "\n".join(lines)


def _model(description: Description, n_parameters: int | None) -> str:
    """Describe the backbone, its settings other than the defaults, and the graphs; or what takes their place."""
    if isinstance(description, ModelDescription) and description.n_kept is not None:
        assert description.potential is not None
        return (
            f"A Gaussian process for each target, around {description.n_kept:,} training crystals, on the features by "
            f"{description.potential.name}, averaged over the atoms of a crystal. There is no graph network. All "
            "settings are in `model.json`."
        )
    graph, model = description.graph, description.config.model
    changed = [
        f"{name} {value}"
        for name, value in dict(model).items()
        if name != "name" and value != type(model).model_fields[name].default
    ]
    size = "" if n_parameters is None else f", {n_parameters:,} parameters"
    return (
        f"{model.name}{size}; settings other than the defaults: {', '.join(changed) or 'none'}. Graphs are "
        f"{graph.neighbor_strategy}, cutoff {graph.cutoff:g} Angstrom, {graph.max_neighbors} neighbors, with element "
        f"features {graph.atom_features}; other graphs give other numbers. All other settings are in `model.json`."
    )


def _command(name: str, config: RunConfig, description: Description, metrics: Mapping[str, Any]) -> str:
    """Give the command line that repeats the run, the versions, the time and the device."""
    program = ["crysmm", "pretrain" if isinstance(config, PretrainingConfig) else "train"]
    # On one line: a line break in a name would end the block of code in the card.
    words = shlex.join([*program, *given(config), "--output_dir", f"runs/{name}"]).replace("\n", " ")
    epochs = f", best epoch {metrics['best_epoch']} of {metrics['epochs']}" if "best_epoch" in metrics else ""
    return (
        f"```\n{words}\n```\n\nWith {versions(description)}; {duration(metrics['seconds'])} on "
        f"{metrics['device']} in {metrics['precision']}{epochs}."
    )


def versions(description: Description) -> str:
    """List the versions of the packages that a model was saved with."""
    return ", ".join(f"{name} {version}" for name, version in description.versions.items())


def _held_out(description: Description, metrics: Mapping[str, Any], n_val: int) -> Iterator[str]:
    """Yield a line for each metric on crystals that the network was not trained on, the one to quote first."""
    if isinstance(description, ModelDescription):
        units = dict(zip(description.target_names, description.units, strict=True))
        for split, note in SELECTED.items():
            if split in metrics:
                note = "" if description.n_kept else note
                yield from (f"{split} {line}" for line in _scores(metrics[split], note, units))
        yield from describe_trust(metrics.get("test", {}), units)
        return
    # First the purity of the nearest neighbors, which needs no decoder; metrics without a baseline are left out.
    quality: Mapping[str, float] = metrics["quality"]
    for name in sorted(quality, key=lambda name: not name.startswith("knn_purity")):
        baseline = quality.get(f"{name}_baseline")
        if baseline is not None:
            title = name.replace("_", " ")
            yield (
                f"{title} {number(quality[name])} on {n_val:,} crystals; baseline without the structures "
                f"{number(baseline)}"
            )


def _scores(scores: Mapping[str, Any], note: str, units: Mapping[str, str | None]) -> Iterator[str]:
    """Yield a line for each target of a split.

    Args:
        scores: Metrics of the split, or of one target.
        note: Remark on the split, added to its number of crystals.
        units: Unit of each target, None where unknown; empty for logarithms.
    """
    if "per_target" in scores:
        for name, each in list(scores["per_target"].items())[:TARGETS_SHOWN]:
            yield from (f"{as_text(name)} {line}" for line in _scores(each, note, {name: units.get(name)}))
        return
    if not scores["n"]:  # none of the split's crystals has this one of several targets
        return
    on = f"on {scores['n']:,} crystals{note}"
    if "accuracy" in scores:
        area, f1 = ("unknown" if scores[key] is None else number(scores[key]) for key in ("roc_auc", "f1"))
        yield (
            f"accuracy {number(scores['accuracy'])}{_plus_minus(scores)}, ROC-AUC {area}, F1 {f1}, "
            f"{on}; predicting the most frequent class: accuracy {number(scores['accuracy_of_most_frequent'])}"
        )
        return
    known = next(iter(units.values()), None)
    unit = after_number(known and as_text(known))
    r2 = "unknown" if scores["r2"] is None else number(scores["r2"])
    yield (
        f"MAE {number(scores['mae'])}{_plus_minus(scores, unit)}, RMSE {number(scores['rmse'])}{unit}, R2 {r2}, {on}; "
        f"predicting the mean: MAE {number(scores['mae_of_train_mean'])}{unit}"
    )
    if "log10" in scores:
        yield from (f"log10 {line}" for line in _scores(scores["log10"], note, {}))


def _plus_minus(scores: Mapping[str, Any], unit: str = "") -> str:
    """Return the standard error of the MAE or accuracy over the crystals and the unit, or only that for one crystal."""
    if scores["n"] < 2:
        return unit
    squares, mean = (scores["accuracy"],) * 2 if "accuracy" in scores else (scores["rmse"] ** 2, scores["mae"])
    return f" ± {number(math.sqrt(max(squares - mean**2, 0) / (scores['n'] - 1)))}{unit} (standard error)"


def _limits(description: Description) -> Iterator[str]:
    """Yield the limits that all models of this kind have."""
    if description.elements is None:
        yield "The elements in its training crystals are unknown, so there is no warning about other elements."
    else:
        unseen = [symbol for symbol in SYMBOLS[1 : LAST_USUAL + 1] if symbol not in description.elements]
        missing = ", ".join(unseen) or "none"
        yield f"Trained on {len(description.elements)} elements; missing of those up to plutonium: {missing}."
    yield (
        "The crystals are ordered; disorder, molecules, surfaces and structures far from those of the data are "
        "extrapolation, and so is another source of structures or values."
    )
    if isinstance(description, ModelDescription):
        yield (
            "It reproduces its data, including the errors of the method behind them. The metrics are for this "
            "split: if crystals of one composition are in several splits, errors for new chemistry are larger "
            "(`crysmm audit`)."
        )
    else:
        yield "It predicts no property; fine-tune it (--init_from) or distill from it (--head.teacher)."


def _citation(config: RunConfig, description: Description) -> str:
    """State that no license is chosen, and list the papers to cite."""
    potential = description.potential if isinstance(description, ModelDescription) else None
    papers = [PAPERS[name] for name in papers_behind(config, None if potential is None else potential.name)]
    cited = [f"- {paper.text()}{f', doi:{paper.doi}' if paper.doi else ''}" for paper in papers]
    own = f"- crysmm {__version__} (see its CITATION.cff)"
    return "\n".join([f"{LICENSE} Publications that use it should cite", "", *cited, own])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def given(config: RunConfig, leave_out: Set[str] = frozenset()) -> list[str]:
    """Return the command-line words for the settings of a run, with the names of files instead of their paths.

    Settings of the machine, which do not change the result, are left out.

    Args:
        config: Settings of the run.
        leave_out: Names of further settings to leave out.
    """
    names = [name for name in type(config).model_fields if name not in (FREE_SETTINGS - PATHS - {"unit"}) | leave_out]
    # Names only: the folders mean nothing on another machine, and cards are published.
    files: dict[str, Any] = {name: Path(path.name) for name in PATHS if (path := getattr(config, name)) is not None}
    if isinstance(config, TrainingConfig):
        in_head: dict[str, Any] = dict(names_in_head(config.head))
        if isinstance(config.head, MultimodalConfig) and config.head.descriptions is not None:
            in_head["descriptions"] = Path(config.head.descriptions.name)
        files["head"] = config.head.model_copy(update=in_head)
    if isinstance(config, PretrainingConfig):
        files["method"] = config.method.model_copy(update=names_in_method(config.method))
    return list(options(config.model_copy(update=files), names))
