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
    from crysmm.audit.calibrate import calibrate
    from crysmm.inference.intervals import CALIBRATION_FILE
    from crysmm.runs.summary import describe_trust

    found = calibrate(arguments.model, arguments.root_dir, device=arguments.device)
    print(*describe_trust(found), f"written to {arguments.model}: {CALIBRATION_FILE}", sep="\n")
    return 0
