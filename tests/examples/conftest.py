"""Runs the examples as they stand, in this process."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder for stored graphs that is not the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run_example(cache):
    """Run ``examples/NAME`` with arguments, its stored graphs in a folder of their own."""

    def run(name, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            patch.setenv("XDG_CACHE_HOME", str(cache))
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


@pytest.fixture(scope="session")
def read_predictions():
    """Ids, targets and predictions of one split, from the file that a run writes."""

    def read(folder, split):
        with (folder / f"prediction_results_{split}_set.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        numbers = np.array([[float(row["target"]), float(row["prediction"])] for row in rows])
        return [row["id"] for row in rows], numbers[:, 0], numbers[:, 1]

    return read
