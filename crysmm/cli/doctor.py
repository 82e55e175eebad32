"""``crysmm doctor``: the state of the installation, and what mends it."""

import argparse
from pathlib import Path

from crysmm.doctor import examine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where stored graphs would go."""
    parser.add_argument("--cache_dir", type=Path, metavar="PATH", help="Folder for stored graphs, as for training.")


def run(arguments: argparse.Namespace) -> int:
    """Print what is found; 0 if all is well, else 1."""
    remedies = []
    for finding in examine(arguments.cache_dir):
        print(f"{'!' if finding.remedy else ' '} {finding.name:26}{finding.state}", flush=True)
        remedies += [finding.remedy] if finding.remedy else []
    if not remedies:
        print("All is well.")
        return 0
    print("To mend it:", *(f"  {remedy}" for remedy in remedies), sep="\n")
    return 1
