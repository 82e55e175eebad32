"""Contributions to the JARVIS-Leaderboard: folders with predictions, ``metadata.json`` and ``run.sh``.

Choudhary et al., npj Comput. Mater. 10, 93 (2024).
"""

from __future__ import annotations

import csv
import io
import math
import platform
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from crysmm.config.training import TrainingConfig
from crysmm.data.split import read_ids
from crysmm.errors import InputError, first_of
from crysmm.files import replacing, write_json_atomic
from crysmm.inference.prediction_table import read_predictions
from crysmm.io.inputs import open_source
from crysmm.processes import run_on_first
from crysmm.publish.benchmark import DATA, ENDING, IDS, METRICS, PACKAGE, RUN, Benchmark, run_settings
from crysmm.publish.submission import (
    SPLIT,
    VALUES,
    describe_steps,
    filled_in,
    write_data,
    write_script,
)
from crysmm.runs.card_text import given, versions
from crysmm.runs.run_folder import RunFolder
from crysmm.training.train import train

CONTRIBUTIONS = "contributions"
DIGITS = 4  # to which the leaderboard rounds scores
TOLERANCE = 1e-6  # relative and absolute difference up to which two targets count as equal
REPOSITORY = "https://github.com/usnistgov/jarvis_leaderboard"
METADATA, SCRIPT = "metadata.json", "run.sh"
PLACEHOLDERS: dict[str, Any] = {
    "team_name": "YOUR TEAM",
    "author_email": "you@example.org",
    "project_url": "https://example.org/your-paper",
    "git_url": ["https://example.org/your-code"],
    "database_version": "VERSION OF THE DATA SET",
    "hardware_used": "YOUR MACHINE",
}
"""Values of the keys of ``metadata.json`` that a run does not know."""


def train_on_benchmark(benchmark: Benchmark, config: TrainingConfig) -> RunFolder:
    """Train on a benchmark's split; the test split is predicted once, at the end.

    Args:
        benchmark: Benchmark with a validation split.
        config: Settings; ``root_dir`` holds the structures, and ``output_dir`` gets the run and its data.

    Raises:
        InputError: A setting, the structures or the folder cannot be used.
    """
    root_dir = config.root_dir
    assert root_dir is not None
    assert config.output_dir is not None
    run, data, ids = RunFolder(config.output_dir / RUN), config.output_dir / DATA, config.output_dir / IDS
    settings = run_settings(benchmark, config)

    def prepare() -> None:
        run.check(settings)
        if not (config.resume and data.is_file()):
            source = open_source(root_dir, id_key=config.id_key, file_format=config.file_format, needs_targets=False)
            values = {**benchmark.train, **benchmark.val, **benchmark.test}
            write_data(source.rows(), benchmark.target, values, data, progress=config.progress)
        write_json_atomic(ids, benchmark.ids())

    run_on_first(settings, prepare)
    train(settings)
    return run


def command_lines(benchmark: Benchmark, config: TrainingConfig, *, from_run: bool) -> str:
    """Return the command lines that make a contribution again.

    Args:
        benchmark: Benchmark of the contribution.
        config: Settings of the user or, if ``from_run`` is True, those of the finished run.
        from_run: True for a finished run of ``crysmm train``, which is repeated first.
    """
    making = ["crysmm", "leaderboard", "--benchmark", benchmark.name]
    if not from_run:
        return shlex.join([*making, *given(config, SPLIT | VALUES), "--output_dir", "runs/benchmark"])
    training = ["crysmm", "train", *given(config), "--output_dir", "runs/benchmark"]
    making += ["--run", "runs/benchmark", "--output_dir", "runs"]
    return f"{shlex.join(training)}\n{shlex.join(making)}"


@dataclass(frozen=True)
class Contribution:
    """A contribution that has been written.

    Args:
        folder: Folder of the contribution.
        score: Score on the test split, as the leaderboard computes it from the files.
        placeholders: Keys of ``metadata.json`` that the user has to fill in.
        kept: Names of files that were edited and are left unchanged.
    """

    folder: Path
    score: float
    placeholders: list[str]
    kept: list[str]


def write_contribution(
    benchmark: Benchmark,
    run: RunFolder,
    command: str,
    folder: Path,
    name: str,
    about: Mapping[str, str],
    hardware: str | None = None,
) -> Contribution:
    """Write the folder of a contribution; values that a user has filled in and edited files are kept.

    Args:
        benchmark: Benchmark whose test split was predicted.
        run: Finished run on exactly its split.
        command: Command lines that repeat the run.
        folder: Folder to write.
        name: Name of the model.
        about: Values for ``PLACEHOLDERS``, which replace those in the folder.
        hardware: Hardware that the run used, if known.

    Raises:
        InputError: The run is damaged, unfinished, or of another split or property, or the folder holds a damaged
            file; nothing is written then.
    """
    predictions = _read_predictions(benchmark, run)
    seconds = run.read_metrics().get("seconds")
    if not isinstance(seconds, float) or not math.isfinite(seconds):
        raise InputError(f"{run.metrics} does not hold the seconds of training; begin the run again")
    known: dict[str, Any] = {"model_name": name, **({} if hardware is None else {"hardware_used": hardware})}
    known |= filled_in(folder / METADATA, PLACEHOLDERS)
    known |= {key: [text] if isinstance(PLACEHOLDERS[key], list) else text for key, text in about.items()}
    metadata = {
        **PLACEHOLDERS,
        **known,
        "date_submitted": date.today().strftime("%m-%d-%Y"),
        "time_taken_seconds": round(seconds, 2),
        "language": "python",
        "os": platform.system().lower(),
        "software_used": versions(run.description),
    }
    archive = folder / f"{benchmark.name}{ENDING}"
    _write_table(archive, benchmark, predictions)
    write_json_atomic(folder / METADATA, metadata)
    needs = f"# {versions(run.description)}; the split: pip install --no-deps {PACKAGE}"
    kept = [] if write_script(folder / SCRIPT, f"#!/bin/bash\n{needs}\n{command}\n") else [SCRIPT]
    score = score_as_leaderboard(archive, benchmark)
    return Contribution(folder, score, [key for key in PLACEHOLDERS if key not in known], kept)


def _read_predictions(benchmark: Benchmark, run: RunFolder) -> dict[str, list[str]]:
    """Read the predictions for each test crystal, as text.

    Raises:
        InputError: The run is not finished, or is not one on the benchmark's split and values.
    """
    if not run.metrics.is_file() or not run.ids.is_file():
        raise InputError(f"{run.path} holds no finished run of crysmm train: {run.metrics.name} is missing")
    _refuse_other_split(benchmark, run)
    table = read_predictions(run.predictions("test"))
    if benchmark.is_classification and "probability_1" not in table.columns:
        raise InputError(f"{run.path} does not predict classes, which {benchmark.name} needs")
    predictions = {}
    for name, values in benchmark.test.items():
        row = table.rows.get(name)
        if row is None:
            raise InputError(f"{run.predictions('test')} has no prediction for {name}, which the benchmark needs")
        targets = table.truth(name).tolist()
        if len(targets) != len(values) or not np.allclose(targets, values, rtol=TOLERANCE, atol=TOLERANCE):
            raise InputError(
                f"{run.path} was trained on other values than those of {benchmark.name}: {name} is {targets} there and "
                f"{list(values)} in the benchmark; train on the property, the unit and the data of the benchmark"
            )
        predictions[name] = [row[column] for column in table.predictions]
    return predictions


def _refuse_other_split(benchmark: Benchmark, run: RunFolder) -> None:
    """Raise an error if the ids in a run's splits are not those of the benchmark."""
    found, expected = read_ids(run.ids), benchmark.ids()
    if not benchmark.val:  # the contributor decides which training crystals to validate on
        found["id_train"], found["id_val"] = [*found["id_train"], *found["id_val"]], []
    for key, names in expected.items():
        missing, added = set(names) - set(found[key]), set(found[key]) - set(names)
        differing = [
            f"{verb} {len(ids):,} ids ({first_of(sorted(ids))})"
            for verb, ids in (("lacks", missing), ("adds", added))
            if ids
        ]
        if differing:
            raise InputError(
                f"the split of {run.path} is not that of {benchmark.name}: its {key.removeprefix('id_')} split "
                f"{' and '.join(differing)}; train with crysmm leaderboard --benchmark {benchmark.name} --root_dir DATA"
            )


def _write_table(archive: Path, benchmark: Benchmark, predictions: Mapping[str, list[str]]) -> None:
    """Write ``id,target,prediction`` in the order of the benchmark, zipped; several values are joined by ``;``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("id", "target", "prediction"))
    for name, values in benchmark.test.items():
        targets = [str(int(value)) if benchmark.is_classification else repr(value) for value in values]
        table.writerow((name, ";".join(targets), ";".join(predictions[name])))
    member = zipfile.ZipInfo(archive.name.removesuffix(".zip"))  # dated 1980, so that equal rows give equal files
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        packed.writestr(member, text.getvalue(), zipfile.ZIP_DEFLATED)


def score_as_leaderboard(archive: Path, benchmark: Benchmark) -> float:
    """Compute the rounded score of a contribution from its file, as the leaderboard does.

    For ``qm9_std_jctc``, whose values are standardized, the leaderboard multiplies the errors by the standard
    deviations; that is not done here.

    Raises:
        InputError: The ids in the file are not those of the benchmark.
    """
    with zipfile.ZipFile(archive) as packed, packed.open(packed.namelist()[0]) as binary:
        rows = list(csv.DictReader(io.TextIOWrapper(binary, "utf-8", newline="")))
    if [row["id"] for row in rows] != list(benchmark.test):
        raise InputError(f"{archive} has other ids than {benchmark.name}, or another order")
    targets = np.array([benchmark.test[row["id"]] for row in rows])
    predictions = np.array([[float(number) for number in row["prediction"].split(";")] for row in rows])
    # Classes are whole numbers as text, so that they compare exactly as floats.
    correct, errors = targets == predictions, np.abs(targets - predictions)
    return round(float(correct.mean() if benchmark.is_classification else errors.mean()), DIGITS)


def describe_score(score: float, benchmark: Benchmark) -> str:
    """Return a line with the score and, as on the leaderboard, the score without a model."""
    values = np.array(list(benchmark.train.values()))
    if benchmark.is_classification:
        baseline = f"guessing: {1 / len(np.unique(values)):.4g}"
    else:
        baseline = f"mean absolute deviation of the training values: {np.abs(values - values.mean()).mean():.4g}"
    metric = METRICS[benchmark.metric]
    return (
        f"{metric} on the {len(benchmark.test):,} test crystals, as the leaderboard computes it: {score} ({baseline})"
    )


def next_steps(contribution: Contribution) -> list[str]:
    """Return lines that list the steps left to submit a contribution."""
    fill_in = ", ".join(contribution.placeholders)
    steps = [
        *([f"fill in these fields of {METADATA}: {fill_in}"] if fill_in else []),
        f"copy {contribution.folder} to jarvis_leaderboard/contributions/ in a fork of {REPOSITORY}",
        "check it there with: python jarvis_leaderboard/rebuild.py",
        "open a pull request to its branch develop",
    ]
    return describe_steps(contribution.folder, contribution.kept, steps)
