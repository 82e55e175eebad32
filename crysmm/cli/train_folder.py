"""``train_folder.py``: ``crysmm train`` under the name and the flags of ALIGNN's and CrysMMNet's script."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from crysmm.cli.main import run_command
from crysmm.cli.options import add_config_options, config_from, describe, report
from crysmm.cli.train import train_with
from crysmm.config import TrainingConfig
from crysmm.errors import InputError

NAME = "train_folder.py"
SUMMARY = (
    "Train a model on a folder of structures, with the flags of ALIGNN's and CrysMMNet's train_folder.py. "
    "Without --root_dir it reads the current folder, without --output_dir it writes to ./crysmm_run."
)
DEFAULT_ROOT = Path()
DEFAULT_OUTPUT = Path("crysmm_run")
WITHOUT_MEANING = ("force_key", "atomwise_key", "stresswise_key", "additional_output_key", "dataset")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script."""
    return run_command(__name__, NAME, SUMMARY, sys.argv[1:] if argv is None else argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the peers' scripts, and every setting of ``crysmm train``."""
    parser.add_argument("--print_config", action="store_true", help="Show every setting as it would be used, and stop.")
    parser.add_argument("--property", dest="target_key", default=argparse.SUPPRESS, metavar="TEXT", help="As --target.")
    parser.add_argument(
        "--restart_model_path", type=Path, metavar="DIR", help="As --init_from: a model folder of this package."
    )
    for name in WITHOUT_MEANING:
        parser.add_argument(f"--{name}", metavar="TEXT", help="Accepted, without a meaning here.")
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, or show the settings."""
    given = dict(vars(arguments))
    aside = [f"--{name}" for name in WITHOUT_MEANING if given.pop(name) is not None]
    restart = given.pop("restart_model_path")
    if restart is not None:
        given["init_from"] = str(_model_folder(restart))
    config, notes = config_from(TrainingConfig, argparse.Namespace(**given))
    report([f"without a meaning here, left aside: {', '.join(aside)}"] if aside else [])
    report(notes)
    config = config.model_copy(
        update={"root_dir": config.root_dir or DEFAULT_ROOT, "output_dir": config.output_dir or DEFAULT_OUTPUT}
    )
    if arguments.print_config:
        print(describe(config))
        return 0
    return train_with(config)


def _model_folder(path: Path) -> Path:
    if (path / "model.json").is_file():
        return path
    raise InputError(
        f"--restart_model_path: {path} is no model folder of this package (it has no model.json); weights of ALIGNN "
        "or CrysMMNet (.pt files) cannot be read"
    )
