"""Intervals for a model that was trained before there were any, from the validation split of its run."""

from __future__ import annotations

from pathlib import Path

from crysmm.audit.leakage import read_run
from crysmm.inference.assessment import Assessor
from crysmm.inference.domain import rows_to_keep, training_crystals
from crysmm.inference.intervals import COVERAGE, Calibration
from crysmm.inference.predictor import Predictor
from crysmm.inference.saved_models import load_members
from crysmm.runs.metrics import Metrics, judge
from crysmm.runs.run_folder import RunFolder


def calibrate(folder: Path, root_dir: Path | None = None, *, device: str = "auto", progress: bool = True) -> Metrics:
    """Write ``calibration.safetensors`` into the folder of a run; nothing else in it is changed.

    Args:
        folder: of a run of ``crysmm train``.
        root_dir: the structures it has learned from, if they are not where they were.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: show bars.

    Returns:
        How good intervals and notes are on the test split (see :func:`judge`); empty without one.

    Raises:
        InputError: the folder is not one of a run, or the structures are not those it has learned from.
        ModelFolderError: the model in it is damaged.
    """
    config, store, split = read_run(RunFolder(folder), root_dir, progress=progress)
    members, checksum = load_members(folder)
    for member in members:
        member.check_references()
    predictor = Predictor(members, device=device)
    scaler = predictor.model.scaler

    kept = rows_to_keep(split.train, config.random_seed)
    val = predictor.outputs([store.crystal(row) for row in split.val])
    calibration = Calibration.of(
        scaler,
        predictor.embed([store.crystal(row) for row in kept]),
        training_crystals(store, kept),
        store.targets[split.val],
        val.predictions,
        val.embeddings,
    )
    calibration.write(folder, checksum)
    if not split.test:
        return {}
    crystals = [store.crystal(row) for row in split.test]
    assessor = Assessor(scaler, predictor.elements, calibration, COVERAGE)
    assessment = assessor.assess(predictor.outputs(crystals), [crystal.elements for crystal in crystals])
    return judge(assessment, store.targets[split.test], store.target_names, len(split.val))
