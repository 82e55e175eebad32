"""Processes to be timed or watched, and tables of their results."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"


def output_of(command: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """Run a command in the checkout and return its output.

    Raises:
        SystemExit: The command failed.
    """
    done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    check(command, done.returncode, done.stderr)
    return done.stdout


def heading(titles: str) -> str:
    """Return the first two lines of a Markdown table, given the titles as ``| one | two |``."""
    return f"{titles}\n{'|-' * (titles.count('|') - 1)}|"


def row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def check(command: Sequence[str], code: int, errors: str) -> None:
    """Exit with the end of a command's error output if it has failed.

    Raises:
        SystemExit: The command failed.
    """
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{errors[-2000:]}")
