"""Runs the data preparation as its users do: as commands, from the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def run_module():
    """Run ``python -m data_prep.NAME ARGUMENTS``; gives the finished process with its output."""

    def run(name, *arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", f"data_prep.{name}", *map(str, arguments)],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
