"""A small trained model, and the page of a running ``crysmm app``."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crysmm.config import TrainingConfig
from crysmm.training.train import train

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
SECONDS_TO_START = 120
SECONDS_TO_END = 60


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, small_run):
    """A run on bulk moduli with enough validation crystals for intervals of 90%."""
    folder = tmp_path_factory.mktemp("app")
    config = TrainingConfig(
        root_dir=SAMPLE_DATA,
        output_dir=folder / "run",
        cache_dir=folder / "cache",
        limit=60,
        epochs=4,
        **small_run,
    )
    return train(config).folder


@pytest.fixture(scope="session")
def sample_files():
    """Structure files: some that the model has learned from and some that it has not."""
    return sorted(SAMPLE_DATA.glob("*.vasp"))[::25]


class RunningApp:
    """A process that serves the page.

    Args:
        folder: its temporary files and its working directory lie in it.
        arguments: of the command.
    """

    def __init__(self, folder, *arguments):
        self.temporary, self.working = folder / "tmp", folder / "work"
        for made in (self.temporary, self.working):
            made.mkdir(parents=True)
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crysmm", "app", *arguments],
            env=os.environ | {"TMPDIR": str(self.temporary), "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=self.working,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.url = self._wait_for_address()
        self.port = int(self.url.rpartition(":")[2])

    @property
    def output(self):
        """What it has printed so far."""
        return Path(self._log.name).read_text()

    def _wait_for_address(self):
        end = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < end and self._process.poll() is None:
            if found := re.search(r"http://\S+", self.output):
                return found.group()
            time.sleep(0.1)
        pytest.fail(f"the app has not started: {self.output}")

    def end(self):
        """Press Ctrl-C, and wait; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(SECONDS_TO_END)
        finally:
            self._process.kill()
            self._log.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory, run_folder):
    """The page with one more model than the shipped ones."""
    pytest.importorskip("gradio")
    running = RunningApp(tmp_path_factory.mktemp("app"), "--model", str(run_folder))
    yield running
    running.end()
