"""``crysmm matbench``: train on the folds of a Matbench v0.1 task, and write a submission."""

import argparse

from crysmm.cli.options import add_config_options, config_from, folder_name, path, report
from crysmm.cli.train import prepare_run
from crysmm.config import TrainingConfig
from crysmm.errors import InputError
from crysmm.files import refuse_unwritable
from crysmm.publish.submission import SPLIT, ignored_settings

SET = SPLIT | {"classification_threshold", "unit"}  # settings that the benchmark fixes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the task, its folds, the submission, and the settings of training."""
    parser.add_argument("--task", required=True, metavar="NAME", help="Task with structures, such as matbench_jdft2d.")
    parser.add_argument(
        "--folds",
        type=path,
        metavar="FILE",
        help="Matbench's matbench_v0.1_validation.json; by default that in the package matbench, if it is installed.",
    )
    parser.add_argument(
        "--algorithm", type=folder_name, metavar="NAME", help="Name of the submission (crysmm_BACKBONE)."
    )
    parser.add_argument("--authors", metavar="TEXT", help="Authors for info.json; by default a placeholder.")
    parser.add_argument("--notes", metavar="TEXT", help="Notes for info.json; by default a placeholder.")
    add_config_options(parser, without=SET | {"model.classification"})


def run(arguments: argparse.Namespace) -> int:
    """Train on every fold, and write the submission.

    Raises:
        InputError: The task, its folds, a setting, the crystals or the folder cannot be used.
    """
    from crysmm.publish.matbench_tasks import find_task, load_folds

    task = find_task(arguments.task)
    folds = load_folds(task, arguments.folds)
    config, notes = config_from(TrainingConfig, arguments)
    report([*notes, *ignored_settings(config, SET)])
    prepare_run(config)
    assert config.root_dir is not None
    assert config.output_dir is not None
    refuse_unwritable(config.output_dir)
    if not config.root_dir.exists():
        raise InputError(f"{config.root_dir} does not exist")

    from crysmm.processes import is_first_process
    from crysmm.publish.matbench import (
        PLACEHOLDERS,
        describe_folds,
        next_steps,
        read_submission,
        submission_folder,
        train_on_folds,
        write_submission,
    )

    algorithm = arguments.algorithm or f"crysmm_{config.network}"
    read_submission(submission_folder(config, algorithm))  # reports a damaged file before anything is trained
    runs = train_on_folds(task, folds, config, print if is_first_process() else lambda text: None)
    if not is_first_process():
        return 0
    known = {key: value for key in PLACEHOLDERS if (value := vars(arguments)[key]) is not None}
    submission = write_submission(task, folds, runs, config, algorithm, known)
    print(*describe_folds(task, submission), *next_steps(submission), sep="\n")
    return 0
