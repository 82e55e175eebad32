"""The run of kills, made small: one each of three commands; and what its comparison sees."""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from crysmm.cli.main import main
from tests import forked
from tests.reliability import kills

SHORT = {"store": ["--jobs", "1"], "train": ["--epochs", "3"], "predict": ["--jobs", "1"]}


def finish_here(command, folder, again=False):
    """As :func:`kills.finish`, in this process, which has imported all that is needed."""
    (folder / "output").mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        return main([*command.argv, *(command.again if again else [])])


def run_in_a_group(argv):
    """Run a command in this process, with a process group of its own and one thread."""
    os.setsid()
    torch.set_num_threads(1)
    sys.exit(main(argv))


class Forked:
    """Running command with what tests use of :class:`subprocess.Popen`, forked, as importing torch takes seconds."""

    def __init__(self, command, folder, again=False):
        (folder / "output").mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            argv = [*command.argv, *(command.again if again else [])]
            self._process = forked.start(run_in_a_group, argv, output=folder / "said.txt")
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def wait(self, seconds=None):
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("crysmm", seconds)
        return self._process.exitcode


@pytest.fixture(autouse=True)
def one_thread():
    """Compute here with as many threads as in the killed processes: some processors' sums depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One folder for all kills, as the run of them has it, so that matplotlib lists its fonts once."""
    return tmp_path_factory.mktemp("kills")


@pytest.mark.parametrize("name", SHORT)
def test_the_second_run_gives_the_same(name, work, monkeypatch):
    monkeypatch.setattr(kills, "finish", finish_here)
    monkeypatch.setattr(kills, "started", Forked)
    monkeypatch.setenv("MPLCONFIGDIR", str(work / "matplotlib"))
    command = kills.COMMANDS[name]
    command = replace(command, argv=[*command.argv, *SHORT[name]])
    whole = work / "undisturbed" / name
    started = time.monotonic()
    assert finish_here(command, whole) == 0
    (whole / "seconds.json").write_text(json.dumps(time.monotonic() - started))
    result = kills.try_kill(name, command, 0, work)
    assert result.outcome == "same"
    assert list((work / "kills").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (lambda found: None, "same"),
        (lambda found: found.update({"output/.x.1.tmp": b""}), r"left over: ['output/.x.1.tmp'], missing: []"),
        (lambda found: found.pop("output/a.csv"), r"left over: [], missing: ['output/a.csv']"),
        (lambda found: found.update({"output/a.csv": []}), r"other content: ['output/a.csv']"),
    ],
)
def test_differences_are_seen(change, outcome, tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "output" / "a.csv").write_text("epoch,seconds\n1,0.5\n")
    (tmp_path / "output" / "b.jsonl").write_text(json.dumps({"id": "a", "seconds": 2.0}) + "\n")
    expected = kills.contents(tmp_path)
    assert expected == {"output/a.csv": [["epoch"], ["1"]], "output/b.jsonl": [{"id": "a"}]}
    found = dict(expected)
    change(found)
    assert kills._outcome(0, found, expected) == outcome
