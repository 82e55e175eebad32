"""``crysmm check``: read the input of a training, and report what is wrong with it."""

import argparse

from crysmm.cli.options import add_config_options, config_from, refuse_absent_device, report
from crysmm.config import TrainingConfig
from crysmm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings of ``crysmm train``, which decide what is checked."""
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; return 0 if nothing is wrong, else 1.

    Raises:
        InputError: No input is named, or nothing in it can be read.
    """
    config, notes = config_from(TrainingConfig, arguments)
    report(notes)
    if config.root_dir is None:
        raise InputError("--root_dir: missing; name the structures to check")
    from crysmm.io.inputs import open_input

    refuse_absent_device(config.device)
    open_input(config, None)  # which says what is wrong with the input as a whole before torch is imported
    from crysmm.audit.check import check_input

    findings = check_input(config)
    print(findings.text())
    return 0 if findings.clean else 1
