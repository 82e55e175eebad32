"""Predicting with a trained model: structures in memory, or any number of files streamed into a table."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from crysmm.data.batch import CrystalArrays, CrystalBatch, make_batch
from crysmm.data.building import GraphedRecord, count_triplets, graph_row, in_parallel
from crysmm.data.estimate import BATCH_MEMORY, PREDICTION_SHARE, estimated_memory, in_bytes, memory_limit
from crysmm.device import resolve_device
from crysmm.engines.memory import keep_freed_memory
from crysmm.errors import InputError, StructureError
from crysmm.files import disables_bar, table_replacing, why_not_writable
from crysmm.inference.assessment import Assessment, Assessor
from crysmm.inference.frozen_network import Inference, InferencePrecision, Outputs
from crysmm.inference.intervals import COVERAGE, Calibration, read_calibration
from crysmm.inference.saved_models import LoadedModel, load_members
from crysmm.inference.table import PredictionSummary, prediction_cells, prediction_columns
from crysmm.io.inputs import source_from_structures
from crysmm.io.source import SkippedRow, Source
from crysmm.text.embeddings import TextReader
from crysmm.zoo import resolve

Result = GraphedRecord | SkippedRow
TABLE_START = "id,prediction"


def load(folder: Path | str, device: str = "auto", precision: InferencePrecision = "32") -> Predictor:
    """A model, or an ensemble, ready to predict, from the folder of its run.

    Args:
        folder: holds ``model.json`` and ``model.safetensors``, or ``ensemble.json``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``32``, or ``bf16`` for speed where numbers may differ in the third digit.

    Raises:
        ModelFolderError: the folder is damaged, not of crysmm, or its reference structures are predicted otherwise
            than when it was written.
        InputError: the device is not there.
    """
    members, checksum = load_members(folder)
    for member in members:
        member.check_references()
    width = sum(member.network.backbone.node_features for member in members)
    calibration = read_calibration(resolve(folder), checksum, members[0].scaler, width)
    return Predictor(members, calibration, device, precision)


class Predictor:
    """Predictions and embeddings of a trained model; see :func:`load`.

    A prediction depends on its structure alone: neither on the others of its batch nor on their order.

    Args:
        members: the model, or those of an ensemble, from their folders.
        calibration: of them together, if there is one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``32`` or ``bf16``.

    Attributes:
        model: the first of the members; all have its settings.
        n_members: of an ensemble; 1 for a single model.
        target_names: one a target.
        classes: the target value of each class, or None where values are predicted.
        elements: symbols of the elements of the training structures, or None where these are not known.
    """

    def __init__(
        self,
        members: Sequence[LoadedModel],
        calibration: Calibration | None = None,
        device: str = "auto",
        precision: InferencePrecision = "32",
    ):
        self.model = model = members[0]
        self.n_members = len(members)
        self.target_names = tuple(model.description.target_names)
        self.classes = model.scaler.classes
        elements = model.description.elements
        self.elements = None if elements is None else tuple(elements)
        self._device = resolve_device(device)
        self._inferences = [Inference(member.network, model.scaler, self._device, precision) for member in members]
        self._calibration = calibration
        self._memory_limit = memory_limit(self._device)
        text = model.description.text
        self._reader = None if text is None else TextReader(text, self._device)

    def predict(self, structures: Any, batch_size: int = 64) -> np.ndarray:
        """Predict structures held in memory; a model that reads text describes them on the way.

        Args:
            structures: a list (or tuple) of JARVIS ``Atoms``, pymatgen ``Structure``, ``ase.Atoms``, ``Crystal``,
                dicts of one or paths of structure files, of several kinds if need be; or a single one of these.
            batch_size: structures computed together.

        Returns:
            float64 ``[n, n_targets]`` in original units, or ``[n, n_classes]`` probabilities in the order of
            :attr:`classes`; for a single structure ``[n_targets]`` or ``[n_classes]``.

        Raises:
            StructureError: a structure cannot be used; the text says which, counted from 0, and why.
        """
        predictions = self._outputs_and_elements(_as_list(structures), batch_size)[0].predictions
        return predictions if isinstance(structures, list | tuple) else predictions[0]

    def assess(self, structures: Any, batch_size: int = 64, coverage: float = COVERAGE) -> Assessment:
        """Predict structures, and say how far to trust each prediction.

        Args:
            structures: as :meth:`predict` takes them; a single one gives one row.
            batch_size: structures computed together.
            coverage: share of the targets that the intervals are to hold, between 0 and 1.

        Returns:
            The predictions of :meth:`predict`, with intervals, the distance from the training structures, and what
            is strange about each.

        Raises:
            InputError: the coverage is not between 0 and 1.
            StructureError: a structure cannot be used; the text says which, counted from 0, and why.
        """
        assessor = self._assessor(coverage)
        return assessor.assess(*self._outputs_and_elements(_as_list(structures), batch_size))

    def embed(self, structures: Any, batch_size: int = 64) -> np.ndarray:
        """Embeddings of structures, taken as :meth:`predict` takes them.

        Returns:
            float64 ``[n, d]``, the backbone's pooled embedding of each, those of an ensemble's members side by side;
            for a single structure ``[d]``.

        Raises:
            StructureError: a structure cannot be used.
        """
        parts = [self._no_outputs().embeddings]
        for results in self._read(_as_list(structures), batch_size):
            batch = self._batch(results)
            parts.append(np.concatenate([inference.embed(batch) for inference in self._inferences], axis=1))
        embeddings = np.concatenate(parts)
        return embeddings if isinstance(structures, list | tuple) else embeddings[0]

    def outputs(self, structures: Sequence[Any], batch_size: int = 64) -> Outputs:
        """Predictions, embeddings and spread of a list of structures, taken as :meth:`predict` takes them.

        Raises:
            StructureError: a structure cannot be used.
        """
        return self._outputs_and_elements(structures, batch_size)[0]

    def _outputs_and_elements(self, structures: Sequence[Any], batch_size: int) -> tuple[Outputs, list[list[str]]]:
        """What the model gives out for structures, and the symbols of the atoms of each."""
        parts, elements = [self._no_outputs()], []
        for results in self._read(structures, batch_size):
            parts.append(self._outputs(results))
            elements += [result.record.crystal.elements for result in results]
        return Outputs.joined(parts), elements

    def _read(self, structures: Sequence[Any], batch_size: int) -> Iterator[list[GraphedRecord]]:
        """Batches of structures held in memory.

        Raises:
            StructureError: one cannot be used.
        """
        rows = source_from_structures(structures).rows()
        for results in self._batches((graph_row(row, self.model.settings) for row in rows), batch_size):
            graphed = []
            for result in results:
                if isinstance(result, SkippedRow):
                    named = isinstance(structures[int(result.id)], str | os.PathLike)
                    file = f", {result.file}" if named else ""
                    raise StructureError(f"structure {result.id} (counted from 0){file}: {result.reason}")
                if result.record.notes:
                    warnings.warn(f"{result.record.file}: {'; '.join(result.record.notes)}", stacklevel=4)
                graphed.append(result)
            yield graphed

    def _no_outputs(self) -> Outputs:
        predictions = np.empty((0, self.model.scaler.n_outputs))
        embeddings = np.empty((0, self.model.network.backbone.node_features))
        return Outputs.together([Outputs(predictions, embeddings)] * len(self._inferences))

    def _assessor(self, coverage: float) -> Assessor:
        return Assessor(self.model.scaler, self.elements, self._calibration, coverage)

    def predict_source(
        self,
        source: Source,
        output: Path | str,
        *,
        batch_size: int = 64,
        coverage: float = COVERAGE,
        jobs: int | None = None,
        progress: bool = True,
    ) -> PredictionSummary:
        """Predict every row of a source into a table, in its order, with little memory for any number of rows.

        The file appears when it is complete.

        Args:
            source: needs no targets.
            output: the CSV file to write, or to replace, with the :attr:`columns`.
            batch_size: structures computed together; fewer where they are large.
            coverage: share of the targets that the intervals are to hold.
            jobs: processes that read structures; by default one a core, for few rows this one alone.
            progress: show a bar.

        Raises:
            InputError: the source as a whole is broken, the file cannot be written, or the coverage is not between 0
                and 1.
        """
        assessor = self._assessor(coverage)
        errors = None if self._calibration is None else self._calibration.errors
        summary = PredictionSummary(Path(output), n_validation=None if errors is None else len(errors))
        _check_output(summary.output)
        hidden = disables_bar(progress)
        with (
            keep_freed_memory(self._device),
            table_replacing(summary.output, self.columns) as table,
            tqdm(total=source.n_rows, desc="predicting", unit=" structures", disable=hidden) as bar,
        ):
            for results in self._batches(in_parallel(source, self.model.settings, jobs), batch_size):
                assessment = self._assess(results, assessor, jobs, summary.undescribed)
                table.writerows(self.cells(results, assessment))
                summary.count(results, assessment, assessor)
                bar.update(len(results))
        return summary

    def assess_source(
        self,
        source: Source,
        *,
        batch_size: int = 64,
        coverage: float = COVERAGE,
        undescribed: dict[str, str] | None = None,
    ) -> Iterator[tuple[list[Result], Assessment]]:
        """Assess every row of a source, batch by batch, in its order, reading it in this process.

        Args:
            source: needs no targets.
            batch_size: structures computed together; fewer where they are large.
            coverage: share of the targets that the intervals are to hold.
            undescribed: why a description is missing is added to it by id; without it, there is a warning.

        Yields:
            The rows of a batch, read or left out with the reason, and the assessment of those that were read.

        Raises:
            InputError: the source as a whole is broken, or the coverage is not between 0 and 1.
        """
        assessor = self._assessor(coverage)
        for results in self._batches(in_parallel(source, self.model.settings, jobs=1), batch_size):
            yield results, self._assess(results, assessor, undescribed=undescribed)

    @property
    def columns(self) -> list[str]:
        """Columns of a table: ``id``, those of :mod:`crysmm.inference.table`, ``reason`` and ``note``."""
        nothing = self._assessor(COVERAGE).assess(self._no_outputs(), [])
        return ["id", *prediction_columns(self.model.scaler, self.target_names, nothing), "reason", "note"]

    def cells(self, results: Sequence[Result], assessment: Assessment) -> Iterator[list[str]]:
        """Each row of a batch under :attr:`columns`.

        ``reason`` is empty but for rows that cannot be predicted, ``note`` but for files of which there is something to
        say how they were read.

        Args:
            results: the rows, as :meth:`assess_source` gives them.
            assessment: of those that were read.
        """
        n_columns = len(self.columns) - 3
        places = iter(range(len(results)))
        for result in results:
            if isinstance(result, GraphedRecord):
                cells = prediction_cells(self.model.scaler, assessment, next(places))
                yield [result.record.id, *cells, "", "; ".join(result.record.notes)]
            else:
                yield [result.id or result.file, *[""] * n_columns, result.reason, ""]

    def _assess(
        self,
        results: Sequence[Result],
        assessor: Assessor,
        jobs: int | None = None,
        undescribed: dict[str, str] | None = None,
    ) -> Assessment:
        """That of the rows of a batch that were read."""
        graphed = [result for result in results if isinstance(result, GraphedRecord)]
        outputs = self._outputs(graphed, jobs, undescribed) if graphed else self._no_outputs()
        return assessor.assess(outputs, [result.record.crystal.elements for result in graphed])

    def _outputs(
        self, results: Sequence[GraphedRecord], jobs: int | None = None, undescribed: dict[str, str] | None = None
    ) -> Outputs:
        """Those of graphed records; why a description is missing is added to ``undescribed``, or warned of."""
        batch = self._batch(results)
        if self._reader is None:
            return self._infer(batch)
        texts, rows = self._reader.read([result.record.crystal for result in results], jobs)
        missing = {
            result.record.id: row.reason or "" for result, row in zip(results, rows, strict=True) if row.text is None
        }
        if undescribed is not None:
            undescribed.update(missing)
        elif missing:
            warnings.warn(f"predicted without a description: {missing}", stacklevel=4)
        return self._infer(replace(batch, texts=torch.from_numpy(texts)))

    def _infer(self, batch: CrystalBatch) -> Outputs:
        return Outputs.together([inference.outputs(batch) for inference in self._inferences])

    def _batches(self, results: Iterable[Result], batch_size: int) -> Iterator[list[Result]]:
        """Results in their order, together while their number and their memory allow it."""
        batch: list[Result] = []
        n_edges = n_triplets = 0
        for result in results:
            edges = triplets = 0
            if isinstance(result, GraphedRecord):
                edges, triplets = self._sizes(result)
                if self._memory(edges, triplets) > self._memory_limit:
                    result = self._too_large(result, self._memory(edges, triplets))
                    edges = triplets = 0
            full = len(batch) == batch_size or self._memory(n_edges + edges, n_triplets + triplets) > BATCH_MEMORY
            if batch and full:
                yield batch
                batch, n_edges, n_triplets = [], 0, 0
            batch.append(result)
            n_edges, n_triplets = n_edges + edges, n_triplets + triplets
        if batch:
            yield batch

    def _sizes(self, result: GraphedRecord) -> tuple[int, int]:
        """Edges and triplets that are computed."""
        if self.model.config.model.merges_equivalent:
            return result.alike.merged_sizes(result.edges)
        return len(result.edges), count_triplets(len(result.record.crystal), result.edges)

    def _memory(self, n_edges: int, n_triplets: int) -> float:
        return PREDICTION_SHARE * estimated_memory(self.model.config.model, n_edges, n_triplets)

    def _too_large(self, result: GraphedRecord, memory: float) -> SkippedRow:
        record = result.record
        reason = (
            f"too large: {len(record.crystal)} atoms with {len(result.edges)} bonds need about {in_bytes(memory)} of "
            f"memory, there are {in_bytes(self._memory_limit)}"
        )
        return SkippedRow(record.id, record.file, reason)

    def _batch(self, results: Sequence[GraphedRecord]) -> CrystalBatch:
        crystals = [result.record.crystal for result in results]
        alike = [result.alike for result in results]
        arrays = CrystalArrays.join(crystals, [result.edges for result in results], alike)
        ids = [result.record.id for result in results]
        return make_batch(arrays, self.model.settings, ids, merge=self.model.config.model.merges_equivalent)


def _as_list(structures: Any) -> Sequence[Any]:
    """Structures as a list, where a single one may be given."""
    return structures if isinstance(structures, list | tuple) else [structures]


def _check_output(path: Path) -> None:
    """Refuse an output file that cannot be written, or is something else, before anything is computed."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a CSV file to write")
    why = why_not_writable(path.parent)
    if why is not None:
        raise InputError(f"{path} cannot be written: {why}")
    if path.exists() and not _is_replaceable(path):
        raise InputError(f"{path} is there and is no table of predictions; move it away, or give another name")


def _is_replaceable(path: Path) -> bool:
    """Whether a file is empty or begins as a table of predictions."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        start = file.read(len(TABLE_START))
    return start in ("", TABLE_START)
