"""Explaining a model on some crystals: from a model folder and an input to a folder of tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from crysmm.crystal import Crystal
from crysmm.data.batch import CrystalArrays, CrystalBatch, make_batch
from crysmm.data.building import count_triplets
from crysmm.data.estimate import BATCH_MEMORY, activations, memory_limit, oversized_rows, why_too_large
from crysmm.data.loader import batch_ends
from crysmm.data.scaler import TargetScaler, class_label
from crysmm.data.store import Store
from crysmm.elements import ATOMIC_NUMBERS, feature_table
from crysmm.errors import InputError
from crysmm.explain.attribution import Explainer
from crysmm.explain.charts import plot_atoms, plot_elements, plot_features, plot_features_of_crystal
from crysmm.explain.faithfulness import Check, ErrorMeasure, check_rankings
from crysmm.explain.feature_names import feature_names
from crysmm.explain.tables import (
    BatchTables,
    CrystalExplanation,
    CrystalTables,
    FeatureRow,
    Totals,
    crystal_rows,
    element_rows,
    feature_rows,
    write_rows,
)
from crysmm.files import disables_bar, write_csv_atomic, write_json_atomic
from crysmm.graphs.neighbors import find_edges
from crysmm.inference.saved_models import LoadedModel
from crysmm.io.source import SkippedRow
from crysmm.models.crysxpp import CrysXPP

BY_WEIGHT, BY_CONTRIBUTION = "feature weight", "mean absolute contribution"


@dataclass(frozen=True)
class Explanation:
    """What was found, besides the tables.

    Args:
        folder: where everything was written.
        quantity: what was explained.
        totals: sums over the crystals.
        features: every feature, the most important first.
        checks: of each ranking of the features.
        skipped: rows that could not be used.
        crystal: all about the crystal, where it is the only one; else None.
    """

    folder: Path
    quantity: str
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
    """Explain the predictions for all crystals of a store, and check the ranking of the features on them.

    Args:
        model: from its folder.
        store: made with the model's graph settings; its targets measure errors, unless something speaks against it
            (:func:`why_not_measured`).
        folder: files are written there; it is made if need be.
        explained: the name of a target, or the value of a class; by default the first target, or the last class.
        batch_size: crystals computed together; fewer where they are large.
        progress: show bars.

    Raises:
        InputError: the model has no such target or class, or no crystal fits in memory.
        MissingDependencyError: captum is not installed.
    """
    column, quantity = _explained(model, explained)
    explainer = Explainer(model.network, model.scaler, column)
    batches = _Batches(model, store, batch_size, progress)
    features = feature_names(model.settings.atom_features)
    totals = Totals(len(features))
    with CrystalTables(folder) as tables:
        for batch in batches("explaining"):
            contributions = explainer.contributions(batch)
            by_crystal = BatchTables.of(batch, contributions)
            totals.add(contributions, by_crystal)
            of_batch = crystal_rows(batch, contributions, by_crystal, features)
            tables.write(of_batch)
    crystal = CrystalExplanation.of(of_batch) if totals.n_crystals == 1 else None
    rows = feature_rows(features, totals, _weights(model), _in_training(model))
    measure = ErrorMeasure(model.scaler, column, why_not_measured(model, store) is None, quantity)
    candidates = np.flatnonzero(totals.feature_atoms)
    checks = check_rankings(explainer, lambda: batches("checking"), _rankings(rows), candidates, measure)
    explanation = Explanation(folder, quantity, totals, rows, checks, batches.skipped, crystal)
    _write(explanation, model)
    return explanation


def explain_crystal(model: LoadedModel, crystal: Crystal, identifier: str) -> tuple[str, CrystalExplanation]:
    """Explain the prediction for one crystal, without writing anything.

    Args:
        model: from its folder.
        crystal: the structure.
        identifier: what it is called.

    Returns:
        What is explained, the first target or the probability of the last class, and the explanation.

    Raises:
        InputError: the model reads descriptions, or the crystal does not fit in memory.
        MissingDependencyError: captum is not installed.
        StructureError: atoms overlap.
    """
    refuse_texts(model)
    column, quantity = _explained(model, None)
    explainer = Explainer(model.network, model.scaler, column)
    edges = find_edges(crystal, model.settings)
    n_triplets = count_triplets(len(crystal), edges)
    limit = memory_limit(torch.device("cpu"))
    why = why_too_large(model.config.model, len(crystal), len(edges), n_triplets, limit)
    if why is not None:
        raise InputError(f"the prediction cannot be explained: {why}")
    batch = make_batch(CrystalArrays.join([crystal], [edges]), model.settings, [identifier])
    contributions = explainer.contributions(batch)
    rows = crystal_rows(
        batch, contributions, BatchTables.of(batch, contributions), feature_names(model.settings.atom_features)
    )
    return quantity, CrystalExplanation.of(rows)


def refuse_texts(model: LoadedModel) -> None:
    """Refuse a model of whose predictions graphs are not all.

    Raises:
        InputError: it reads descriptions.
    """
    if model.description.text is not None:
        raise InputError(
            f"{model.folder} reads descriptions beside the graphs, whose share of a prediction cannot be explained "
            "yet; explain a model of the same backbone with another head"
        )


def why_not_measured(model: LoadedModel, store: Store) -> str | None:
    """What keeps the targets of a store from measuring the model's errors; None where nothing does."""
    names, scaler = store.target_names, model.scaler
    if len(names) != scaler.n_targets:
        learned = ", ".join(model.description.target_names)
        return f"the model predicts {learned}, the data have {', '.join(names) or 'no targets'}"
    if scaler.classes is None or scaler.threshold is not None:
        return None
    strange = sorted(set(store.targets[:, 0].tolist()).difference(scaler.classes))
    classes = ", ".join(map(class_label, scaler.classes))
    return f"{names[0]} has {class_label(strange[0])}, the model's classes are {classes}" if strange else None


def _explained(model: LoadedModel, explained: str | None) -> tuple[int, str]:
    """The column of the prediction to explain, and what it is called."""
    scaler: TargetScaler = model.scaler
    if scaler.classes is None:
        names = list(model.description.target_names)
        column = _choose(names, explained, default=0, kind="target")
        return column, names[column]
    labels = [class_label(value) for value in scaler.classes]
    column = _choose(labels, explained, default=len(labels) - 1, kind="class")
    return column, f"probability of class {labels[column]}"


def _choose(names: list[str], chosen: str | None, default: int, kind: str) -> int:
    if chosen is None:
        return default
    if chosen not in names:
        raise InputError(f"--explained: the model has no {kind} {chosen!r}; it has {', '.join(names)}")
    return names.index(chosen)


class _Batches:
    """All crystals of a store that fit in memory, batch by batch, as often as asked for, under a bar."""

    def __init__(self, model: LoadedModel, store: Store, batch_size: int, progress: bool):
        too_large = oversized_rows(store, model.config.model, memory_limit(torch.device("cpu")))
        self.skipped = [
            *store.skipped,
            *(SkippedRow(store.ids[row], store.files[row], why) for row, why in too_large.items()),
        ]
        rows = np.array([row for row in range(len(store)) if row not in too_large])
        if not len(rows):
            raise InputError(f"no crystal fits in memory: {self.skipped[0].file}: {self.skipped[0].reason}")
        in_64_bits = 2 * activations(model.config.model, store.n_edges[rows], store.n_triplets[rows])
        self._parts = np.split(rows, batch_ends(in_64_bits, batch_size, BATCH_MEMORY)[:-1])
        self._n_rows, self._store, self._progress = len(rows), store, progress

    def __call__(self, doing: str) -> Iterator[CrystalBatch]:
        hidden = disables_bar(self._progress)
        with tqdm(total=self._n_rows, desc=doing, unit=" crystals", disable=hidden, leave=False) as bar:
            for rows in self._parts:
                yield self._store.batch(rows.tolist())
                bar.update(len(rows))


def _weights(model: LoadedModel) -> np.ndarray | None:
    """CrysXPP's feature weights."""
    backbone = model.network.backbone
    return backbone.selector.weight.detach().double().numpy() if isinstance(backbone, CrysXPP) else None


def _in_training(model: LoadedModel) -> np.ndarray:
    """Which features an element of the training crystals has; where these are not known, any element."""
    elements = model.description.elements
    numbers = [ATOMIC_NUMBERS[symbol] for symbol in (ATOMIC_NUMBERS if elements is None else elements)]
    return (feature_table(model.settings.atom_features)[numbers] != 0).max(axis=0)


def _rankings(rows: list[FeatureRow]) -> dict[str, np.ndarray]:
    """Columns of the features, the most important first, by each thing they can be ranked by."""
    by_contribution = sorted(rows, key=lambda row: -row.mean_size)
    rankings = {BY_CONTRIBUTION: np.array([row.index for row in by_contribution])}
    if rows[0].weight is not None:
        rankings = {BY_WEIGHT: np.array([row.index for row in rows]), **rankings}
    return rankings


def _write(explanation: Explanation, model: LoadedModel) -> None:
    folder, totals = explanation.folder, explanation.totals
    features, elements = [row.to_dict() for row in explanation.features], element_rows(totals)
    write_rows(folder / "features.csv", features)
    write_rows(folder / "elements_of_all.csv", elements)
    write_csv_atomic(
        folder / "skipped.csv",
        ["id", "file", "reason"],
        ((row.id, row.file, row.reason) for row in explanation.skipped),
    )
    plot_features(folder / "features.png", explanation.features, explanation.quantity)
    plot_elements(folder / "elements.png", elements, explanation.quantity)
    _plot_crystal(explanation)
    content: dict[str, Any] = {
        "model": str(model.folder),
        "backbone": model.config.model.name,
        "explained": explanation.quantity,
        "method": "integrated gradients by atom features, baseline without features",
        "n_crystals": totals.n_crystals,
        "n_atoms": totals.n_atoms,
        "n_skipped": len(explanation.skipped),
        "largest_residual": totals.largest_residual,
        "largest_change_from_baseline": totals.largest_change,
        "checks": [check.to_dict() for check in explanation.checks],
        "features": features,
        "elements": elements,
        "crystal": None if explanation.crystal is None else explanation.crystal.to_dict(),
    }
    write_json_atomic(folder / "explanation.json", content)


def _plot_crystal(explanation: Explanation) -> None:
    """The pictures of a crystal that is the only one; those that an earlier explanation left would be of another."""
    plots = {"atoms.png": plot_atoms, "features_by_crystal.png": plot_features_of_crystal}
    for name, plot in plots.items():
        if explanation.crystal is None:
            (explanation.folder / name).unlink(missing_ok=True)
        else:
            plot(explanation.folder / name, explanation.crystal, explanation.quantity)
