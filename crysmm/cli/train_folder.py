"""``train_folder.py``: ``crysmm train`` with the name and the options of ALIGNN's and CrysMMNet's script."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crysmm.cli.main import run_command
from crysmm.cli.options import add_config_options, add_print_config, config_from, path, printed, report
from crysmm.cli.train import train_with
from crysmm.config import TrainingConfig
from crysmm.errors import InputError

NAME = "train_folder.py"
SUMMARY = (
    "Train a model on a folder of structures, with the options of ALIGNN's and CrysMMNet's train_folder.py. "
    "Without --root_dir it reads the current folder, without --output_dir it writes to ./crysmm_run."
)
DEFAULT_ROOT = Path()
DEFAULT_OUTPUT = Path("crysmm_run")
IGNORED = ("force_key", "atomwise_key", "stresswise_key", "additional_output_key", "dataset")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script."""
    return run_command(__name__, NAME, SUMMARY, sys.argv[1:] if argv is None else argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of those scripts, and all settings of ``crysmm train``."""
    add_print_config(parser)
    parser.add_argument(
        "--property", dest="target_key", default=argparse.SUPPRESS, metavar="TEXT", help="Same as --target."
    )
    parser.add_argument(
        "--restart_model_path", type=path, metavar="DIR", help="Same as --init_from: a model folder of this package."
    )
    for name in IGNORED:
        parser.add_argument(f"--{name}", metavar="TEXT", help="Accepted and ignored.")
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, or print the settings.

    Raises:
        InputError: ``--restart_model_path`` is not a model folder, or a setting cannot be used.
    """
    given = dict(vars(arguments))
    ignored = [f"--{name}" for name in IGNORED if given.pop(name) is not None]
    restart = given.pop("restart_model_path")
    if restart is not None:
        if not (restart / "model.json").is_file():
            raise InputError(
                f"--restart_model_path: {restart} is not a model folder of this package (it has no model.json); "
                "weights of ALIGNN or CrysMMNet (.pt files) cannot be read"
            )
        given["init_from"] = str(restart)
    config, notes = config_from(TrainingConfig, argparse.Namespace(**given))
    report([f"ignored, as they have no effect here: {', '.join(ignored)}"] if ignored else [])
    report(notes)
    config = config.model_copy(
        update={"root_dir": config.root_dir or DEFAULT_ROOT, "output_dir": config.output_dir or DEFAULT_OUTPUT}
    )
    return 0 if printed(config, arguments) else train_with(config)
