"""``crysmm describe``: write a file with a text description of each structure."""

import argparse
from pathlib import Path
from typing import get_args

from crysmm.cli.options import positive, warn
from crysmm.errors import CrysmmError
from crysmm.io.source import FileFormat

SHOWN = 3  # rows of each kind of problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the structures, the file to write, the describer, and the processes or the cluster."""
    parser.add_argument(
        "--root_dir",
        type=Path,
        required=True,
        metavar="PATH",
        help="Folder with structures, with or without id_prop, or one .json, .json.zip, .jsonl or .jsonl.gz file; "
        "targets are not read.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("descriptions.jsonl"),
        metavar="FILE",
        help="File of descriptions (descriptions.jsonl); if it exists, only structures missing from it are described.",
    )
    parser.add_argument(
        "--describer",
        choices=("robocrys", "jarvis"),
        default="robocrys",
        help="robocrys: Robocrystallographer, as in CrysMMNet's paper (default). jarvis: that of JARVIS, much faster.",
    )
    parser.add_argument("--timeout", type=positive, default=120, metavar="N", help="Maximum seconds per crystal (120).")
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="Number of crystals described at a time; by default one per core."
    )
    parser.add_argument(
        "--backend", choices=("local", "dask"), default="local", help="local: this machine (default). dask: a cluster."
    )
    parser.add_argument("--scheduler", metavar="URL", help="Address of the Dask scheduler, tcp://HOST:PORT.")
    parser.add_argument("--id_key", metavar="TEXT", help="Key of the ids in a JSON file; by default jid, else id.")
    parser.add_argument(
        "--file_format",
        choices=get_args(FileFormat),
        help="Format of the structure files; by default detected for each file.",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="Describe only this many rows, from the beginning.")


def run(arguments: argparse.Namespace) -> int:
    """Describe the structures, and print how many were described and why others were not.

    Raises:
        CrysmmError: The input as a whole, the output or the describer cannot be used, or no structure is described.
    """
    from crysmm.io.inputs import open_source
    from crysmm.text.describe import describe

    source = open_source(
        arguments.root_dir,
        id_key=arguments.id_key,
        file_format=arguments.file_format,
        limit=arguments.limit,
        needs_targets=False,
    )
    summary = describe(
        source,
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
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in rows[:SHOWN])
            more = f"\n  and {len(rows) - SHOWN} more, in the file" if len(rows) > SHOWN else ""
            warn(f"{len(rows)} {problem}:{reasons}{more}")
    if not texts:
        raise CrysmmError("no structure could be described")
    return 0
