"""A submission to Matbench v0.1: a training on each fold of a task, and the files that are asked for."""

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

from crysmm.citations import PAPERS, papers_behind
from crysmm.config.training import TrainingConfig
from crysmm.data.split import read_ids
from crysmm.errors import InputError
from crysmm.files import replacing, write_json_atomic
from crysmm.inference.model_folder import without_paths
from crysmm.inference.prediction_table import read_predictions
from crysmm.io.inputs import open_source
from crysmm.io.json_stream import read_json_object
from crysmm.io.source import Row, SkippedRow
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
    carve_validation,
    describe_kept,
    filled_in,
    settings_on,
    validation_share,
    write_data,
    write_script,
)
from crysmm.runs.card_text import given, versions
from crysmm.runs.run_folder import RunFolder
from crysmm.training.callbacks import share_of_hours
from crysmm.training.distributed import is_main_process
from crysmm.training.train import train
from crysmm.version import __version__

DATA, IDS = "data.jsonl.gz", "ids"
RESULTS, INFO, CODE = "results.json.gz", "info.json", "run.py"
MEASURED = ("best_epoch", "epochs", "n_parameters", "seconds", "device")  # of metrics.json, kept with the results
PLACEHOLDERS = {"authors": "YOUR NAMES", "notes": "ANYTHING WORTH KNOWING"}


def train_on_folds(
    task: Task, folds: Sequence[Fold], config: TrainingConfig, say: Callable[[str], None]
) -> dict[str, RunFolder]:
    """Train on each fold; the test crystals of a fold are predicted once, at the end of its training.

    Args:
        task: what is learned.
        folds: of it; validation crystals are drawn from the training ids of each, by the seed.
        config: ``root_dir`` holds the crystals; ``output_dir`` becomes a folder with one of the task's name, in which
            there is a run for each fold. With ``resume`` a finished fold is not trained again.
        say: is told which fold is next.

    Returns:
        The runs by the name of their fold.

    Raises:
        InputError: a setting, the crystals or the folder cannot be used.
    """
    assert config.output_dir is not None
    folder, started = config.output_dir / task.name, time.monotonic()
    runs = {fold.name: RunFolder(folder / fold.name) for fold in folds}
    settings = {fold.name: _settings_of(fold, task, config, folder) for fold in folds}
    if is_main_process():
        for name, run in runs.items():
            run.check(settings[name])
        _write_crystals(task, folds, config, folder)
    for number, fold in enumerate(folds):
        say(f"{fold.name}, {number + 1} of {len(folds)}")
        hours = share_of_hours(config.max_hours, started, len(folds) - number)
        train(settings[fold.name].model_copy(update={"max_hours": hours}))
    return runs


def _settings_of(fold: Fold, task: Task, config: TrainingConfig, folder: Path) -> TrainingConfig:
    ids = folder / IDS / f"{fold.name}.json"
    run = folder / fold.name
    return settings_on(config, folder / DATA, task.target, ids, run, is_classification=task.is_classification)


def _write_crystals(task: Task, folds: Sequence[Fold], config: TrainingConfig, folder: Path) -> None:
    """The crystals of the task with their values, and the split of each fold."""
    data, share = folder / DATA, validation_share(config)
    if not (config.resume and data.is_file()):
        wanted = dict.fromkeys(name for fold in folds for name in (*fold.train, *fold.test))
        write_data(_rows(task, config), task.target, wanted, data, progress=config.progress)
    for fold in folds:
        train_ids, val_ids = carve_validation(fold.train, share, config.random_seed)
        split = {"id_train": train_ids, "id_val": val_ids, "id_test": fold.test}
        write_json_atomic(folder / IDS / f"{fold.name}.json", split)


def _rows(task: Task, config: TrainingConfig) -> Iterator[Row | SkippedRow]:
    """The crystals, in whatever form they are.

    Raises:
        InputError: there is not one value for each.
    """
    assert config.root_dir is not None
    if is_matminer_table(config.root_dir):
        return matminer_rows(config.root_dir, task.prefix, config.target_key or task.target)
    source = open_source(
        config.root_dir, target_key=config.target_key, id_key=config.id_key, file_format=config.file_format
    )
    if len(source.target_names) != 1:
        raise InputError(
            f"{task.name} has one value a crystal; choose with --target_key: {', '.join(source.target_names)}"
        )
    return source.rows()


def results_of(task: Task, fold: Fold, run: RunFolder, config: TrainingConfig) -> dict[str, Any]:
    """What the results file holds of a fold.

    Raises:
        InputError: the run has not predicted exactly the crystals of the fold, or other classes than two.
    """
    path = run.predictions("test")
    table = read_predictions(path)
    column = "probability_1" if task.is_classification else "prediction"
    if list(table.rows) != fold.test or not {"target", column} <= set(table.columns):
        raise InputError(
            f"{path} does not hold the column {column} of the test crystals of {fold.name}, in their order"
        )
    learned = read_ids(run.ids)
    if {*learned["id_train"], *learned["id_val"]} != set(fold.train):
        raise InputError(
            f"{run.path} has not learned from the training crystals of {fold.name}; train it with --overwrite"
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
    """What has been written.

    Args:
        folder: of the submission.
        folds: what the results file holds of each fold of the task.
        figures: what the screen shows of each fold.
        tasks: names of all tasks in the results file.
        placeholders: keys of ``info.json`` that are to be filled in.
        kept: what was edited and is left as it was.
    """

    folder: Path
    folds: dict[str, dict[str, Any]]
    figures: list[float | None]
    tasks: list[str]
    placeholders: list[str]
    kept: list[str]


def submission_folder(config: TrainingConfig, algorithm: str) -> Path:
    """Where a submission is written."""
    assert config.output_dir is not None
    return config.output_dir / f"{BENCHMARK}_{algorithm}"


def read_submission(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The tasks in the results file of a folder, and what stands in its ``info.json`` and is no placeholder.

    Raises:
        InputError: one of the files is damaged.
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
    """Write the folder of a submission; what it holds of other tasks and what has been edited in it are kept.

    Args:
        task: that was trained on.
        folds: of it.
        runs: by the name of their fold, all finished.
        config: the settings.
        algorithm: name of the submission.
        known: values of ``PLACEHOLDERS``, which win over what stands in the folder.

    Raises:
        InputError: a run is not of its fold, or a file in the folder is damaged; nothing has been written then.
    """
    folder = submission_folder(config, algorithm)
    found = {fold.name: results_of(task, fold, runs[fold.name], config) for fold in folds}
    figures = [_figure(task, results, runs[name]) for name, results in found.items()]
    earlier_tasks, earlier_info = read_submission(folder)
    tasks, facts = {**earlier_tasks, task.name: found}, {**earlier_info, **known}
    own = _info(algorithm, config)
    kept = [f"{key} in {INFO}" for key in own if facts.get(key, own[key]) != own[key]]
    write_results(folder / RESULTS, tasks)
    write_json_atomic(folder / INFO, {**PLACEHOLDERS, **own, **facts})
    if not write_script(folder / CODE, _code(tasks)):
        kept.append(CODE)
    return Submission(folder, found, figures, list(tasks), [key for key in PLACEHOLDERS if key not in facts], kept)


def _info(algorithm: str, config: TrainingConfig) -> dict[str, Any]:
    """What Matbench asks for beside the ``PLACEHOLDERS``."""
    papers = {name: PAPERS[name] for name in papers_behind(config)}
    return {
        "algorithm": algorithm,
        "algorithm_long": f"{config.model.name} as crysmm {__version__} has it, head {config.head.name}; a share of "
        "each fold's training crystals, drawn at random, chooses the epoch, and the test crystals are predicted once. "
        "After " + "; ".join(paper.text() for paper in papers.values()) + ".",
        "bibtex_refs": [paper.bibtex(name) for name, paper in papers.items()],
        "requirements": {"python": [f"crysmm=={__version__}"]},
    }


def _code(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Python that makes the submission again, from what its results say of each task.

    The results may be from elsewhere: all of their text is written as Python's ``repr`` has it.
    """
    parameters = [next(iter(folds.values()))["parameters"] for folds in tasks.values()]
    versions_used = dict.fromkeys(repr(each["versions"]) for each in parameters if "versions" in each)
    made_with = "".join(f"# Made with {each}\n" for each in versions_used)
    calls = "".join(f"    main({[*words, '--output_dir', 'runs']!r})\n" for words in map(_words, parameters) if words)
    return (
        '"""Makes this submission again.\n\n'
        f'The folds: pip install --no-deps {PACKAGE}; the data, as matminer distributes them, in this folder."""\n\n'
        f"{made_with}\n"
        f'from crysmm.cli.main import main\n\nif __name__ == "__main__":\n{calls}'
    )


def _words(parameters: Mapping[str, Any]) -> list[str]:
    """The words after ``crysmm`` of the command that made a fold; none where another program did."""
    try:
        program, *words = shlex.split(str(parameters.get("command")))
    except ValueError:
        return []
    return words if (program, words[:1]) == ("crysmm", ["matbench"]) else []


def _figure(task: Task, results: Mapping[str, Any], run: RunFolder) -> float | None:
    """The MAE of a fold, or the ROC-AUC of its probabilities, None where all its test crystals are of one class.

    Raises:
        InputError: the run's metrics do not hold it.
    """
    if not task.is_classification:
        return float(results["scores"]["mae"])
    scores = run.read_metrics().get("test")
    area = scores.get("roc_auc", "") if isinstance(scores, dict) else ""
    if not isinstance(area, float | None):
        raise InputError(f"{run.metrics} does not hold the ROC-AUC of the test crystals; train it with --overwrite")
    return area


def describe_folds(task: Task, submission: Submission) -> Iterator[str]:
    """A line for each fold, and the mean over folds with its deviation, as Matbench shows them."""
    folds, figures = submission.folds, submission.figures
    title = "ROC-AUC of the probabilities" if task.is_classification else "MAE"
    unit = "" if task.unit in (None, "1") else f" {task.unit}"
    for (name, results), figure in zip(folds.items(), figures, strict=True):
        yield f"{name}: {title} {np.array(figure, dtype=float):.4g}{unit} on {len(results['data']):,} crystals"
    yield f"{title} over {len(folds)} folds: {_mean(figures)}{unit}"
    recorded = {key: [results["scores"][key] for results in folds.values()] for key in _score_names(folds)}
    yield f"as Matbench records it: {', '.join(f'{key} {_mean(each)}' for key, each in recorded.items())}"


def _score_names(folds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(next(iter(folds.values()))["scores"])


def _mean(values: Sequence[float | None]) -> str:
    """With the deviation; not a number where one is missing."""
    numbers = np.array(values, dtype=float)
    return f"{numbers.mean():.4g} ± {numbers.std():.4g}"


def next_steps(submission: Submission) -> list[str]:
    """What is left to do for whoever submits."""
    steps = [
        *([f"fill in in {INFO}: {', '.join(submission.placeholders)}"] if submission.placeholders else []),
        f"look at {INFO} and {CODE}, and copy {submission.folder} to benchmarks/ in a fork of "
        "https://github.com/materialsproject/matbench",
        "open a pull request labelled new_benchmark",
    ]
    tasks = ", ".join(submission.tasks)
    return [
        *describe_kept(submission.kept),
        f"written to {submission.folder}, of {tasks}; to submit it:",
        *(f"  {number}. {step}" for number, step in enumerate(steps, 1)),
    ]


VERSION = "0.6"  # of Matbench, whose form this is
BENCHMARK = "matbench_v0.1"
NAMES = {*TASKS, *WITHOUT_STRUCTURES}
NEARLY_ZERO = 1e-5  # targets smaller than this have no relative error
THRESHOLD = 0.5  # probabilities above it are the class


def scores(targets: Sequence[float], predictions: Sequence[float], *, is_classification: bool) -> dict[str, float]:
    """The scores of one fold as Matbench 0.6 records them, under its names.

    It turns probabilities into classes before the first score, so that its ``rocauc`` is that of the classes (and the
    balanced accuracy); the one of the probabilities stands in the run's ``metrics.json``.
    """
    return _class_scores(targets, predictions) if is_classification else _value_scores(targets, predictions)


def _value_scores(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    truth, found = np.asarray(targets), np.asarray(predictions)
    errors = np.abs(truth - found)
    large = np.abs(truth) > NEARLY_ZERO
    return {
        "mae": float(errors.mean()),
        "rmse": math.sqrt(float((errors**2).mean())),
        "mape": float((errors[large] / np.abs(truth[large])).mean()) if large.any() else math.nan,
        "max_error": float(errors.max()),
    }


def _class_scores(targets: Sequence[float], probabilities: Sequence[float]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

    truth, found = np.asarray(targets) > THRESHOLD, np.asarray(probabilities) > THRESHOLD
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, found)),
        "f1": float(f1_score(truth, found, zero_division=0)),
        "rocauc": float(roc_auc_score(truth, found)) if len(set(truth.tolist())) == 2 else math.nan,
    }


def fold_results(
    predictions: Mapping[str, float],
    targets: Sequence[float],
    parameters: Mapping[str, Any],
    *,
    is_classification: bool,
) -> dict[str, Any]:
    """What the file holds of one fold.

    Args:
        predictions: by id, in the order of the fold.
        targets: of the same crystals.
        parameters: anything that JSON takes, without lists of objects.
        is_classification: whether predictions are probabilities.
    """
    found = list(predictions.values())
    return {
        "data": dict(predictions),
        "parameters": dict(parameters),
        "scores": scores(targets, found, is_classification=is_classification),
        "uncertainty": None,
    }


def write_results(path: Path, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the file.

    Args:
        path: of the ``.json.gz``.
        tasks: by name, what :func:`fold_results` gives of each fold by name.
    """
    content = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": VERSION,
        "benchmark_name": BENCHMARK,
        "datestamp": datetime.now(UTC).strftime("%Y.%m.%d %H:%M.%S"),
        "user_metadata": {"crysmm": __version__},
        "tasks": {name: _task(name, folds) for name, folds in tasks.items()},
    }
    content["hash"] = checksum(content)
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))


def _task(name: str, folds: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@module": "matbench.task",
        "@class": "MatbenchTask",
        "benchmark_name": BENCHMARK,
        "dataset_name": name,
        "results": dict(folds),
    }


def checksum(content: Mapping[str, Any]) -> str:
    """Matbench's, over all but ``hash``: of the JSON text with the keys in order."""
    kept = {key: value for key, value in content.items() if key != "hash"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """The tasks of a file, as :func:`write_results` takes them; none where there is no file.

    Raises:
        InputError: it is damaged, or was changed since it was written.
    """
    if not path.exists():
        return {}
    content = read_json_object(path)
    tasks = content.get("tasks")
    whole = isinstance(tasks, dict) and all(name in NAMES and _is_whole(task) for name, task in tasks.items())
    if not whole or content.get("hash") != checksum(content):
        raise InputError(f"{path} is not a results file of Matbench, or was changed; delete it to write a new one")
    return {name: task["results"] for name, task in content["tasks"].items()}


def _is_whole(task: Any) -> bool:
    """Whether it is a task with results of at least one fold."""
    folds = task.get("results") if isinstance(task, dict) else None
    if not isinstance(folds, dict) or not folds:
        return False
    return all(isinstance(fold, dict) and isinstance(fold.get("parameters"), dict) for fold in folds.values())
