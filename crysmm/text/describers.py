"""Describers of crystals, each run in a process of its own because it is foreign code that may hang, crash or print.

The process reads one request per line and writes one answer per line. Each request sets the system's alarm clock, which
ends a process that takes too long even inside compiled code, whether or not the parent still waits for the answer.

Robocrystallographer (Ganose and Jain, MRS Communications 9, 874, 2019) writes its own text, five times faster:
prototypes whose anonymous formula differs cannot match and are not tried, and the table of molecules is read once
instead of once per crystal. It works offline: a molecule that the table does not contain is not looked up on PubChem.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any, Literal

from crysmm.crystals.crystal import Crystal
from crysmm.errors import MissingDependencyError

SECONDS_TO_START = 300
TIMEOUT = 120  # seconds per crystal, by default
NUMPY_NUMBER = re.compile(r"np\.\w+\(([^()]*)\)")


class Robocrystallographer:
    """Robocrystallographer with its default settings."""

    def __init__(self) -> None:
        from robocrys import StructureCondenser, StructureDescriber
        from robocrys.condense import condenser
        from robocrys.condense.mineral import MineralMatcher, ReducedAflowPrototypeMatcher
        from robocrys.condense.molecule import MoleculeNamer

        class SameFormulaMatcher(MineralMatcher):
            """Tries only the prototypes with the structure's anonymous formula (AB2 for MoS2)."""

            def get_aflow_matches(self, structure: Any) -> list[dict[str, Any]] | None:
                self._set_distance_matrix(structure)
                minerals = self._mineral_db
                assert minerals is not None
                same_formula = minerals[minerals["anonymous"] == structure.composition.anonymized_formula]
                tolerances = self.initial_ltol, self.initial_stol, self.initial_angle_tol
                matcher = ReducedAflowPrototypeMatcher(*tolerances, same_formula)
                matches: list[dict[str, Any]] | None = matcher.get_prototypes(structure)
                return matches

        # The condenser makes a namer per crystal, each of which would read the table of molecules again.
        condenser.MoleculeNamer = cache(partial(MoleculeNamer, use_online_pubchem=False))  # type: ignore[misc, assignment]
        matcher = SameFormulaMatcher()
        prototypes = matcher.mineral_db["structure"]
        matcher.mineral_db["anonymous"] = [prototype.composition.anonymized_formula for prototype in prototypes]
        self._condenser = StructureCondenser(mineral_matcher=matcher)
        self._describer = StructureDescriber()

    def describe(self, crystal: Crystal) -> str:
        """Return a paragraph on symmetry, prototype, the environment of each kind of site, bond lengths and angles."""
        from pymatgen.core import Structure

        structure = Structure(crystal.lattice, crystal.elements, crystal.frac_coords)
        text = str(self._describer.describe(self._condenser.condense_structure(structure)))
        return NUMPY_NUMBER.sub(r"\1", text)  # numpy 2 writes np.int64(1) where 1 is meant


class Jarvis:
    """``Atoms.describe`` of JARVIS, which is much faster and less detailed."""

    def describe(self, crystal: Crystal) -> str:
        """Return a few lines on symmetry, composition, distances, the lattice and peaks of the diffraction pattern."""
        described = crystal.to_jarvis().describe()
        text: str = described["desc_2"]
        # JARVIS takes the Wyckoff letters from a set, so that their order would differ between processes.
        wyckoff = described["structure_info"]["wyckoff"]
        return text.removesuffix(f"{wyckoff}.") + ", ".join(sorted(wyckoff.split(", "))) + "."


DescriberName = Literal["robocrys", "jarvis"]
DESCRIBERS: dict[DescriberName, type[Robocrystallographer] | type[Jarvis]] = {
    "robocrys": Robocrystallographer,
    "jarvis": Jarvis,
}
PACKAGES: dict[DescriberName, str] = {"robocrys": "robocrys", "jarvis": "jarvis-tools"}


def describer_version(name: DescriberName) -> str:
    """Return the version of a describer's package.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    # The version is read from the package's metadata: importing Robocrystallographer takes seconds.
    package = PACKAGES[name]
    try:
        return version(package)
    except PackageNotFoundError:
        raise MissingDependencyError(
            f"descriptions by {name} need the package {package}, which is not installed: pip install 'crysmm[text]'"
        ) from None


@dataclass(frozen=True)
class Answer:
    """Result of describing one crystal.

    Args:
        text: Description, or None if there is none.
        reason: Reason why there is no text.
        seconds: Time taken, in seconds.
    """

    text: str | None
    reason: str | None
    seconds: float


class DescribingProcess:
    """Process that describes crystals one after another, started when needed and again after it has ended.

    Args:
        name: Name of the describer.
    """

    def __init__(self, name: DescriberName):
        self.name = name
        self._process: subprocess.Popen[str] | None = None

    def describe(self, crystal: Crystal, timeout: float) -> Answer:
        """Describe a crystal, for at most ``timeout`` seconds."""
        if self._process is None:
            # OpenMP threads would compete with those of the other processes.
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from crysmm.text.describers import serve; serve({self.name!r})"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        request = {
            "timeout": timeout,
            "lattice": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "elements": crystal.elements,
        }
        started = time.monotonic()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()  # empty if the process ends without an answer
        except BrokenPipeError:
            answer = ""
        if answer:
            return Answer(**json.loads(answer))
        self._process = None
        code = process.wait()
        reason = f"no text after {timeout:g} seconds" if code == -signal.SIGALRM else f"the describer ended with {code}"
        return Answer(None, reason, time.monotonic() - started)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


_idle: dict[DescriberName, list[DescribingProcess]] = defaultdict(list)
_lock = Lock()


@contextmanager
def borrowed(name: DescriberName) -> Iterator[DescribingProcess]:
    """Yield a process that no other thread uses in the block; afterwards it stays idle, as starting takes seconds."""
    # As many processes exist as threads describe at the same time: a new one is made only if none is idle.
    with _lock:
        process = _idle[name].pop() if _idle[name] else DescribingProcess(name)
    try:
        yield process
    except BaseException:
        process.close()  # its answer may still be in the pipe, and would be taken for that of the next crystal
        raise
    with _lock:
        _idle[name].append(process)


def end_processes() -> None:
    """End the idle processes; otherwise they end with this process."""
    with _lock:
        processes = [process for kept in _idle.values() for process in kept]
        _idle.clear()
    # Outside of the lock, as each call waits for a process to end.
    for process in processes:
        process.close()


def serve(name: DescriberName) -> None:
    """Answer requests from standard input on standard output until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output that the describer prints is not an answer
    signal.alarm(SECONDS_TO_START)
    describer = DESCRIBERS[name]()
    for line in sys.stdin:
        request = json.loads(line)
        timeout = request.pop("timeout")
        crystal = Crystal.from_arrays(**request)
        started = time.monotonic()
        signal.alarm(math.ceil(timeout))
        text = None
        try:
            text = " ".join(describer.describe(crystal).split()) or None
            reason = "the description is empty" if text is None else None
        except Exception as error:  # noqa: BLE001 - foreign code: whatever it raises is the reason
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
        signal.alarm(0)
        answer = Answer(text, reason, round(time.monotonic() - started, 3))
        print(json.dumps(asdict(answer)), file=answers, flush=True)
