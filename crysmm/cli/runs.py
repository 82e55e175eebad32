"""``crysmm runs``: a table of the runs in a folder, and a page that compares them."""

import argparse
from pathlib import Path

from crysmm.cli.options import path, report
from crysmm.comparison.overview import HEADER, aligned, find_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and the page."""
    parser.add_argument(
        "folder",
        type=path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="Folder that is searched, with its subfolders, for runs of crysmm train and crysmm pretrain (.).",
    )
    parser.add_argument(
        "--html",
        type=path,
        metavar="FILE",
        help="Page to write: learning curves, and errors crystal by crystal of runs that share test crystals.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and write the page if one is named.

    Raises:
        InputError: There is no run in the folder, or the page cannot be written.
    """
    if arguments.html is not None:
        from crysmm.comparison.runs_page import refuse_page, write_runs_page

        refuse_page(arguments.html)
    runs, notes = find_runs(arguments.folder)
    print(*aligned(HEADER, [found.row() for found in runs], n_left=len(HEADER)), sep="\n", flush=True)
    report(notes)
    if arguments.html is not None:
        print(*write_runs_page(arguments.html, runs, notes), f"written to {arguments.html}", sep="\n")
    return 0
