"""A contribution to the JARVIS-Leaderboard: a folder with predictions, ``metadata.json`` and ``run.sh``."""

from __future__ import annotations

import csv
import io
import math
import platform
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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
from crysmm.publish.benchmark import ENDING, METRICS, PACKAGE, Benchmark
from crysmm.publish.submission import SPLIT, VALUES, describe_kept, filled_in, settings_on, write_data, write_script
from crysmm.runs.card_text import given, versions
from crysmm.runs.run_folder import RunFolder
from crysmm.training.distributed import is_main_process
from crysmm.training.train import train

RUN, DATA, IDS, CONTRIBUTIONS = "run", "data.jsonl.gz", "ids.json", "contributions"
DIGITS = 4  # to which the leaderboard rounds
SAME = 1e-6  # relative difference of two values that are one
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
"""Of what no run knows, under the leaderboard's names."""


def train_on_benchmark(benchmark: Benchmark, config: TrainingConfig) -> RunFolder:
    """Train on a benchmark's split; the test split is predicted once, at the end.

    Args:
        benchmark: says what is in which split; it has one for validation.
        config: ``root_dir`` holds the structures; ``output_dir`` becomes a folder with the run and its data.

    Raises:
        InputError: a setting, the structures or the folder cannot be used.
    """
    assert config.root_dir is not None
    assert config.output_dir is not None
    folder = config.output_dir
    run, data, ids = RunFolder(folder / RUN), folder / DATA, folder / IDS
    settings = settings_on(config, data, benchmark.target, ids, run.path, is_classification=benchmark.is_classification)
    if is_main_process():
        run.check(settings)
        if not (config.resume and data.is_file()):
            source = open_source(
                config.root_dir, id_key=config.id_key, file_format=config.file_format, needs_targets=False
            )
            write_data(source.rows(), benchmark.target, benchmark.values, data, progress=config.progress)
        write_json_atomic(ids, benchmark.ids())
    train(settings)
    return run


def training_command(benchmark: Benchmark, config: TrainingConfig, output_dir: str) -> str:
    """The command line that :func:`train_on_benchmark` is behind."""
    words = ["crysmm", "leaderboard", "--benchmark", benchmark.name, *given(config, SPLIT | VALUES)]
    return shlex.join([*words, "--output_dir", output_dir])


def run_command(benchmark: Benchmark, config: TrainingConfig) -> str:
    """The command lines that made a run of ``crysmm train``, and a contribution of it."""
    training = ["crysmm", "train", *given(config), "--output_dir", "runs/benchmark"]
    making = ["crysmm", "leaderboard", "--benchmark", benchmark.name, "--run", "runs/benchmark", "--output_dir", "runs"]
    return f"{shlex.join(training)}\n{shlex.join(making)}"


@dataclass(frozen=True)
class Contribution:
    """What has been written.

    Args:
        folder: of the contribution.
        score: on the test split, as the leaderboard computes it from the files.
        placeholders: keys of ``metadata.json`` that are to be filled in.
        kept: files that were edited and are left as they were.
    """

    folder: Path
    score: float
    placeholders: list[str]
    kept: list[str]


def filled_in_metadata(folder: Path) -> dict[str, Any]:
    """What stands in the ``metadata.json`` of a folder and is no placeholder.

    Raises:
        InputError: the file is damaged.
    """
    return filled_in(folder / METADATA, PLACEHOLDERS)


def write_contribution(
    benchmark: Benchmark,
    run: RunFolder,
    command: str,
    folder: Path,
    name: str,
    about: Mapping[str, str],
    hardware: str | None = None,
) -> Contribution:
    """Write the folder of a contribution; what has been filled in or edited in it is kept.

    Args:
        benchmark: whose test split was predicted.
        run: a finished run of exactly its split.
        command: makes the run again.
        folder: is named after the contribution by the user who adds it.
        name: of the model.
        about: texts for ``PLACEHOLDERS``, which win over what stands in the folder.
        hardware: what it was trained on, if that is this machine.

    Raises:
        InputError: the run is of another split or property, damaged or not finished, or the folder holds a damaged
            file; nothing has been written then.
    """
    predictions = _predictions(benchmark, run)
    known = {"model_name": name, **({} if hardware is None else {"hardware_used": hardware})}
    known |= filled_in_metadata(folder) | {key: _as_written(key, text) for key, text in about.items()}
    metadata = {**PLACEHOLDERS, **known, **_of_the_run(run)}
    needs = f"# {versions(run.description)}; the split: pip install --no-deps {PACKAGE}"
    archive = folder / f"{benchmark.name}{ENDING}"
    _write_table(archive, benchmark, predictions)
    write_json_atomic(folder / METADATA, metadata)
    kept = [] if write_script(folder / SCRIPT, f"#!/bin/bash\n{needs}\n{command}\n") else [SCRIPT]
    score = score_as_leaderboard(archive, benchmark)
    return Contribution(folder, score, [key for key in PLACEHOLDERS if key not in known], kept)


def _as_written(key: str, text: str) -> str | list[str]:
    return [text] if isinstance(PLACEHOLDERS[key], list) else text


def _predictions(benchmark: Benchmark, run: RunFolder) -> dict[str, list[str]]:
    """The cells with predictions of each test crystal, once the run is known to be one of the benchmark.

    Raises:
        InputError: it is not, or not finished.
    """
    if not run.metrics.is_file() or not run.ids.is_file():
        raise InputError(f"{run.path} holds no finished run of crysmm train: {run.metrics.name} is missing")
    _refuse_other_split(benchmark, run)
    table = read_predictions(run.predictions("test"))
    if benchmark.is_classification and "probability_1" not in table.columns:
        raise InputError(f"{run.path} has not learned classes, which {benchmark.name} asks for")
    predictions = {}
    for name, values in benchmark.test.items():
        row = table.rows.get(name)
        if row is None:
            raise InputError(f"{run.predictions('test')} has no prediction for {name}, which the benchmark asks for")
        targets = [float(row[column]) for column in table.targets]
        if len(targets) != len(values) or not np.allclose(targets, values, rtol=SAME, atol=SAME):
            raise InputError(
                f"{run.path} has learned other values than those of {benchmark.name}: {name} is {targets} there and "
                f"{list(values)} in the benchmark; train on the property, the unit and the data of the benchmark"
            )
        predictions[name] = [row[column] for column in table.predictions]
    return predictions


def _refuse_other_split(benchmark: Benchmark, run: RunFolder) -> None:
    found, expected = read_ids(run.ids), benchmark.ids()
    if not benchmark.val:
        found["id_train"], found["id_val"] = [*found["id_train"], *found["id_val"]], []
    for key, names in expected.items():
        missing, added = set(names) - set(found[key]), set(found[key]) - set(names)
        differing = [*_first_of(missing, "lacks"), *_first_of(added, "adds")]
        if differing:
            raise InputError(
                f"the split of {run.path} is not that of {benchmark.name}: its {key.removeprefix('id_')} split "
                f"{' and '.join(differing)}; train with crysmm leaderboard --benchmark {benchmark.name} --root_dir DATA"
            )


def _first_of(names: set[str], verb: str) -> Iterator[str]:
    if names:
        yield f"{verb} {len(names):,} ids ({first_of(sorted(names))})"


def _write_table(archive: Path, benchmark: Benchmark, predictions: Mapping[str, Sequence[str]]) -> None:
    """``id,target,prediction`` in the order of the benchmark, zipped; several values are joined by ``;``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("id", "target", "prediction"))
    for name, values in benchmark.test.items():
        written = [str(int(value)) if benchmark.is_classification else repr(value) for value in values]
        table.writerow((name, ";".join(written), ";".join(predictions[name])))
    member = zipfile.ZipInfo(archive.name.removesuffix(".zip"))  # of 1980, so that the same rows give the same file
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as packed:
        packed.writestr(member, text.getvalue(), zipfile.ZIP_DEFLATED)


def score_as_leaderboard(archive: Path, benchmark: Benchmark) -> float:
    """The score of a contribution, read from its file and compared with the benchmark id by id, rounded.

    The leaderboard multiplies the errors of ``qm9_std_jctc``, whose values are standardised, by their deviations;
    that is not done here.

    Raises:
        InputError: the file has other ids than the benchmark.
    """
    with zipfile.ZipFile(archive) as packed, packed.open(packed.namelist()[0]) as binary:
        rows = list(csv.DictReader(io.TextIOWrapper(binary, "utf-8", newline="")))
    if [row["id"] for row in rows] != list(benchmark.test):
        raise InputError(f"{archive} has other ids than {benchmark.name}, or another order")
    truth = np.array([benchmark.test[row["id"]] for row in rows])
    found = np.array([[float(number) for number in row["prediction"].split(";")] for row in rows])
    score = (truth == found).mean() if benchmark.is_classification else np.abs(truth - found).mean()
    return round(float(score), DIGITS)


def describe_score(score: float, benchmark: Benchmark) -> str:
    """The score beside what is had without a model, as the leaderboard shows them."""
    values = np.array(list(benchmark.train.values()))
    if benchmark.is_classification:
        without = f"guessing: {1 / len(np.unique(values)):.4g}"
    else:
        without = f"mean absolute deviation of the training values: {np.abs(values - values.mean()).mean():.4g}"
    metric = METRICS[benchmark.metric]
    return f"{metric} on the {len(benchmark.test):,} test crystals, as the leaderboard computes it: {score} ({without})"


def _of_the_run(run: RunFolder) -> dict[str, Any]:
    """The keys of ``metadata.json`` that each run says anew.

    Raises:
        InputError: its metrics do not hold the time.
    """
    seconds = run.read_metrics().get("seconds")
    if not isinstance(seconds, float) or not math.isfinite(seconds):
        raise InputError(f"{run.metrics} does not say the seconds that training took; begin the run again")
    return {
        "date_submitted": date.today().strftime("%m-%d-%Y"),
        "time_taken_seconds": round(seconds, 2),
        "language": "python",
        "os": platform.system().lower(),
        "software_used": versions(run.description),
    }


def next_steps(contribution: Contribution) -> list[str]:
    """What is left to do for whoever submits."""
    fill_in = ", ".join(contribution.placeholders)
    steps = [
        *([f"fill in in {METADATA}: {fill_in}"] if fill_in else []),
        f"copy {contribution.folder} to jarvis_leaderboard/contributions/ in a fork of {REPOSITORY}",
        "check it there with: python jarvis_leaderboard/rebuild.py",
        "open a pull request to its branch develop",
    ]
    return [
        *describe_kept(contribution.kept),
        f"written to {contribution.folder}; to submit it:",
        *(f"  {number}. {step}" for number, step in enumerate(steps, 1)),
    ]
