"""``crysmm calibrate``: a run from before there were intervals in, intervals out."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and where its structures are."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="Folder of a run of crysmm train.")
    parser.add_argument(
        "--root_dir", type=Path, metavar="PATH", help="The structures it has learned from, if they have moved."
    )
    parser.add_argument("--device", default="auto", metavar="TEXT", help="auto (default), cpu, cuda or cuda:N.")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate; 0.

    Raises:
        CrysmmError: The run, its model or its structures cannot be used.
    """
    from crysmm.training.summary import describe_trust
    from crysmm.trust.calibrate import calibrate
    from crysmm.trust.calibration import CALIBRATION_FILE

    found = calibrate(arguments.model, arguments.root_dir, device=arguments.device)
    print(*describe_trust(found), f"written to {arguments.model}: {CALIBRATION_FILE}", sep="\n")
    return 0
