"""A submission to Matbench v0.1: a training on each fold of a task, and the files that are asked for."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crysmm import __version__
from crysmm.atomic_files import write_json_atomic, write_text_atomic
from crysmm.citations import PAPERS, papers_behind
from crysmm.config.run import DEFAULT_RATIO
from crysmm.config.training import TrainingConfig
from crysmm.data.records import open_source
from crysmm.data.source import Source
from crysmm.data.split import read_ids
from crysmm.errors import InputError
from crysmm.publish.benchmark import carve_validation
from crysmm.publish.data import write_data
from crysmm.publish.facts import filled_in
from crysmm.publish.matbench_results import BENCHMARK, fold_results, read_tasks, write_results
from crysmm.publish.matminer import MatminerTable, is_matminer_table
from crysmm.publish.settings import SPLIT, settings_on
from crysmm.publish.tasks import PACKAGE, Fold, Task
from crysmm.training.callbacks import share_of_hours
from crysmm.training.command import given
from crysmm.training.distributed import is_main_process
from crysmm.training.folder import RunFolder
from crysmm.training.model_card import versions
from crysmm.training.model_folder import without_paths
from crysmm.training.results import read_predictions
from crysmm.training.train import train

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
    data = folder / DATA
    if not (config.resume and data.is_file()):
        wanted = dict.fromkeys(name for fold in folds for name in (*fold.train, *fold.test))
        write_data(_source(task, config), task.target, wanted, data, progress=config.progress)
    for fold in folds:
        train_ids, val_ids = carve_validation(fold.train, config.val_ratio or DEFAULT_RATIO, config.random_seed)
        split = {"id_train": train_ids, "id_val": val_ids, "id_test": fold.test}
        write_json_atomic(folder / IDS / f"{fold.name}.json", split)


def _source(task: Task, config: TrainingConfig) -> Source:
    """The crystals, in whatever form they are.

    Raises:
        InputError: there is not one value for each.
    """
    assert config.root_dir is not None
    if is_matminer_table(config.root_dir):
        return MatminerTable(config.root_dir, task.prefix, config.target_key or task.target)
    source = open_source(
        config.root_dir, target_key=config.target_key, id_key=config.id_key, file_format=config.file_format
    )
    if len(source.target_names) != 1:
        raise InputError(
            f"{task.name} has one value a crystal; choose with --target_key: {', '.join(source.target_names)}"
        )
    return source


def results_of(task: Task, fold: Fold, run: RunFolder, config: TrainingConfig) -> dict[str, Any]:
    """What the results file holds of a fold.

    Raises:
        InputError: the run has not predicted exactly the crystals of the fold, or other classes than two.
    """
    path = run.predictions("test")
    rows = read_predictions(path)
    column = "probability_1" if task.is_classification else "prediction"
    if list(rows) != fold.test or column not in rows[fold.test[0]]:
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
        {name: float(rows[name][column]) for name in fold.test},
        [float(rows[name]["target"]) for name in fold.test],
        parameters,
        is_classification=task.is_classification,
    )


@dataclass(frozen=True)
class Submission:
    """What has been written.

    Args:
        folder: of the submission.
        folds: what the results file holds of each fold of the task.
        tasks: names of all tasks in the results file.
        placeholders: keys of ``info.json`` that are to be filled in.
    """

    folder: Path
    folds: dict[str, dict[str, Any]]
    tasks: list[str]
    placeholders: list[str]


def write_submission(
    task: Task,
    folds: Sequence[Fold],
    runs: Mapping[str, RunFolder],
    config: TrainingConfig,
    algorithm: str,
    known: Mapping[str, str],
) -> Submission:
    """Write the folder of a submission; what it holds of other tasks is kept.

    Args:
        task: that was trained on.
        folds: of it.
        runs: by the name of their fold, all finished.
        config: the settings.
        algorithm: name of the submission.
        known: values of ``PLACEHOLDERS``; those that stand in the folder already are kept.

    Raises:
        InputError: a run is not of its fold, or a file in the folder is damaged.
    """
    assert config.output_dir is not None
    folder = config.output_dir / f"{BENCHMARK}_{algorithm}"
    found = {fold.name: results_of(task, fold, runs[fold.name], config) for fold in folds}
    tasks = {**read_tasks(folder / RESULTS), task.name: found}
    write_results(folder / RESULTS, tasks)
    facts = {**filled_in(folder / INFO, PLACEHOLDERS), **known}
    write_json_atomic(folder / INFO, _info(algorithm, config, {**PLACEHOLDERS, **facts}))
    write_text_atomic(folder / CODE, _code(tasks))
    return Submission(folder, found, list(tasks), [key for key in PLACEHOLDERS if key not in facts])


def _info(algorithm: str, config: TrainingConfig, facts: Mapping[str, str]) -> dict[str, Any]:
    """Every key Matbench asks for."""
    papers = {name: PAPERS[name] for name in papers_behind(config)}
    return {
        "authors": facts["authors"],
        "algorithm": algorithm,
        "algorithm_long": f"{config.model.name} as crysmm {__version__} has it, head {config.head.name}; a share of "
        "each fold's training crystals, drawn at random, chooses the epoch, and the test crystals are predicted once. "
        "After " + "; ".join(paper.text() for paper in papers.values()) + ".",
        "bibtex_refs": [paper.bibtex(name) for name, paper in papers.items()],
        "notes": facts["notes"],
        "requirements": {"python": [f"crysmm=={__version__}"]},
    }


def _code(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """Python that makes the submission again, from what its results say of each task."""
    parameters = [next(iter(folds.values()))["parameters"] for folds in tasks.values()]
    commands = [shlex.split(each["command"])[1:] for each in parameters if "command" in each]
    made_with = ", ".join(dict.fromkeys(each["versions"] for each in parameters if "versions" in each))
    calls = "".join(f"    main({[*words, '--output_dir', 'runs']!r})\n" for words in commands)
    return (
        f'"""Makes this submission again, with {made_with};\n'
        f'the folds: pip install --no-deps {PACKAGE}; the data, as matminer distributes them, in this folder."""\n\n'
        f'from crysmm.cli.main import main\n\nif __name__ == "__main__":\n{calls}'
    )


def describe_folds(task: Task, folds: Mapping[str, Mapping[str, Any]], runs: Mapping[str, RunFolder]) -> Iterator[str]:
    """A line for each fold, and the mean over folds with its deviation, as Matbench shows them."""
    if task.is_classification:
        title, unit = "ROC-AUC of the probabilities", ""
        values = [run.read_metrics()["test"]["roc_auc"] for run in runs.values()]
    else:
        title, unit = "MAE", "" if task.unit == "1" else f" {task.unit}"
        values = [results["scores"]["mae"] for results in folds.values()]
    for (name, results), value in zip(folds.items(), values, strict=True):
        yield f"{name}: {title} {np.array(value, dtype=float):.4g}{unit} on {len(results['data']):,} crystals"
    yield f"{title} over {len(folds)} folds: {_mean(values)}{unit}"
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
        f"written to {submission.folder}, of {tasks}; to submit it:",
        *(f"  {number}. {step}" for number, step in enumerate(steps, 1)),
    ]
