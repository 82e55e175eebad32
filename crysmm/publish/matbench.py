"""Submissions to Matbench v0.1: a training run on each fold of a task, and the files to submit.

The results file is one gzipped JSON object, as Matbench's ``MatbenchBenchmark.to_file`` writes it: for each task and
fold the prediction for every test crystal (a number, or the probability of the class), four scores and free-form
parameters; and a checksum of it all. Dunn et al., npj Comput. Mater. 6, 138 (2020).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from crysmm import __version__
from crysmm.config.training import TrainingConfig
from crysmm.data.split import read_ids
from crysmm.data.units import after_number
from crysmm.errors import InputError
from crysmm.files import replacing, write_json_atomic
from crysmm.inference.model_folder import without_paths
from crysmm.inference.papers import PAPERS, papers_behind
from crysmm.inference.prediction_table import read_predictions
from crysmm.io.inputs import open_source
from crysmm.io.json_stream import read_json_object
from crysmm.io.source import Row, SkippedRow
from crysmm.processes import run_on_first
from crysmm.publish.matbench_tasks import (
    PACKAGE,
    TASKS,
    WITHOUT_STRUCTURES,
    Fold,
    Task,
    is_matminer_table,
    matminer_rows,
)
from crysmm.publish.submission import (
    SPLIT,
    benchmark_settings,
    describe_steps,
    draw_validation,
    filled_in,
    validation_fraction,
    write_data,
    write_script,
)
from crysmm.runs.card_text import given, versions
from crysmm.runs.run_folder import RunFolder
from crysmm.training.run import share_of_hours
from crysmm.training.train import train

DATA, IDS = "data.jsonl.gz", "ids"
RESULTS, INFO, CODE = "results.json.gz", "info.json", "run.py"
MEASURED = ("best_epoch", "epochs", "n_parameters", "seconds", "device")  # of metrics.json, kept with the results
PLACEHOLDERS = {"authors": "YOUR NAMES", "notes": "ANYTHING WORTH KNOWING"}
VERSION = "0.6"  # of Matbench, whose file format this is
BENCHMARK = "matbench_v0.1"
NEARLY_ZERO = 1e-5  # targets smaller than this have no relative error in Matbench
THRESHOLD = 0.5  # probability above which Matbench predicts the class


def train_on_folds(
    task: Task, folds: Sequence[Fold], config: TrainingConfig, report: Callable[[str], None]
) -> dict[str, RunFolder]:
    """Train on each fold; the test crystals of a fold are predicted once, at the end of its training.

    Args:
        task: Task of Matbench.
        folds: Its folds; validation crystals are drawn from the training ids of each, with the run's seed.
        config: Settings; ``root_dir`` holds the crystals, and ``output_dir`` gets a folder named after the task with
            one run per fold. With ``resume`` a finished fold is not trained again.
        report: Function that prints which fold is next.

    Returns:
        Runs by the name of their fold.

    Raises:
        InputError: A setting, the crystals or the folder cannot be used.
    """
    config = config.model_copy(update={"unit": None if task.unit is None else (task.unit,)})
    assert config.output_dir is not None
    folder, started = config.output_dir / task.name, time.monotonic()
    data, fraction = folder / DATA, validation_fraction(config)
    ids = {fold.name: folder / IDS / f"{fold.name}.json" for fold in folds}
    runs = {fold.name: RunFolder(folder / fold.name) for fold in folds}
    settings = {
        name: benchmark_settings(
            config, data, task.target, ids[name], run.path, is_classification=task.is_classification
        )
        for name, run in runs.items()
    }

    def prepare() -> None:
        # All folders are checked before anything is written or trained.
        for name, run in runs.items():
            run.check(settings[name])
        if not (config.resume and data.is_file()):
            values = dict.fromkeys(name for fold in folds for name in (*fold.train, *fold.test))
            write_data(_open_rows(task, config), task.target, values, data, progress=config.progress)
        for fold in folds:
            train_ids, val_ids = draw_validation(fold.train, fraction, config.random_seed)
            write_json_atomic(ids[fold.name], {"id_train": train_ids, "id_val": val_ids, "id_test": fold.test})

    run_on_first(config, prepare)
    for number, fold in enumerate(folds):
        report(f"{fold.name}, {number + 1} of {len(folds)}")
        hours = share_of_hours(config.max_hours, started, len(folds) - number)
        train(settings[fold.name].model_copy(update={"max_hours": hours}))
    return runs


def _open_rows(task: Task, config: TrainingConfig) -> Iterator[Row | SkippedRow]:
    """Open the crystals of a task: a data set of matminer, or any other input.

    Raises:
        InputError: There is not exactly one value per crystal.
    """
    assert config.root_dir is not None
    if is_matminer_table(config.root_dir):
        return matminer_rows(config.root_dir, task.name, config.target_key or task.target)
    source = open_source(
        config.root_dir, target_key=config.target_key, id_key=config.id_key, file_format=config.file_format
    )
    if len(source.target_names) != 1:
        raise InputError(
            f"{task.name} has one value per crystal; choose with --target_key: {', '.join(source.target_names)}"
        )
    return source.rows()


def compute_scores(
    targets: Sequence[float], predictions: Sequence[float], *, is_classification: bool
) -> dict[str, float]:
    """Compute the scores of one fold as Matbench 0.6 records them, under its names.

    Matbench turns probabilities into classes before it computes any score, so that its ``rocauc`` is that of the
    classes (and equals the balanced accuracy); the one of the probabilities is in the run's ``metrics.json``.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

    truth, found = np.asarray(targets), np.asarray(predictions)
    if is_classification:
        truth, found = truth > THRESHOLD, found > THRESHOLD
        return {
            "accuracy": float(accuracy_score(truth, found)),
            "balanced_accuracy": float(balanced_accuracy_score(truth, found)),
            "f1": float(f1_score(truth, found, zero_division=0)),
            "rocauc": float(roc_auc_score(truth, found)) if len(set(truth.tolist())) == 2 else math.nan,
        }
    errors = np.abs(truth - found)
    large = np.abs(truth) > NEARLY_ZERO
    return {
        "mae": float(errors.mean()),
        "rmse": math.sqrt(float((errors**2).mean())),
        "mape": float((errors[large] / np.abs(truth[large])).mean()) if large.any() else math.nan,
        "max_error": float(errors.max()),
    }


def fold_results(
    predictions: Mapping[str, float],
    targets: Sequence[float],
    parameters: Mapping[str, Any],
    *,
    is_classification: bool,
) -> dict[str, Any]:
    """Return the entry of one fold in the results file.

    Args:
        predictions: Predictions by id, in the order of the fold.
        targets: Targets of the same crystals.
        parameters: Free-form JSON content, without lists of objects.
        is_classification: True if predictions are probabilities.
    """
    scores = compute_scores(targets, list(predictions.values()), is_classification=is_classification)
    # Matbench expects the key uncertainty in every fold, also without uncertainties.
    return {"data": dict(predictions), "parameters": dict(parameters), "scores": scores, "uncertainty": None}


def write_results(path: Path, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the results file.

    Args:
        path: File to write, a ``.json.gz``.
        tasks: Entries from :func:`fold_results`, by the name of the task and of the fold.
    """
    content = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": VERSION,
        "benchmark_name": BENCHMARK,
        "datestamp": datetime.now(UTC).strftime("%Y.%m.%d %H:%M.%S"),
        "user_metadata": {"crysmm": __version__},
        "tasks": {
            name: {
                "@module": "matbench.task",
                "@class": "MatbenchTask",
                "benchmark_name": BENCHMARK,
                "dataset_name": name,
                "results": dict(folds),
            }
            for name, folds in tasks.items()
        },
    }
    content["hash"] = checksum(content)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def checksum(content: Mapping[str, Any]) -> str:
    """Compute Matbench's checksum of a results file: of its JSON text with sorted keys, without ``hash``."""
    kept = {key: value for key, value in content.items() if key != "hash"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """Read the tasks of a results file, in the form that :func:`write_results` takes; a missing file has none.

    Raises:
        InputError: The file is damaged, or was changed since it was written.
    """
    if not path.exists():
        return {}
    content = read_json_object(path)
    tasks = content.get("tasks")
    is_valid = isinstance(tasks, dict) and all(
        name in (*TASKS, *WITHOUT_STRUCTURES) and _has_results(task) for name, task in tasks.items()
    )
    if not is_valid or content.get("hash") != checksum(content):
        raise InputError(f"{path} is not a results file of Matbench, or was changed; delete it to write a new one")
    return {name: task["results"] for name, task in content["tasks"].items()}


def _has_results(task: Any) -> bool:
    """Return True for a task with results of at least one fold."""
    folds = task.get("results") if isinstance(task, dict) else None
    if not isinstance(folds, dict) or not folds:
        return False
    return all(isinstance(fold, dict) and isinstance(fold.get("parameters"), dict) for fold in folds.values())


def results_from_run(task: Task, fold: Fold, run: RunFolder, config: TrainingConfig) -> dict[str, Any]:
    """Return the entry of a fold in the results file, from its run.

    Raises:
        InputError: The predictions are not of exactly the test crystals of the fold, or have another form.
    """
    path = run.predictions("test")
    table = read_predictions(path)
    column = "probability_1" if task.is_classification else "prediction"
    if list(table.rows) != fold.test or not {"target", column} <= set(table.columns):
        raise InputError(
            f"{path} does not hold the column {column} of the test crystals of {fold.name}, in their order"
        )
    ids = read_ids(run.ids)
    if {*ids["id_train"], *ids["id_val"]} != set(fold.train):
        raise InputError(
            f"{run.path} was not trained on the training crystals of {fold.name}; train it with --overwrite"
        )
    metrics = run.read_metrics()
    parameters: dict[str, Any] = {
        "command": shlex.join(["crysmm", "matbench", "--task", task.name, *given(config, SPLIT)]),
        "versions": versions(run.description),
        "settings": without_paths(config),
        **{key: metrics[key] for key in MEASURED if key in metrics},
    }
    return fold_results(
        {name: float(row[column]) for name, row in table.rows.items()},
        [float(row["target"]) for row in table.rows.values()],
        parameters,
        is_classification=task.is_classification,
    )


@dataclass(frozen=True)
class Submission:
    """A submission that has been written.

    Args:
        folder: Folder of the submission.
        folds: Entries of the task's folds in the results file, by name.
        scores: Score of each fold to print: MAE, or ROC-AUC of the probabilities (None if undefined).
        tasks: Names of all tasks in the results file.
        placeholders: Keys of ``info.json`` that the user has to fill in.
        kept: Names of what was edited and is left unchanged.
    """

    folder: Path
    folds: dict[str, dict[str, Any]]
    scores: list[float | None]
    tasks: list[str]
    placeholders: list[str]
    kept: list[str]


def submission_folder(config: TrainingConfig, algorithm: str) -> Path:
    """Return the folder of a submission."""
    assert config.output_dir is not None
    return config.output_dir / f"{BENCHMARK}_{algorithm}"


def read_submission(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Read the tasks in the results file of a folder, and its ``info.json`` without placeholders.

    Raises:
        InputError: One of the files is damaged.
    """
    return read_tasks(folder / RESULTS), filled_in(folder / INFO, PLACEHOLDERS)


def write_submission(
    task: Task,
    folds: Sequence[Fold],
    runs: Mapping[str, RunFolder],
    config: TrainingConfig,
    algorithm: str,
    known: Mapping[str, str],
) -> Submission:
    """Write the folder of a submission; results of other tasks and edited values and files are kept.

    Args:
        task: Task that was trained on.
        folds: Its folds.
        runs: Finished runs by the name of their fold.
        config: Settings of the runs.
        algorithm: Name of the submission.
        known: Values for ``PLACEHOLDERS``, which replace those in the folder.

    Raises:
        InputError: A run is not of its fold, or a file in the folder is damaged; nothing is written then.
    """
    folder = submission_folder(config, algorithm)
    found = {fold.name: results_from_run(task, fold, runs[fold.name], config) for fold in folds}
    scores = [_score_to_print(task, results, runs[name]) for name, results in found.items()]
    earlier_tasks, earlier_info = read_submission(folder)
    tasks, facts = {**earlier_tasks, task.name: found}, {**earlier_info, **known}
    papers = {name: PAPERS[name] for name in papers_behind(config)}
    own = {
        "algorithm": algorithm,
        "algorithm_long": f"{config.network} as implemented in crysmm {__version__}, head {config.head.name}; the "
        "best epoch is chosen on a random fraction of each fold's training crystals, and the test crystals are "
        "predicted once. After " + "; ".join(paper.text() for paper in papers.values()) + ".",
        "bibtex_refs": [paper.bibtex(name) for name, paper in papers.items()],
        "requirements": {"python": [f"crysmm=={__version__}"]},
    }
    kept = [f"{key} in {INFO}" for key in own if facts.get(key, own[key]) != own[key]]
    write_results(folder / RESULTS, tasks)
    write_json_atomic(folder / INFO, {**PLACEHOLDERS, **own, **facts})
    if not write_script(folder / CODE, _code(tasks)):
        kept.append(CODE)
    return Submission(folder, found, scores, list(tasks), [key for key in PLACEHOLDERS if key not in facts], kept)


def _code(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a Python script that repeats the submission, from the commands in its results.

    The results may come from elsewhere, so all of their text is written as a ``repr``: none of it can become code.
    """
    made_with: dict[str, None] = {}  # a dict, to name each line only once
    calls = ""
    for folds in tasks.values():
        parameters = next(iter(folds.values()))["parameters"]
        if "versions" in parameters:
            made_with[f"# Made with {parameters['versions']!r}\n"] = None
        try:
            program, *words = shlex.split(str(parameters.get("command")))
        except ValueError:  # unbalanced quotes, or no word at all
            continue
        if program == "crysmm" and words[:1] == ["matbench"]:
            calls += f"    main({[*words, '--output_dir', 'runs']!r})\n"
    return (
        '"""Repeats this submission.\n\n'
        f'The folds: pip install --no-deps {PACKAGE}; the data, as matminer distributes them, in this folder."""\n\n'
        f"{''.join(made_with)}\n"
        f'from crysmm.cli.main import main\n\nif __name__ == "__main__":\n{calls}'
    )


def _score_to_print(task: Task, results: Mapping[str, Any], run: RunFolder) -> float | None:
    """Return the MAE of a fold, or the ROC-AUC of its probabilities: None if all test crystals are of one class.

    Raises:
        InputError: The run's metrics do not hold the ROC-AUC.
    """
    if not task.is_classification:
        return float(results["scores"]["mae"])
    scores = run.read_metrics().get("test")
    area = scores.get("roc_auc", "") if isinstance(scores, dict) else ""
    if not isinstance(area, float | None):
        raise InputError(f"{run.metrics} does not hold the ROC-AUC of the test crystals; train it with --overwrite")
    return area


def describe_folds(task: Task, submission: Submission) -> Iterator[str]:
    """Yield a line per fold, then the mean and standard deviation over the folds, as Matbench shows them."""

    def summary(values: Sequence[float | None]) -> str:
        numbers = np.array(values, dtype=float)  # None becomes nan, and so does the mean then
        return f"{numbers.mean():.4g} ± {numbers.std():.4g}"

    folds, scores = submission.folds, submission.scores
    title = "ROC-AUC of the probabilities" if task.is_classification else "MAE"
    unit = after_number(task.unit)
    for (name, results), score in zip(folds.items(), scores, strict=True):
        yield f"{name}: {title} {np.array(score, dtype=float):.4g}{unit} on {len(results['data']):,} crystals"
    yield f"{title} over {len(folds)} folds: {summary(scores)}{unit}"
    names = next(iter(folds.values()))["scores"]
    recorded = [f"{key} {summary([results['scores'][key] for results in folds.values()])}" for key in names]
    yield f"as Matbench records it: {', '.join(recorded)}"


def next_steps(submission: Submission) -> list[str]:
    """Return lines that list the steps left to submit a submission."""
    fill_in = ", ".join(submission.placeholders)
    steps = [
        *([f"fill in these fields of {INFO}: {fill_in}"] if fill_in else []),
        f"look at {INFO} and {CODE}, and copy {submission.folder} to benchmarks/ in a fork of "
        "https://github.com/materialsproject/matbench",
        "open a pull request labeled new_benchmark",
    ]
    return describe_steps(submission.folder, submission.kept, steps, submission.tasks)
