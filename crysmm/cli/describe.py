"""``crysmm describe``: structures in, a file of descriptions out."""

import argparse
from pathlib import Path
from typing import get_args

from crysmm.cli.options import positive, warn
from crysmm.errors import CrysmmError
from crysmm.io.source import FileFormat

SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The structures, the describer, the file, and who does the work."""
    parser.add_argument(
        "--root_dir",
        type=Path,
        required=True,
        metavar="PATH",
        help="Folder with structures, with id_prop or without, or one .json, .json.zip, .jsonl or .jsonl.gz file; "
        "targets are not read.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("descriptions.jsonl"),
        metavar="FILE",
        help="File of descriptions (descriptions.jsonl); where it is there, only what it lacks is described.",
    )
    parser.add_argument(
        "--describer",
        choices=("robocrys", "jarvis"),
        default="robocrys",
        help="robocrys: Robocrystallographer, as in the paper (default). jarvis: JARVIS' own, much faster.",
    )
    parser.add_argument("--timeout", type=positive, default=120, metavar="N", help="Seconds a crystal may take (120).")
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="Crystals described at a time; by default all cores."
    )
    parser.add_argument(
        "--backend", choices=("local", "dask"), default="local", help="local: this machine (default). dask: a cluster."
    )
    parser.add_argument("--scheduler", metavar="URL", help="Of the Dask cluster: tcp://HOST:PORT.")
    parser.add_argument("--id_key", metavar="TEXT", help="Key of the ids in a JSON file; by default jid, else id.")
    parser.add_argument(
        "--file_format", choices=get_args(FileFormat), help="Format of the structure files; by default told from each."
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="Describe only so many rows from the beginning.")


def run(arguments: argparse.Namespace) -> int:
    """Describe; 0 if there is a text, 2 if no structure could be described.

    Raises:
        CrysmmError: The input as a whole, the output or the describer cannot be used.
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
    print(f"{len(texts)} of {total} structures described, {summary.n_kept} of them before: {arguments.output}")
    _warn("described by JARVIS, as robocrys failed", [(row.id, row.reason) for row in summary.replaced])
    _warn("not described", [(row.id, row.reason) for row in summary.failed])
    _warn("skipped", [(row.file, row.reason) for row in summary.skipped])
    if not texts:
        raise CrysmmError("no structure could be described")
    return 0


def _warn(what: str, rows: list[tuple[str, str | None]]) -> None:
    if rows:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in rows[:SHOWN])
        more = f"\n  and {len(rows) - SHOWN} more, in the file" if len(rows) > SHOWN else ""
        warn(f"{len(rows)} {what}:{reasons}{more}")
