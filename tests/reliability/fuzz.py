r"""Ten thousand damaged inputs: each is read, skipped with a reason, or refused with a clear error.

    python -m tests.reliability.fuzz --work DIR

Structure files, tables, settings, model folders, finished runs, checkpoints of other code and files of benchmarks are
made of real ones by seeded changes
(:mod:`tests.reliability.mutations`) and given to the commands that read them. An input fails if it gets anything
but an exit code with a short message: a traceback, a crash of compiled code, more than 10 seconds of processor time,
more than 1 GiB of memory, a sound crystal that is not predicted beside it, or a file written elsewhere than to the
output and the cache. What fails is kept in ``DIR/failures`` and printed. Inputs run in a process that is replaced when
it dies; what is done is not done again, so that a stopped run goes on. ``--only cif:17`` runs one again, in the
open.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TextIO

from tqdm import tqdm

from benchmarks.processes import CHECKOUT, heading, row
from tests.reliability.originals import Originals
from tests.reliability.subjects import ACCEPTED, REFUSED, SKIPPED, SUBJECTS, Subject, checking, predicting
from tests.reliability.watching import Writes, peak_memory, reset_peak_memory
from tests.reliability.watching import run as run_command

FAILED = "failed"
COUNTS = {
    "poscar": 1100, "cif": 1500, "xyz": 1100, "csv": 1100, "json": 1200, "config": 1000, "model": 1000,
    "run": 700, "checkpoint": 700, "benchmark": 600,
}  # fmt: skip
MOST_SECONDS = 10  # of processor time
MOST_WALL_SECONDS = 300  # for who waits without computing
MOST_MEMORY = 1.0  # GiB above what the process had
MOST_ADDRESSES = 8 << 30  # bytes above what the process had; what asks for more gets an error of its own
LONGEST_LINE = 2000  # characters of a message that is clear
INPUTS_PER_PROCESS = 500


@dataclass(frozen=True)
class Result:
    """What has become of an input.

    Args:
        kind: a key of ``SUBJECTS``.
        number: its seed.
        outcome: accepted, skipped, refused or failed.
        seconds: of processor time.
        memory: GiB above what the process had.
        message: the last line said, or why it failed.
    """

    kind: str
    number: int
    outcome: str
    seconds: float
    memory: float
    message: str


def try_input(subject: Subject, kind: str, number: int, folder: Path) -> Result:
    """Make an input, run its command in this process, and judge."""
    for name in ("input", "output", "cache", "elsewhere"):
        (folder / name).mkdir(parents=True)
    argv = subject.write(folder, Random(f"{kind} {number}"))
    before = reset_peak_memory()
    started = time.process_time()
    with contextlib.chdir(folder / "elsewhere"), Writes() as writes:
        code, said = run_command(argv)
    seconds, memory = time.process_time() - started, peak_memory() - before
    outcome, message = _judged(subject, folder, code, said)
    strange = writes.outside(folder / "output", folder / "cache")
    if outcome != FAILED and (strange or memory > MOST_MEMORY):
        outcome, message = FAILED, f"wrote {strange}" if strange else f"took {memory:.1f} GiB"
    return Result(kind, number, outcome, round(seconds, 3), round(memory, 3), message)


def _judged(subject: Subject, folder: Path, code: int, said: str) -> tuple[str, str]:
    lines = said.strip().splitlines()
    last = lines[-1] if lines else ""
    if "Traceback" in said:
        return FAILED, said
    if code == 2 and "error: " not in said:
        return FAILED, f"refused without a message: {said}"
    if max(map(len, lines), default=0) > LONGEST_LINE:
        return FAILED, f"a line of {max(map(len, lines))} characters is said: {max(lines, key=len)[:300]}"
    try:
        return subject.judge(folder, code), last
    except Exception:  # noqa: BLE001 - whatever its check meets
        return FAILED, f"{traceback.format_exc()}\n{said}"


def serve(work: Path) -> None:
    """Try the inputs named on standard input, a line each; the results go to standard output."""
    answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    originals = Originals(work / "originals")
    subjects = {kind: subject(originals) for kind, subject in SUBJECTS.items()}
    _warm_up(originals, work / "warm")
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (addresses + MOST_ADDRESSES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        kind, number = line.split()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)  # their signals end the process, even in compiled code
        signal.setitimer(signal.ITIMER_REAL, MOST_WALL_SECONDS)
        result = try_input(subjects[kind], kind, int(number), case_folder(work, kind, number))
        print(json.dumps(asdict(result)), file=answers, flush=True)


def _warm_up(originals: Originals, folder: Path) -> None:
    """Read sound crystals, so that the first damaged ones are not charged for what is imported."""
    shutil.rmtree(folder, ignore_errors=True)
    good = originals.write_good(folder / "input", 2)
    (folder / "input" / "id_prop.csv").write_text("".join(f"{file},{number}\n" for number, file in enumerate(good)))
    for model in originals.models().values():
        run_command([*predicting(model, folder), "--root_dir", str(folder / "input")])
    run_command(checking(folder / "input", folder))


def case_folder(work: Path, kind: str, number: int | str) -> Path:
    """Where an input is tried."""
    return work / "cases" / f"{kind}-{number}"


class Server:
    """A process that tries inputs; another takes its place after its death, and after some hundred of them."""

    def __init__(self, work: Path):
        self._work = work
        self._process: subprocess.Popen[str] | None = None
        self._tried = 0

    def try_input(self, kind: str, number: int) -> Result:
        """What has become of an input."""
        if self._process is None:
            self._process, self._tried = self._start(), 0
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        started = time.monotonic()
        self._process.stdin.write(f"{kind} {number}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer:
            self._tried += 1
            if self._tried == INPUTS_PER_PROCESS:
                self.close()
            return Result(**json.loads(answer))
        code, self._process = self._process.wait(), None
        ends = {-signal.SIGPROF: f"more than {MOST_SECONDS} s", -signal.SIGALRM: f"no end in {MOST_WALL_SECONDS} s"}
        why = ends.get(code, f"the process died: {code}")
        return Result(kind, number, FAILED, time.monotonic() - started, 0.0, why)

    def close(self) -> None:
        """Let the process end."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.reliability.fuzz", "--work", str(self._work), "--serve"]
        home = {"HOME": str(self._work / "home"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=os.environ | home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )


def run(work: Path, inputs: list[tuple[str, int]], progress: bool = True) -> list[Result]:
    """Try those of the inputs that have no result yet; the results of all, which ``results.jsonl`` holds."""
    originals = Originals(work / "originals")
    originals.models()
    originals.submission()
    (work / "home").mkdir(exist_ok=True)
    path = work / "results.jsonl"
    results = {(result.kind, result.number): result for result in read_results(path)}
    server = Server(work)
    with path.open("a") as file, tqdm(inputs, unit=" inputs", disable=not progress) as bar:
        for kind, number in bar:
            if (kind, number) in results:
                continue
            folder = case_folder(work, kind, number)
            shutil.rmtree(folder, ignore_errors=True)
            result = results[kind, number] = server.try_input(kind, number)
            if result.outcome == FAILED:
                _keep(folder, work / "failures" / folder.name, result)
            shutil.rmtree(folder, ignore_errors=True)
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
    server.close()
    return [results[key] for key in inputs]


def _keep(folder: Path, kept: Path, result: Result) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder / "input", kept / "input")
    (kept / "why.txt").write_text(result.message)
    *_, last = result.message.strip().splitlines() or [""]
    tqdm.write(f"{result.kind}:{result.number} failed: {last[:200]}; kept in {kept}")


def read_results(path: Path) -> Iterator[Result]:
    """Of an earlier run; a last line that was not finished is left out."""
    if path.exists():
        for line in path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield Result(**json.loads(line))


def report(results: list[Result]) -> str:
    """A table in Markdown: a line a kind."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[result.kind].append(result)
    titles = "| input | tried | accepted | skipped with a reason | refused | failed | slowest, s | memory, GiB |"
    lines = [heading(titles)]
    for kind, some in [*by_kind.items(), ("all", results)]:
        counts = Counter(result.outcome for result in some)
        slowest, memory = max(result.seconds for result in some), max(result.memory for result in some)
        numbers = [len(some), *(counts[outcome] for outcome in (ACCEPTED, SKIPPED, REFUSED, FAILED))]
        lines.append(row([kind, *(f"{number:,}" for number in numbers), f"{slowest:.2f}", f"{memory:.2f}"]))
    return "\n".join(lines)


def main() -> None:
    """Read the command line, try, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for models, results and failures")
    parser.add_argument("--share", type=float, default=1.0, help="try this share of the inputs (1)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input of each kind (0)")
    parser.add_argument("--kinds", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="try these alone")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="try one input again, and print its command and result")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    if arguments.serve:
        serve(work)
        return
    if arguments.only:
        kind, number = arguments.only.split(":")
        folder = case_folder(work, kind, number)
        shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(asdict(try_input(SUBJECTS[kind](Originals(work / "originals")), kind, int(number), folder))))
        return
    inputs = [
        (kind, arguments.first + number)
        for kind in arguments.kinds
        for number in range(round(arguments.share * COUNTS[kind]))
    ]
    results = run(work, inputs)
    (work / "table.md").write_text(report(results) + "\n")
    print(report(results))
    sys.exit(any(result.outcome == FAILED for result in results))


if __name__ == "__main__":
    main()
