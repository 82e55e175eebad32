"""Prediction with trained models: structures held in memory, or rows of any number as a stream of batches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Set, ValuesView
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from crysmm.data.batch import CrystalArrays, CrystalBatch, make_batch
from crysmm.data.building import GraphedRecord, count_triplets, graph_row, in_parallel
from crysmm.data.estimate import BATCH_MEMORY, PREDICTION_FRACTION, estimated_memory, memory_limit, why_too_large
from crysmm.device import resolve_device
from crysmm.errors import InputError
from crysmm.inference import COVERAGE
from crysmm.inference.assessment import Assessment, elements_of_all
from crysmm.inference.frozen_network import InferencePrecision, Outputs
from crysmm.inference.model_teacher import installed_teacher
from crysmm.inference.prediction_table import prediction_cells, prediction_columns
from crysmm.inference.property_model import PropertyModel
from crysmm.io.inputs import StructuresSource, unusable_structure
from crysmm.io.source import SkippedRow, Source
from crysmm.teachers.potential_reader import PotentialReader
from crysmm.text.embeddings import TextReader
from crysmm.zoo import resolve_group

Result = GraphedRecord | SkippedRow
Assess = Callable[[Sequence[Outputs], Sequence[Sequence[str]]], Assessment]


class Loading(NamedTuple):
    """Arguments of :func:`load`, with which another process can load the same model."""

    folder: Path | str
    device: str
    precision: InferencePrecision


def load(folder: Path | str, device: str = "auto", precision: InferencePrecision = "32") -> Predictor:
    """Load a trained model, an ensemble, or a group of shipped models to predict with.

    Args:
        folder: Folder with ``model.json`` and ``model.safetensors``, or with ``ensemble.json``; or the name of a
            shipped model, or ``jarvis``, for the properties of all ``jarvis-`` models at once.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``32``, or ``bf16`` for speed where numbers may differ in the third digit.

    Raises:
        ModelFolderError: The folder is damaged or was not written by crysmm, or the predictions for its reference
            structures have changed since it was written.
        InputError: The device is not available, or the precision is neither.
    """
    on = resolve_device(device)
    if precision not in get_args(InferencePrecision):
        raise InputError(f"precision: expected {' or '.join(get_args(InferencePrecision))}, got {precision!r}")
    models = [PropertyModel.load(model, on, precision) for model in resolve_group(folder)]
    return Predictor(models, on, Loading(folder, device, precision))


class Predictor:
    """Predictions and embeddings of trained models; see :func:`load`.

    A prediction depends on its structure alone, neither on the others in its batch nor on their order.

    Args:
        models: One model, or several of further properties that read the same graphs, no texts, and predict values.
        device: Device of the models.
        loading: How the models were loaded; None if they were made in this process.

    Attributes:
        device: Device of the models.
        model: First member of the first model; all have its graph settings.
        models: Models whose predictions stand side by side.
        n_networks: Number of networks, those of an ensemble or of several models together.
        target_names: Names of the targets.
        units: Unit of each target, or None if unknown.
        classes: Target value of each class, or None if values are predicted.
        elements: Symbols of the elements in the training structures of all models, or None if unknown.
    """

    def __init__(
        self, models: Sequence[PropertyModel], device: torch.device | str = "cpu", loading: Loading | None = None
    ):
        self.models = models
        self.model = models[0].members[0]
        self.n_networks = sum(len(model.members) for model in models)
        self.target_names = tuple(name for model in models for name in model.description.target_names)
        self.units = tuple(unit for model in models for unit in model.description.units)
        self.classes = self.model.scaler.classes
        self.elements = elements_of_all([model.description.elements for model in models])
        self.device, self.loading = torch.device(device), loading
        self._memory_limit = memory_limit(self.device)
        text = self.model.description.text
        self._reader = None if text is None else TextReader(text, self.device)
        potential = self.model.description.potential
        self._potential = None if potential is None else PotentialReader(potential, installed_teacher, self.device)

    def predict(self, structures: Any, batch_size: int = 64) -> np.ndarray:
        """Predict structures held in memory; a model that reads texts generates their descriptions.

        Args:
            structures: A list, a tuple, an array, a column of a ``DataFrame``, a set or an iterator of JARVIS
                ``Atoms``, pymatgen ``Structure``, ``ase.Atoms``, ``Crystal``, dicts of one or paths of structure files,
                also mixed; or a single one of these.
            batch_size: Number of structures in a batch.

        Returns:
            Predictions in original units, float64 ``[n, n_targets]``, or probabilities in the order of
            :attr:`classes`, ``[n, n_classes]``; for a single structure ``[n_targets]`` or ``[n_classes]``.

        Raises:
            StructureError: A structure cannot be used; the message has its number, counted from 0, and the reason.
        """
        outputs, _ = self._outputs_and_elements(structures, batch_size)
        predictions = np.concatenate([own.predictions for own in outputs], axis=1)
        return predictions if are_several(structures) else predictions[0]

    def assess(self, structures: Any, batch_size: int = 64, coverage: float = COVERAGE) -> Assessment:
        """Predict structures, with intervals and distances from the training structures.

        Args:
            structures: Structures as :meth:`predict` accepts them; a single one gives one row.
            batch_size: Number of structures in a batch.
            coverage: Fraction of the targets inside the intervals, between 0 and 1.

        Returns:
            The predictions of :meth:`predict`, with intervals, the distance from the training structures, and notes
            on what is unusual about each structure.

        Raises:
            InputError: The coverage is not between 0 and 1.
            StructureError: A structure cannot be used; the message has its number, counted from 0, and the reason.
        """
        assess = self._assess(coverage)
        return assess(*self._outputs_and_elements(structures, batch_size))

    def embed(self, structures: Any, batch_size: int = 64) -> np.ndarray:
        """Compute the pooled embeddings of structures.

        Args:
            structures: Structures as :meth:`predict` accepts them.
            batch_size: Number of structures in a batch.

        Returns:
            Embeddings, float64 ``[n, d]``, concatenated over all networks; ``[d]`` for a single structure.

        Raises:
            StructureError: A structure cannot be used.
        """
        parts = [np.concatenate([own.embeddings for own in self._outputs([])], axis=1)]
        for results in self._read(structures, batch_size):
            batch = self._batch(results)
            parts.append(np.concatenate([model.embed(batch) for model in self.models], axis=1))
        embeddings = np.concatenate(parts)
        return embeddings if are_several(structures) else embeddings[0]

    @property
    def checksum(self) -> str:
        """Checksums of the weights of its models, in one line."""
        return " ".join(model.checksum for model in self.models)

    @property
    def has_calibration(self) -> bool:
        """True if all its models were calibrated; without, there are no intervals, and no distances are checked."""
        return all(model.calibration is not None for model in self.models)

    @property
    def n_validation(self) -> int | None:
        """Number of structures that intervals are calibrated on, those of the rarest target; None without intervals."""
        labels = [model.calibration.fewest_labels for model in self.models if model.calibration is not None]
        return min((number for number in labels if number is not None), default=None)

    def assess_source(
        self, source: Source, *, undescribed: dict[str, str] | None = None
    ) -> Iterator[tuple[list[Result], Assessment]]:
        """Assess every row of a source in batches, in its order, reading it in this process.

        Args:
            source: Rows of structures; targets are not needed.
            undescribed: As in :meth:`assess_rows`.

        Yields:
            What :meth:`assess_rows` yields.

        Raises:
            InputError: The source as a whole is broken.
        """
        yield from self.assess_rows(in_parallel(source, self.model.settings, jobs=1), undescribed=undescribed)

    def assess_rows(
        self,
        rows: Iterable[Result],
        *,
        batch_size: int = 64,
        coverage: float = COVERAGE,
        jobs: int | None = None,
        undescribed: dict[str, str] | None = None,
    ) -> Iterator[tuple[list[Result], Assessment]]:
        """Assess rows in batches, in their order.

        Args:
            rows: Rows that were read, with graphs by the settings of :attr:`model`, or skipped.
            batch_size: Number of structures in a batch; smaller if they are large.
            coverage: Fraction of the targets inside the intervals, between 0 and 1.
            jobs: Number of structures described at a time, for a model that reads texts; by default one per core.
            undescribed: Receives the reason why a description is missing, by id; if None, there is a warning.

        Yields:
            The rows of a batch, read or skipped, and the assessment of the rows that were read. A row whose prediction
            is not a finite number is skipped.

        Raises:
            InputError: The coverage is not between 0 and 1.
        """
        assess = self._assess(coverage)
        for results in self._batches(rows, batch_size):
            graphed = {place: result for place, result in enumerate(results) if isinstance(result, GraphedRecord)}
            outputs = self._outputs(list(graphed.values()), jobs, undescribed)
            is_finite = np.isfinite(np.concatenate([own.predictions for own in outputs], axis=1)).all(axis=1)
            for place, row in zip(list(graphed), is_finite, strict=True):
                if not row:  # no ranking could place it
                    record = graphed.pop(place).record
                    results[place] = SkippedRow(record.id, record.file, "the prediction is not a finite number")
            elements = [result.record.crystal.elements for result in graphed.values()]
            yield results, assess([own.take(is_finite) for own in outputs], elements)

    @property
    def columns(self) -> list[str]:
        """Columns of a table: ``id``, those of :mod:`crysmm.inference.prediction_table`, ``reason`` and ``note``."""
        empty = self._assess(COVERAGE)(self._outputs([]), [])
        columns = prediction_columns(self.model.scaler, self.target_names, empty, self.units)
        return ["id", *columns, "reason", "note"]

    def cells(self, results: Sequence[Result], assessment: Assessment) -> Iterator[list[str]]:
        """Yield the cells of each row of a batch, in the order of :attr:`columns`.

        ``reason`` is empty except for rows that cannot be predicted, ``note`` except for files with a note on how they
        were read.

        Args:
            results: Rows of the batch, as :meth:`assess_rows` yields them.
            assessment: Assessment of the rows that were read.
        """
        # The assessment has a row only for the results that were read.
        n_columns = len(prediction_columns(self.model.scaler, self.target_names, assessment, self.units))
        places = iter(range(len(results)))
        for result in results:
            if isinstance(result, GraphedRecord):
                cells = prediction_cells(self.model.scaler, assessment, next(places), self.units)
                yield [result.record.id, *cells, "", "; ".join(result.record.notes)]
            else:
                yield [result.id or result.file, *[""] * n_columns, result.reason, ""]

    def _assess(self, coverage: float) -> Assess:
        """Return a function that assesses crystals from the outputs of each model and the symbols of their atoms.

        Raises:
            InputError: The coverage is not between 0 and 1.
        """
        assessors = [model.assessor(coverage) for model in self.models]
        names = [", ".join(model.description.target_names) for model in self.models]

        def assess(outputs: Sequence[Outputs], elements: Sequence[Sequence[str]]) -> Assessment:
            n_atoms = np.array([len(symbols) for symbols in elements])
            pairs = zip(assessors, outputs, strict=True)
            return Assessment.join(names, [assessor.assess(own, elements, n_atoms) for assessor, own in pairs])

        return assess

    def _outputs_and_elements(self, structures: Any, batch_size: int) -> tuple[list[Outputs], list[list[str]]]:
        """Return the outputs of each model for structures held in memory, and the symbols of their atoms."""
        parts, elements = [self._outputs([])], []  # an empty part, as np.concatenate needs at least one array
        for results in self._read(structures, batch_size):
            parts.append(self._outputs(results))
            elements += [result.record.crystal.elements for result in results]
        return [Outputs.concatenate(batches) for batches in zip(*parts, strict=True)], elements

    def _read(self, structures: Any, batch_size: int) -> Iterator[list[GraphedRecord]]:
        """Read structures held in memory in batches; a single structure is a batch of one.

        Raises:
            StructureError: A structure cannot be used.
        """
        structures = as_list(structures)
        rows = StructuresSource(structures).rows()
        for results in self._batches((graph_row(row, self.model.settings) for row in rows), batch_size):
            graphed = []
            for result in results:
                if isinstance(result, SkippedRow):
                    is_path = isinstance(structures[int(result.id)], str | os.PathLike)
                    raise unusable_structure(result.id, result.reason, result.file if is_path else None)
                if result.record.notes:
                    warnings.warn(f"{result.record.file}: {'; '.join(result.record.notes)}", stacklevel=4)
                graphed.append(result)
            yield graphed

    def _batches(self, results: Iterable[Result], batch_size: int) -> Iterator[list[Result]]:
        """Group results into batches, in their order, limited in number and in estimated memory.

        A structure that does not fit in memory on its own becomes a skipped row.
        """
        model = self.model.config.model
        batch: list[Result] = []
        n_edges = n_triplets = 0
        for result, edges, triplets in map(self._prepared, results):
            memory = PREDICTION_FRACTION * estimated_memory(model, n_edges + edges, n_triplets + triplets)
            if batch and (len(batch) == batch_size or memory > BATCH_MEMORY):
                yield batch
                batch, n_edges, n_triplets = [], 0, 0
            batch.append(result)
            n_edges, n_triplets = n_edges + edges, n_triplets + triplets
        if batch:
            yield batch

    def _prepared(self, result: Result) -> tuple[Result, int, int]:
        """Add the features of a potential to a row if the model reads them, and count edges and triplets to compute.

        A row that is too large for memory, or that the potential cannot describe, becomes a skipped row.
        """
        if not isinstance(result, GraphedRecord):
            return result, 0, 0
        model, n_atoms = self.model.config.model, len(result.record.crystal)
        if model.merges_equivalent:
            n_edges, n_triplets = result.classes.merged_sizes(result.edges)
        else:
            n_edges, n_triplets = len(result.edges), count_triplets(n_atoms, result.edges)
        why = why_too_large(model, n_atoms, n_edges, n_triplets, self._memory_limit, PREDICTION_FRACTION)
        if why is not None:
            return SkippedRow(result.record.id, result.record.file, why), 0, 0
        if self._potential is not None:
            features = self._potential.read(result.record.crystal)
            if isinstance(features, str):
                return SkippedRow(result.record.id, result.record.file, features), 0, 0
            result = result._replace(potential_features=features)
        return result, n_edges, n_triplets

    def _outputs(
        self, results: Sequence[GraphedRecord], jobs: int | None = None, undescribed: dict[str, str] | None = None
    ) -> list[Outputs]:
        """Compute the outputs of each model for one batch, which may be empty.

        Reasons for missing descriptions go to ``undescribed`` if it is given, else into a warning.
        """
        if not results:
            return [model.outputs(None) for model in self.models]
        batch = self._batch(results)
        if self._reader is not None:
            texts, rows = self._reader.read([result.record.crystal for result in results], jobs)
            batch = replace(batch, texts=torch.from_numpy(texts))
            pairs = zip(results, rows, strict=True)
            missing = {result.record.id: row.reason or "" for result, row in pairs if row.text is None}
            if undescribed is not None:
                undescribed.update(missing)
            elif missing:
                warnings.warn(f"predicted without a description: {missing}", stacklevel=4)
        return [model.outputs(batch) for model in self.models]

    def _batch(self, results: Sequence[GraphedRecord]) -> CrystalBatch:
        crystals = [result.record.crystal for result in results]
        classes = [result.classes for result in results]
        arrays = CrystalArrays.join(crystals, [result.edges for result in results], classes)
        ids = [result.record.id for result in results]
        batch = make_batch(arrays, self.model.settings, ids, merge=self.model.config.model.merges_equivalent)
        features = [result.potential_features for result in results if result.potential_features is not None]
        return replace(batch, potential_features=torch.from_numpy(np.concatenate(features))) if features else batch


def are_several(structures: Any) -> bool:
    """Return True for what holds or yields structures; other sequences may be one structure, of its sites."""
    several = list | tuple | Set | ValuesView | Iterator
    return isinstance(structures, several) or getattr(structures, "ndim", None) == 1


def as_list(structures: Any) -> list[Any]:
    """Return structures as a list, which has one element if they are a single one."""
    if isinstance(structures, Iterator):  # may yield one object again and again, changed in between
        return list(map(deepcopy, structures))
    return list(structures) if are_several(structures) else [structures]
