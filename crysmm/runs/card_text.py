"""What the card of a model says: everything that is known of it, for people."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from crysmm.citations import PAPERS, papers_behind
from crysmm.config.head import MultimodalConfig, TeacherConfig
from crysmm.config.loading import options
from crysmm.config.pretraining import PretrainingConfig
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.scaler import class_label
from crysmm.elements import SYMBOLS
from crysmm.inference.model_card import CITATION, SCORES, Card, as_text
from crysmm.inference.model_folder import Description, ModelDescription, read_description
from crysmm.runs.run_folder import FREE_SETTINGS, RunFolder
from crysmm.runs.summary import SHAPE, TARGETS_SHOWN, describe_split, describe_trust, first_targets
from crysmm.version import __version__

LICENCE = (
    "Licence: not chosen. Whoever gives this model away says here under which licence the weights are, and whose data "
    "they were learned from."
)
CHOSEN = {"test": "", "val": ", by which the epoch was chosen"}
LAST_USUAL = SYMBOLS.index("Pu")  # heavier elements are in no usual data set
PATHS = frozenset({"root_dir", "ids_file", "init_from"})  # input files, free to change in a run that is resumed


def run_card(
    run: RunFolder,
    config: RunConfig,
    metrics: Mapping[str, Any],
    *,
    name: str | None = None,
    unit: str | None = None,
) -> Card:
    """The card of a run of ``crysmm train`` or ``crysmm pretrain``.

    Args:
        run: holds the model, or its members, and the ids of the splits.
        config: its settings.
        metrics: what ``metrics.json`` holds.
        name: of the model; by default that of the folder.
        unit: of the target, if it is known.
    """
    name = name or run.path.resolve().name
    description = run.description
    sizes = {key.removeprefix("id_"): len(ids) for key, ids in json.loads(run.ids.read_text(encoding="utf-8")).items()}
    sections = {
        "Use": _use(name, description),
        "Data": _data(config, description, sizes, metrics["n_skipped"], unit),
        "Model": _model(description, metrics.get("n_parameters")),
        "Command": _command(name, config, description, metrics),
        SCORES: _listed(_figures(description, metrics, sizes["val"], unit)),
        "Limits": _listed(_limits(description)),
        CITATION: _licence(description.config),
    }
    return Card(name, f"{_summary(config, description)}, {_learned_from(config, sizes)}.", sections)


def converted_card(folder: Path, notes: Sequence[str]) -> Card:
    """The card of a model that was converted from other code.

    Args:
        folder: of the model.
        notes: what differs from the original.
    """
    description, name = read_description(folder), folder.resolve().name
    origin = description.converted_from
    assert origin is not None
    unknown = "not known: the checkpoint does not say"
    sections = {
        "Use": _use(name, description),
        "Data": f"What it was trained on is {unknown}.",
        "Model": _model(description, None),
        "Command": f"```\ncrysmm convert --from {origin.code} {shlex.quote(origin.file)} --output_dir {name}\n```\n\n"
        f"With {versions(description)}; sha256 of the checkpoint: {origin.sha256}.",
        SCORES: f"- {unknown}",
        "Limits": _listed([*notes, *_limits(description)]),
        CITATION: _licence(description.config),
    }
    what = _summary(description.config, description)
    return Card(name, f"{what}, converted from {as_text(origin.file)}, a checkpoint of {origin.code}.", sections)


def _summary(config: RunConfig, description: Description) -> str:
    """What it is, without the end of the sentence."""
    backbone = config.model.name
    if not isinstance(description, ModelDescription):
        return f"encoder {backbone}, which predicts no property"
    assert isinstance(config, TrainingConfig)
    head = "" if config.head.name == "vanilla" else f", {config.head.name}"
    what = f"{config.ensemble} networks ({backbone}{head})" if config.ensemble > 1 else f"{backbone}{head}"
    names = as_text(", ".join(first_targets(description.target_names)))
    verb = "predict" if config.ensemble > 1 else "predicts"
    classes = description.scaler.classes
    if classes is None:
        return f"{what} that {verb} {names}"
    threshold = description.scaler.threshold
    labels = ", ".join(map(class_label, classes)) if threshold is None else f"1 above {threshold:g}, else 0"
    return f"{what} that {verb} the class of {names} ({labels})"


def _learned_from(config: RunConfig, sizes: Mapping[str, int]) -> str:
    how = f"pre-trained by {config.method.name}" if isinstance(config, PretrainingConfig) else "trained"
    return f"{how} on {sizes['train']:,} crystals"


def _use(name: str, description: Description) -> str:
    """Three lines."""
    if isinstance(description, ModelDescription):
        lines = ["import crysmm", f"model = crysmm.load({json.dumps(name)})", 'print(model.predict(["POSCAR"]))']
        code = "\n".join(["```python", *lines, "```"])
        return (
            "To predict the property of ordered crystals like those it was trained on, from POSCAR, CIF or xyz files:\n"
            f"\n{code}\n\nOr `crysmm predict --model {shlex.quote(name)} --files POSCAR`."
        )
    shape = shlex.join(options(description.config, SHAPE))
    return (
        "To start another training from its weights, or to teach another network:\n\n```\n"
        f"crysmm train {shape}{' ' * bool(shape)}--init_from {shlex.quote(name)} --root_dir DATA --output_dir RUN\n"
        f"crysmm train --head distilled --head.teacher {shlex.quote(name)} --root_dir DATA --output_dir RUN\n```"
    )


def _data(
    config: RunConfig, description: Description, sizes: Mapping[str, int], n_skipped: int, unit: str | None
) -> str:
    source = "records in memory" if config.root_dir is None else f"`{as_text(config.root_dir.resolve().name)}`"
    counts = f"{sizes['train']:,} to learn from, {sizes['val']:,} for validation, {sizes['test']:,} left out of both"
    how = describe_split(config) if config.ids_file is None else f"as {as_text(config.ids_file.name)} says"
    lines = [f"Crystals of {source}: {counts} (split: {how}). {n_skipped:,} rows could not be used."]
    if isinstance(description, ModelDescription):
        names = as_text(", ".join(description.target_names))
        lines.append(f"Learned: {names}{f', in {unit}' if unit else ', in the unit of the data'}.")
    else:
        lines.append("Learned from structures alone; of no property was a value seen.")
    if description.elements is not None:
        lines.append(f"The {len(description.elements)} elements in it: {', '.join(description.elements)}.")
    return "\n".join(lines)


def _model(description: Description, n_parameters: int | None) -> str:
    graph, model = description.graph, description.config.model
    changed = [
        f"{name} {value}"
        for name, value in dict(model).items()
        if name != "name" and value != type(model).model_fields[name].default
    ]
    size = "" if n_parameters is None else f", {n_parameters:,} parameters"
    return (
        f"{model.name}{size}; settings other than the defaults: {', '.join(changed) or 'none'}. Graphs are "
        f"{graph.neighbor_strategy}, cutoff {graph.cutoff:g} Angstrom, {graph.max_neighbors} neighbours, with element "
        f"features {graph.atom_features}; other graphs give other numbers. Everything else stands in `model.json`."
    )


def _command(name: str, config: RunConfig, description: Description, metrics: Mapping[str, Any]) -> str:
    program = ["crysmm", "pretrain" if isinstance(config, PretrainingConfig) else "train"]
    words = shlex.join([*program, *given(config), "--output_dir", f"runs/{name}"]).replace("\n", " ")
    epochs = f", best epoch {metrics['best_epoch']} of {metrics['epochs']}" if "best_epoch" in metrics else ""
    return (
        f"```\n{words}\n```\n\nWith {versions(description)}; {_duration(metrics['seconds'])} on "
        f"{metrics['device']} in {metrics['precision']}{epochs}."
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def versions(description: Description) -> str:
    """What a model was saved with."""
    return ", ".join(f"{name} {version}" for name, version in description.versions.items())


def _figures(description: Description, metrics: Mapping[str, Any], n_held_out: int, unit: str | None) -> Iterator[str]:
    """What has been measured on crystals the network did not learn from."""
    if not isinstance(description, ModelDescription):
        yield from _encoder_figures(metrics["quality"], n_held_out)
        return
    for split, chosen in CHOSEN.items():
        if split in metrics:
            yield from (f"{split} {line}" for line in _scores(metrics[split], chosen, f" {unit}" if unit else ""))
    yield from describe_trust(metrics.get("test", {}))


def _scores(scores: Mapping[str, Any], chosen: str, unit: str) -> Iterator[str]:
    """A line for each target of a split."""
    if "per_target" in scores:
        for name, each in list(scores["per_target"].items())[:TARGETS_SHOWN]:
            yield from (f"{as_text(name)} {line}" for line in _scores(each, chosen, unit))
        return
    on = f"on {scores['n']:,} crystals{chosen}"
    if "accuracy" in scores:
        yield (
            f"accuracy {scores['accuracy']:.4f}, ROC-AUC {_number(scores['roc_auc'])}, F1 {scores['f1']:.4f}, {on}; "
            f"always the most frequent class: accuracy {scores['accuracy_of_most_frequent']:.4f}"
        )
        return
    yield (
        f"MAE {scores['mae']:.4f}{unit}, RMSE {scores['rmse']:.4f}{unit}, R2 {_number(scores['r2'])}, {on}; always "
        f"predicting the mean: MAE {scores['mae_of_train_mean']:.4f}"
    )
    if "log10" in scores:
        yield from (f"log10 {line}" for line in _scores(scores["log10"], chosen, ""))


def _encoder_figures(quality: Mapping[str, float], n_crystals: int) -> Iterator[str]:
    """A line for each score that has a baseline, the one of symmetry that needs no decoder first."""
    for name in sorted(quality, key=lambda name: not name.startswith("knn_purity")):
        baseline = quality.get(f"{name}_baseline")
        if baseline is not None:
            yield (
                f"{name.replace('_', ' ')} {quality[name]:.4f} on {n_crystals:,} crystals, {baseline:.4f} without "
                "looking at them"
            )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _limits(description: Description) -> Iterator[str]:
    """What holds of every model of its kind."""
    if description.elements is None:
        yield "Which elements its training crystals held is not known, and nothing warns of others."
    else:
        unseen = [symbol for symbol in SYMBOLS[1 : LAST_USUAL + 1] if symbol not in description.elements]
        yield (
            f"It has seen {len(description.elements)} elements; of those up to plutonium not "
            f"{', '.join(unseen) or 'one'}."
        )
    yield (
        "The crystals are ordered; disorder, molecules, surfaces and structures far from those of the data are "
        "extrapolation, and so is another source of structures or values."
    )
    if isinstance(description, ModelDescription):
        yield (
            "It gives what its data would, errors of the method included. The figures are those of this split: where "
            "crystals of one composition are in several splits, new chemistry is predicted less well (`crysmm audit`)."
        )
    else:
        yield "It predicts no property; it is to be fine-tuned (--init_from) or to teach (--head.teacher)."


def _licence(config: RunConfig) -> str:
    papers = [PAPERS[name] for name in papers_behind(config)]
    cited = [f"- {paper.text()}{f', doi:{paper.doi}' if paper.doi else ''}" for paper in papers]
    own = f"- crysmm {__version__} (see its CITATION.cff)"
    return "\n".join([f"{LICENCE} Whoever publishes with it cites", "", *cited, own])


def _listed(lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def given(config: RunConfig, leave_out: Set[str] = frozenset()) -> list[str]:
    """The options that say what a run does: files without their folders, nothing of where it is computed.

    Args:
        config: of the run.
        leave_out: settings to leave out.
    """
    names = [name for name in type(config).model_fields if name not in (FREE_SETTINGS - PATHS) | leave_out]
    files: dict[str, Any] = {name: Path(path.name) for name in PATHS if (path := getattr(config, name)) is not None}
    if isinstance(config, TrainingConfig):
        files["head"] = config.head.model_copy(update=_names_of(config))
    return list(options(config.model_copy(update=files), names))


def _names_of(config: TrainingConfig) -> dict[str, Any]:
    """The files that the settings of a head name, without their folders."""
    head = config.head
    names: dict[str, Any] = {}
    if isinstance(head, TeacherConfig) and head.teacher is not None:
        names["teacher"] = Path(head.teacher).name
    if isinstance(head, MultimodalConfig):
        names["descriptions"] = head.descriptions and Path(head.descriptions.name)
        names["encoder"] = Path(head.encoder).name if Path(head.encoder).is_dir() else head.encoder
    return names
