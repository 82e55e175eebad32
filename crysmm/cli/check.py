"""``crysmm check``: everything that is read before training, read and reported on."""

import argparse

from crysmm.cli.options import add_config_options, config_from, report
from crysmm.config import TrainingConfig
from crysmm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The same settings as ``crysmm train``: what is checked depends on them."""
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 if there is nothing to find fault with, else 1.

    Raises:
        InputError: No input is named, or it cannot be read at all.
    """
    config, notes = config_from(TrainingConfig, arguments)
    report(notes)
    if config.root_dir is None:
        raise InputError("--root_dir: missing; name the structures to check")
    from crysmm.audit.check import check_input

    findings = check_input(config)
    print(findings.text())
    return 0 if findings.clean else 1
