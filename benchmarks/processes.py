"""Commands that are timed or watched, each a process of its own."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"


def output_of(command: Sequence[str], environ: Mapping[str, str] = os.environ) -> str:
    """What a command prints, run in the checkout.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True)
    check(command, done.returncode, done.stderr)
    return done.stdout


def heading(titles: str) -> str:
    """The first two lines of a table in Markdown, from its first, ``| one | two |``."""
    return f"{titles}\n{'|-' * (titles.count('|') - 1)}|"


def row(cells: Sequence[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def check(command: Sequence[str], code: int, errors: str) -> None:
    """End the program with a command's last words if it has failed.

    Raises:
        SystemExit: it has.
    """
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{errors[-2000:]}")
