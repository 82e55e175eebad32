"""``crysmm train``: settings in, a run folder out."""

import argparse
import os
from collections.abc import Iterator

from crysmm.cli.options import add_config_options, config_from, describe, report
from crysmm.config import RunConfig, TrainingConfig
from crysmm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every setting, and the ways to give and to see them."""
    parser.add_argument("--print_config", action="store_true", help="Show every setting as it would be used, and stop.")
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, or show the settings."""
    config, notes = config_from(TrainingConfig, arguments)
    report(notes)
    if arguments.print_config:
        print(describe(config))
        return 0
    return train_with(config)


def train_with(config: TrainingConfig) -> int:
    """Train on the folder the settings name.

    Raises:
        InputError: No input or no output folder is named.
    """
    prepare_run(config)
    report(_aside(config))
    from crysmm.training.train import train

    train(config)
    return 0


def _aside(config: TrainingConfig) -> Iterator[str]:
    """Files that peers keep beside the structures and that mean nothing here, or only where they are named."""
    assert config.root_dir is not None
    features, ids = config.root_dir / "atom_init.json", config.root_dir / "ids_train_val_test.json"
    if features.is_file():
        yield f"{features} is not read: element features are those of --atom_features {config.atom_features}"
    if config.ids_file is None and ids.is_file():
        yield f"{ids} is not used: give --ids_file {ids} to split as it says"


def prepare_run(config: RunConfig) -> None:
    """Make sure of what a run needs, before the heavy imports.

    Raises:
        InputError: No input or no output folder is named.
    """
    for key, what in (("root_dir", "the structures to learn from"), ("output_dir", "the folder to write the run to")):
        if dict(config)[key] is None:
            raise InputError(f"--{key}: missing; name {what}")
    from crysmm.data.store import cache_folder

    # Matplotlib, which training imports, keeps a list of fonts, by default in the home folder.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder(config.cache_dir) / "matplotlib"))
