"""``crysmm describe``: write a file with a text description of each structure."""

import argparse
from pathlib import Path
from typing import get_args

from crysmm.cli.options import (
    UNLABELED,
    add_cluster_options,
    add_reading_options,
    listed,
    open_unlabeled,
    path,
    positive,
    warn,
)
from crysmm.errors import CrysmmError
from crysmm.text.describers import TIMEOUT, DescriberName

SHOWN = 3  # rows of each kind of problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the structures, the file to write, the describer, and the processes or the cluster."""
    parser.add_argument("--root_dir", type=path, required=True, metavar="PATH", help=UNLABELED)
    parser.add_argument(
        "--output",
        type=path,
        default=Path("descriptions.jsonl"),
        metavar="FILE",
        help="File of descriptions (descriptions.jsonl); if it exists, only structures missing from it are described.",
    )
    parser.add_argument(
        "--describer",
        choices=get_args(DescriberName),
        default="robocrys",
        help="robocrys: Robocrystallographer, as in CrysMMNet's paper (default). jarvis: that of JARVIS, much faster.",
    )
    parser.add_argument(
        "--timeout", type=positive, default=TIMEOUT, metavar="N", help="Maximum seconds per crystal (%(default)s)."
    )
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="Number of crystals described at a time; by default one per core."
    )
    add_cluster_options(parser)
    add_reading_options(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="Describe only this many rows, from the beginning.")


def run(arguments: argparse.Namespace) -> int:
    """Describe the structures, and print how many were described and why others were not.

    Raises:
        CrysmmError: The input as a whole, the output or the describer cannot be used, or no structure is described.
    """
    from crysmm.text.describe import describe

    summary = describe(
        open_unlabeled(arguments),
        arguments.output,
        arguments.describer,
        jobs=arguments.jobs,
        timeout=arguments.timeout,
        backend=arguments.backend,
        scheduler=arguments.scheduler,
    )
    texts = [*summary.described, *summary.replaced]
    total = len(texts) + len(summary.failed) + len(summary.skipped)
    print(f"{len(texts)} of {total} structures described, {summary.n_kept} of them earlier: {arguments.output}")
    problems: dict[str, list[tuple[str, str | None]]] = {
        "described by JARVIS, as robocrys failed": [(row.id, row.reason) for row in summary.replaced],
        "not described": [(row.id, row.reason) for row in summary.failed],
        "skipped": [(row.file, row.reason) for row in summary.skipped],
    }
    for problem, rows in problems.items():
        if rows:
            warn(f"{len(rows)} {problem}:{listed(rows[:SHOWN], len(rows), ', in the file')}")
    if not texts:
        raise CrysmmError("no structure could be described")
    return int(len(texts) < total)
