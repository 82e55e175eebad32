"""Explanation of a model: from a model folder and crystals to a folder of tables and plots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import CrystalBatch, collate_crystals
from crysmm.data.estimate import BATCH_MEMORY, activations, memory_limit, oversized_rows, why_too_large
from crysmm.data.loader import batch_ends
from crysmm.data.scaler import class_label
from crysmm.data.store import Store
from crysmm.data.units import named
from crysmm.elements import ATOMIC_NUMBERS, feature_table
from crysmm.errors import InputError
from crysmm.explain import REPORT
from crysmm.explain.attribution import Explainer
from crysmm.explain.faithfulness import Check, ErrorMetric, check_rankings
from crysmm.explain.feature_names import feature_names
from crysmm.explain.plots import plot_atoms, plot_elements, plot_features, plot_features_of_crystal
from crysmm.explain.tables import (
    HEADERS,
    BatchTables,
    CrystalExplanation,
    FeatureRow,
    Totals,
    crystal_rows,
    feature_rows,
)
from crysmm.files import table_replacing, write_csv_atomic, write_json_atomic
from crysmm.inference.saved_models import LoadedModel
from crysmm.io.source import SkippedRow
from crysmm.models.crysxpp import CrysXPP
from crysmm.progress import progress_bar

BY_WEIGHT, BY_CONTRIBUTION = "feature weight", "mean absolute contribution"
IN_64_BITS = 2  # memory over that of a training step in 32 bits: explanations compute in 64


@dataclass(frozen=True)
class Explanation:
    """Explanation of the predictions for some crystals.

    Args:
        folder: Folder with the files.
        quantity: Name of the explained quantity.
        unit: Unit of the quantity, if it is known.
        totals: Sums over the crystals.
        features: All features, most important first.
        checks: Test of each ranking of the features.
        skipped: Rows that could not be used.
        crystal: Explanation of the crystal if there is only one, else None.
    """

    folder: Path
    quantity: str
    unit: str | None
    totals: Totals
    features: list[FeatureRow]
    checks: list[Check]
    skipped: list[SkippedRow]
    crystal: CrystalExplanation | None


def explain(
    model: LoadedModel,
    store: Store,
    folder: Path,
    *,
    explained: str | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Explanation:
    """Explain the predictions for all crystals of a store, and test the ranking of the features on them.

    Args:
        model: Loaded model.
        store: Crystals with graphs for this model; errors are computed from their targets, unless
            :func:`why_not_measured` gives a reason against it.
        folder: Folder to write to; it is created if necessary.
        explained: Name of a target, or value of a class; by default the first target or the last class.
        batch_size: Number of crystals computed together; fewer if they are large.
        progress: True to show progress bars.

    Raises:
        InputError: The model has no such target or class, or no crystal fits in memory.
        MissingDependencyError: captum is not installed.
    """
    column, quantity, unit = _explained_column(model, explained)
    explainer = Explainer(model.network, model.scaler, column)
    batches = _Batches(model, store, batch_size, progress)
    features = feature_names(model.settings.atom_features)
    totals = Totals(len(features))
    with ExitStack() as stack:  # the tables appear with the rest
        writers = {
            name: stack.enter_context(table_replacing(folder / name, header)) for name, header in HEADERS.items()
        }
        for batch in batches("explaining"):
            contributions = explainer.contributions(batch)
            by_crystal = BatchTables.of(batch, contributions)
            totals.add(contributions, by_crystal)
            batch_rows = crystal_rows(batch, contributions, by_crystal, features)
            for name, writer in writers.items():
                writer.writerows(batch_rows[name])
        crystal = CrystalExplanation.of(batch_rows) if totals.n_crystals == 1 else None

        backbone = model.network.backbone
        weights = backbone.selector.weight.detach().double().numpy() if isinstance(backbone, CrysXPP) else None
        # Some converted models do not record the elements of the training crystals: then all elements count as known.
        elements = ATOMIC_NUMBERS if model.description.elements is None else model.description.elements
        table = feature_table(model.settings.atom_features)
        in_training = (table[[ATOMIC_NUMBERS[symbol] for symbol in elements]] != 0).max(axis=0)
        rows = feature_rows(features, totals, weights, in_training)

        by_contribution = sorted(rows, key=lambda row: -row.mean_size)
        rankings = {BY_CONTRIBUTION: np.array([row.index for row in by_contribution])}
        if weights is not None:
            rankings = {BY_WEIGHT: np.array([row.index for row in rows]), **rankings}
        measured = why_not_measured(model, store) is None
        if measured and model.scaler.classes is None:
            measured = not np.isnan(store.targets[:, column]).all()
        metric = ErrorMetric(model.scaler, column, measured, quantity)
        candidates = np.flatnonzero(totals.feature_atoms)
        checks = check_rankings(explainer, lambda: batches("checking"), rankings, candidates, metric)
        explanation = Explanation(folder, quantity, unit, totals, rows, checks, batches.skipped, crystal)
        _write(explanation, model)
    return explanation


def explain_crystal(model: LoadedModel, crystal: Crystal, identifier: str) -> tuple[str, CrystalExplanation]:
    """Explain the prediction for one crystal without writing files.

    Args:
        model: Loaded model.
        crystal: Crystal to explain.
        identifier: Id of the crystal.

    Returns:
        Name of the explained quantity with its unit, which is the first target or the probability of the last class,
        and the explanation.

    Raises:
        InputError: The model reads descriptions, or the crystal does not fit in memory.
        MissingDependencyError: captum is not installed.
        StructureError: Atoms overlap.
    """
    refuse_other_input(model)
    column, quantity, unit = _explained_column(model, None)
    explainer = Explainer(model.network, model.scaler, column)
    backbone = model.config.model
    batch = collate_crystals([crystal], model.settings, [identifier], merge=backbone.merges_equivalent)
    sizes = len(crystal), len(batch.bond_vectors), batch.connectivity.n_triplets
    why = why_too_large(backbone, *sizes, memory_limit(torch.device("cpu")), IN_64_BITS)
    if why is not None:
        raise InputError(f"the prediction cannot be explained: {why}")
    contributions = explainer.contributions(batch)
    features = feature_names(model.settings.atom_features)
    rows = crystal_rows(batch, contributions, BatchTables.of(batch, contributions), features)
    return named([quantity], [unit])[0], CrystalExplanation.of(rows)


def refuse_other_input(model: LoadedModel) -> None:
    """Refuse a model with other input than graphs.

    Raises:
        InputError: The model reads descriptions, or the features of a potential.
    """
    potential = model.description.potential
    for other in ("descriptions" if model.description.text else None, potential and f"features by {potential.name}"):
        if other is not None:
            raise InputError(
                f"{model.folder} reads {other}, and their contribution to a prediction cannot be explained yet; "
                "explain a model that reads graphs alone"
            )


def why_not_measured(model: LoadedModel, store: Store) -> str | None:
    """Return why errors of the model cannot be computed from the targets of a store, or None."""
    names, scaler = store.target_names, model.scaler
    if len(names) != scaler.n_targets:
        predicted = ", ".join(model.description.target_names)
        return f"the model predicts {predicted}, the data have {', '.join(names) or 'no targets'}"
    if scaler.classes is None or scaler.threshold is not None:  # any value is on one side of a threshold
        return None
    unknown = sorted(set(store.targets[:, 0].tolist()).difference(scaler.classes))
    classes = ", ".join(map(class_label, scaler.classes))
    return f"{names[0]} has {class_label(unknown[0])}, the model's classes are {classes}" if unknown else None


def _explained_column(model: LoadedModel, explained: str | None) -> tuple[int, str, str | None]:
    """Return the column of the prediction to explain, the name of the quantity, and its unit if it is known."""
    classes = model.scaler.classes
    names = list(model.description.target_names) if classes is None else [class_label(value) for value in classes]
    kind, column = ("target", 0) if classes is None else ("class", len(names) - 1)
    if explained is not None:
        if explained not in names:
            raise InputError(f"--explained: the model has no {kind} {explained!r}; it has {', '.join(names)}")
        column = names.index(explained)
    if classes is not None:
        return column, f"probability of class {names[column]}", None
    return column, names[column], model.description.units[column]


class _Batches:
    """Batches of all crystals that fit in memory; each call iterates over them under a progress bar."""

    def __init__(self, model: LoadedModel, store: Store, batch_size: int, progress: bool):
        backbone = model.config.model
        self._merge = backbone.merges_equivalent
        limit = memory_limit(torch.device("cpu"))
        too_large = oversized_rows(store, backbone, limit, IN_64_BITS, merge=self._merge)
        self.skipped = [
            *store.skipped,
            *store.unlabeled,
            *(SkippedRow(store.ids[row], store.files[row], why) for row, why in too_large.items()),
        ]
        rows = np.array([row for row in range(len(store)) if row not in too_large])
        if not len(rows):
            raise InputError(f"no crystal fits in memory: {self.skipped[0].file}: {self.skipped[0].reason}")
        memory = IN_64_BITS * activations(backbone, *(sizes[rows] for sizes in store.sizes(merge=self._merge)))
        self._parts = np.split(rows, batch_ends(memory, batch_size, BATCH_MEMORY)[:-1])
        self._n_rows, self._store, self._progress = len(rows), store, progress

    def __call__(self, doing: str) -> Iterator[CrystalBatch]:
        with progress_bar(doing, self._n_rows, "crystals", shown=self._progress, leave=False) as bar:
            for rows in self._parts:
                yield self._store.batch(rows.tolist(), merge=self._merge)
                bar.update(len(rows))


def _write(explanation: Explanation, model: LoadedModel) -> None:
    """Write the tables over all crystals, the plots and ``explanation.json``."""
    folder, totals, crystal = explanation.folder, explanation.totals, explanation.crystal
    features, elements = [row.to_dict() for row in explanation.features], totals.element_rows()
    label = named([explanation.quantity], [explanation.unit])[0]
    content: dict[str, Any] = {
        "model": str(model.folder),
        "backbone": model.config.model.name,
        "explained": explanation.quantity,
        "unit": explanation.unit,
        "method": "integrated gradients by atom features, baseline without features",
        "n_crystals": totals.n_crystals,
        "n_atoms": totals.n_atoms,
        "n_skipped": len(explanation.skipped),
        "largest_residual": totals.largest_residual,
        "largest_change_from_baseline": totals.largest_change,
        "checks": [{**asdict(check), "holds": check.holds, "verdict": check.verdict()} for check in explanation.checks],
        "features": features,
        "elements": elements,
        "crystal": None if crystal is None else asdict(crystal),
    }
    write_json_atomic(folder / REPORT, content)  # first, by which a folder is known
    for name, rows in {"features.csv": features, "elements_of_all.csv": elements}.items():
        write_csv_atomic(folder / name, list(rows[0]), (list(row.values()) for row in rows))
    skipped = ((row.id, row.file, row.reason) for row in explanation.skipped)
    write_csv_atomic(folder / "skipped.csv", ["id", "file", "reason"], skipped)
    plot_features(folder / "features.png", explanation.features, label)
    plot_elements(folder / "elements.png", elements, label)
    for name, plot in {"atoms.png": plot_atoms, "features_by_crystal.png": plot_features_of_crystal}.items():
        if crystal is None:  # a plot from an earlier explanation would show another crystal
            (folder / name).unlink(missing_ok=True)
        else:
            plot(folder / name, crystal, label)
