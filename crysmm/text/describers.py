"""A describer in a process of its own: foreign code that may hang, crash or print, held at arm's length.

The process reads a request a line and writes an answer a line. Each request sets the system's alarm clock, which ends
a process that takes too long even inside compiled code, and whether or not anyone still waits for the answer.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any, Literal

from crysmm.crystal import Crystal
from crysmm.errors import MissingDependencyError

DescriberName = Literal["robocrys", "jarvis"]
DESCRIBERS: dict[DescriberName, tuple[str, str, str]] = {  # module, class, package
    "robocrys": ("crysmm.text.robocrys", "Robocrystallographer", "robocrys"),
    "jarvis": ("crysmm.text.jarvis", "Jarvis", "jarvis-tools"),
}
SECONDS_TO_START = 300


@dataclass(frozen=True)
class Answer:
    """A text, or the reason why there is none, and the seconds it took."""

    text: str | None
    reason: str | None
    seconds: float


def describer_version(name: DescriberName) -> str:
    """Version of the package that describes.

    Raises:
        MissingDependencyError: it is not installed.
    """
    package = DESCRIBERS[name][2]
    try:
        return version(package)
    except PackageNotFoundError:
        raise MissingDependencyError(
            f"descriptions by {name} need the package {package}, which is not installed: pip install 'crysmm[text]'"
        ) from None


class DescribingProcess:
    """Describes crystals one after another; started when it is first needed, and again after it has ended.

    Args:
        name: of the describer.
    """

    def __init__(self, name: DescriberName):
        self.name = name
        self._process: subprocess.Popen[str] | None = None

    def describe(self, crystal: Crystal, timeout: float) -> Answer:
        """Text of a crystal, or the reason why there is none after ``timeout`` seconds at most."""
        if self._process is None:
            self._process = self._start()
        request = {
            "timeout": timeout,
            "lattice_mat": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "elements": crystal.elements,
        }
        started = time.monotonic()
        answer = self._ask(json.dumps(request))
        if answer:
            return Answer(**json.loads(answer))
        process, self._process = self._process, None
        code = process.wait()
        reason = f"no text after {timeout:g} seconds" if code == -signal.SIGALRM else f"the describer ended with {code}"
        return Answer(None, reason, time.monotonic() - started)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "crysmm.text.describers", self.name]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            encoding="utf-8", env=environment,
        )  # fmt: skip

    def _ask(self, request: str) -> str:
        """The answer; empty where the process has ended before it gave one."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()


_idle: dict[DescriberName, list[DescribingProcess]] = defaultdict(list)
_lock = Lock()


@contextmanager
def borrowed(name: DescriberName) -> Iterator[DescribingProcess]:
    """A process nobody else uses meanwhile; it is kept for who comes next, as starting one takes seconds."""
    with _lock:
        process = _idle[name].pop() if _idle[name] else DescribingProcess(name)
    try:
        yield process
    finally:
        with _lock:
            _idle[name].append(process)


def end_processes() -> None:
    """End those that are kept; without this they end with this process."""
    with _lock:
        processes = [process for kept in _idle.values() for process in kept]
        _idle.clear()
    for process in processes:
        process.close()


def serve(name: DescriberName) -> None:
    """Answer the requests of standard input on standard output until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the describer prints is no answer
    signal.alarm(SECONDS_TO_START)
    module, kind, _ = DESCRIBERS[name]
    describer = getattr(importlib.import_module(module), kind)()
    for line in sys.stdin:
        print(json.dumps(_answer(describer, json.loads(line))), file=answers, flush=True)


def _answer(describer: Any, request: dict[str, Any]) -> dict[str, Any]:
    timeout = request.pop("timeout")
    crystal = Crystal.from_arrays(**{key.removesuffix("_mat"): value for key, value in request.items()})
    started = time.monotonic()
    signal.alarm(math.ceil(timeout))
    text, reason = None, None
    try:
        text = " ".join(describer.describe(crystal).split()) or None
        reason = "the description is empty" if text is None else None
    except Exception as error:  # noqa: BLE001 - the door of foreign code: whatever it raises is the reason
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    signal.alarm(0)
    return {"text": text, "reason": reason, "seconds": round(time.monotonic() - started, 3)}


if __name__ == "__main__":
    serve(sys.argv[1])  # type: ignore[arg-type]
