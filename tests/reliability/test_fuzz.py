"""The fuzz run on a few inputs, and tests that it sees what it looks for."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.reliability import fuzz, originals, subjects, watching
from tests.reliability.mutations import damaged, damaged_json
from tests.reliability.watching import Writes

FEW = {"poscar": 15, "cif": 15, "xyz": 15, "csv": 15, "json": 15, "config": 25, "model": 25}
FEW |= {"run": 15, "checkpoint": 40, "benchmark": 15}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The originals, with one model alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(originals, "MODELS", {"values": originals.MODELS["values"]})
        made = originals.Originals(tmp_path_factory.mktemp("originals"))
        made.models()
        yield made


@pytest.mark.parametrize("kind", FEW)
def test_damaged_inputs_end_well(kind, made, tmp_path):
    subject = subjects.SUBJECTS[kind](made)
    results = [fuzz.try_input(subject, kind, 10**6 + n, tmp_path / str(n)) for n in range(FEW[kind])]
    assert [result for result in results if result.outcome == fuzz.FAILED] == []
    assert {fuzz.SKIPPED, fuzz.REFUSED} & {result.outcome for result in results}


def test_the_same_seed_makes_the_same_input(made):
    text = made.poscars[0]
    assert [damaged(text, [text], Random(n)) for n in range(50)] == [
        damaged(text, [text], Random(n)) for n in range(50)
    ]
    assert len({damaged(text, [text], Random(n)) for n in range(50)}) > 40
    rows = made.rows[0]
    assert damaged_json(rows, Random(3)) == damaged_json(rows, Random(3)) != damaged_json(rows, Random(4))


def fails(monkeypatch, made, folder: Path, command) -> str:
    monkeypatch.setattr(watching, "crysmm", command)
    result = fuzz.try_input(subjects.Poscar(made), "poscar", 1, folder)
    assert result.outcome == fuzz.FAILED
    return result.message


def refuse_with(text):
    def command(argv):
        print(text, file=fuzz.sys.stderr)
        return 2

    return command


def write_elsewhere(argv):
    Path("elsewhere.txt").write_text("x")
    return 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda argv: 1 // 0, "ZeroDivisionError"),
        (lambda argv: 3, "sound crystals"),
        (refuse_with(""), "without a message"),
        (refuse_with("error: " + "x" * 3000), "a line of 3007 characters"),
    ],
)
def test_what_must_not_happen_is_seen(monkeypatch, made, tmp_path, command, message):
    assert message in fails(monkeypatch, made, tmp_path, command)


def test_writing_elsewhere_is_seen(tmp_path):
    (tmp_path / "output").mkdir()
    with Writes() as writes:
        (tmp_path / "output" / "a").write_text("x")
        os.replace(tmp_path / "output" / "a", tmp_path / "b")
        (tmp_path / "b").read_text()
    assert writes.outside(tmp_path / "output") == [str(tmp_path / "b")]


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGSEGV, "the process died: -11"), (signal.SIGPROF, "more than 10 s")]
)
def test_a_crash_of_compiled_code_and_a_hang_are_seen(tmp_path, monkeypatch, number, message):
    dies = f"import os, sys; sys.stdin.readline(); os.kill(os.getpid(), {int(number)})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    monkeypatch.setattr(fuzz.Server, "_start", lambda self: subprocess.Popen([sys.executable, "-c", dies], **pipes))
    result = fuzz.Server(tmp_path).try_input("poscar", 1)
    assert (result.outcome, result.message) == (fuzz.FAILED, message)
