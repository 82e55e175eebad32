"""``crysmm pretrain``: pre-train an encoder on structures without labels."""

import argparse

from crysmm.cli.options import add_config_options, add_print_config, config_from, printed, report
from crysmm.cli.train import prepare_run, refuse_unusable_run
from crysmm.config import PretrainingConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all settings of a pre-training run, and the option to print them."""
    add_print_config(parser)
    add_config_options(parser, PretrainingConfig)


def run(arguments: argparse.Namespace) -> int:
    """Pre-train, or print the settings.

    Raises:
        InputError: No input or no output folder is named.
    """
    config, notes = config_from(PretrainingConfig, arguments)
    report(notes)
    if printed(config, arguments):
        return 0
    prepare_run(config)
    refuse_unusable_run(config)
    from crysmm.training.pretrain import pretrain

    pretrain(config)
    return 0
