r"""Kill -9 at random moments: the same command, given again, finishes with what an undisturbed one gives.

    python -m tests.reliability.kills --work DIR

Building a store, training, pre-training, describing and predicting are each run undisturbed once, and then killed at
seeded moments between their first file and their end, with all the processes they have started. The second run (with
``--resume`` where there is something to go on with) has to end well, give the same numbers to the last bit, and leave
the same files, so nothing of the first. What is done is not done again, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from benchmarks.processes import CHECKOUT, SAMPLE_DATA, check, heading, row
from tests.reliability.originals import TINY

KILLS = 10  # of each command
SECONDS_BETWEEN_LOOKS = 0.01
TIMES = ("seconds", "seconds_per_epoch", "peak_memory_gib")  # differ from run to run
WITHOUT_RESULTS = {  # hold times
    "train.log", "metrics.json", "config.json", "history.png", "parity.png", "report.html", "README.md",
}  # fmt: skip
BEFORE, WITHIN, AFTER = "before anything was kept", "in the middle", "at its end"


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Args:
        argv: after ``crysmm``; it writes to ``output`` and ``cache`` in the folder it runs in.
        kept: a file, or a pattern, of what a killed run leaves to go on with, or leaves behind.
        last: the last file it writes.
        again: what is added the second time.
    """

    argv: list[str]
    kept: str
    last: str
    again: list[str] = field(default_factory=list)

    def stage(self, folder: Path) -> str:
        """How far a killed run has come."""
        if any(folder.glob(self.last)):
            return AFTER
        return WITHIN if any(folder.glob(self.kept)) else BEFORE


RUN = [
    "--output_dir",
    "output/run",
    "--cache_dir",
    "cache",
    "--device",
    "cpu",
    "--precision",
    "32",
    "--progress",
    "false",
]
TRAINING = [
    "--root_dir",
    str(SAMPLE_DATA),
    "--limit",
    "40",
    "--n_val",
    "12",
    "--n_test",
    "6",
    "--batch_size",
    "8",
    *RUN,
]
CHECKPOINT, METRICS = "output/run/checkpoints/last.ckpt", "output/run/metrics.json"
COMMANDS = {
    "store": Command(
        ["check", "--root_dir", str(SAMPLE_DATA), "--cache_dir", "cache", "--jobs", "2", "--device", "cpu"],
        "cache/stores/*.building-*",
        "cache/stores/*/store.json",
    ),
    "train": Command(["train", *TRAINING, *TINY, "--epochs", "40"], CHECKPOINT, METRICS, ["--resume"]),
    "pretrain": Command(["pretrain", *TRAINING, *TINY[:4], "--epochs", "20"], CHECKPOINT, METRICS, ["--resume"]),
    "describe": Command(
        [
            "describe", "--root_dir", str(SAMPLE_DATA), "--describer", "jarvis", "--jobs", "2", "--limit", "60",
            "--output", "output/descriptions.jsonl",
        ],
        "output/*.jsonl",
        "output/never",
    ),
    "predict": Command(
        [
            "predict", "--model", "cgcnn-formation-energy", "--root_dir", str(SAMPLE_DATA), "--jobs", "2", "--device",
            "cpu", "--batch_size", "4", "--output", "output/predictions.csv",
        ],
        "output/.predictions.csv.*.tmp",
        "output/predictions.csv",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What has become of a killed command.

    Args:
        command: a key of ``COMMANDS``.
        number: of the kill, its seed.
        stage: how far it had come.
        outcome: ``same``, or what is wrong.
    """

    command: str
    number: int
    stage: str
    outcome: str


def started(command: Command, folder: Path, again: bool = False) -> subprocess.Popen[bytes]:
    """The command at work in a folder, with a process group of its own."""
    argv = [sys.executable, "-m", "crysmm", *command.argv, *(command.again if again else [])]
    (folder / "output").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    environment["MPLCONFIGDIR"] = str(folder.parents[1] / "matplotlib")  # its list of fonts takes seconds to make
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(argv, cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True)


def finish(command: Command, folder: Path, again: bool = False) -> int:
    """Run the command to its end; its exit code."""
    return started(command, folder, again).wait()


def undisturbed(command: Command, folder: Path) -> float:
    """Run the command once; seconds from its first file to its end.

    Raises:
        SystemExit: it fails.
    """
    seconds = folder / "seconds.json"
    if not seconds.exists():
        shutil.rmtree(folder, ignore_errors=True)
        process = started(command, folder)
        _wait_for_a_file(process, folder)
        begun = time.monotonic()
        code = process.wait()
        check(command.argv, code if code != 1 else 0, (folder / "said.txt").read_text())  # 1: check has findings
        seconds.write_text(json.dumps(time.monotonic() - begun))
    return float(json.loads(seconds.read_text()))


def _wait_for_a_file(process: subprocess.Popen[bytes], folder: Path) -> None:
    while process.poll() is None and not any(_files(folder)):
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _files(folder: Path) -> Iterator[Path]:
    """What the command has written, in no order; it may be gone by now."""
    for top in ("output", "cache"):
        for place, _, names in os.walk(folder / top):
            yield from (Path(place) / name for name in names)


def kill(command: Command, folder: Path, moment: float) -> None:
    """Run the command, and kill it and all it has started so many seconds after its first file."""
    process = started(command, folder)
    _wait_for_a_file(process, folder)
    with suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while _group_is_alive(process.pid):
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _group_is_alive(group: int) -> bool:
    """Whether a process of a group still runs; those that wait to be reaped do not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


def contents(folder: Path) -> dict[str, Any]:
    """What a command has written, by file, but for what tells the time."""
    found: dict[str, Any] = {}
    for path in _files(folder):
        name = str(path.relative_to(folder))
        if WITHOUT_RESULTS.isdisjoint(path.relative_to(folder).parts):
            found[name] = READERS.get(path.suffix, Path.read_bytes)(path)
        else:
            found[name] = "there"
    return found


def _jsonl(path: Path) -> list[dict[str, Any]]:
    return [_without_times(json.loads(line)) for line in path.read_text().splitlines()]


def _csv(path: Path) -> list[list[str]]:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    kept = [place for place, name in enumerate(lines[0]) if name not in TIMES]
    return [[cells[place] for place in kept] for cells in lines] if len(kept) < len(lines[0]) else lines


def _without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMES}


READERS: dict[str, Callable[[Path], Any]] = {".jsonl": _jsonl, ".csv": _csv}


def try_kill(name: str, command: Command, number: int, work: Path) -> Result:
    """Kill a command at a moment drawn by the number, run it again, and compare."""
    whole = work / "undisturbed" / name
    moment = Random(f"{name} {number}").random() * undisturbed(command, whole)
    folder = work / "kills" / f"{name}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    kill(command, folder, moment)
    stage = command.stage(folder)
    code = finish(command, folder, again=True)
    outcome = _outcome(code, contents(folder), contents(whole))
    if outcome == "same":
        shutil.rmtree(folder)
    return Result(name, number, stage, outcome)


def _outcome(code: int, found: dict[str, Any], expected: dict[str, Any]) -> str:
    if code not in (0, 1):
        return f"the second run ended with {code}"
    extra, missing = sorted(found.keys() - expected.keys()), sorted(expected.keys() - found.keys())
    if extra or missing:
        return f"left over: {extra}, missing: {missing}"
    other = sorted(name for name in expected if found[name] != expected[name])
    return f"other content: {other}" if other else "same"


def run(work: Path, kills: list[tuple[str, int]], progress: bool = True) -> list[Result]:
    """Do those of the kills that have no result yet; the results of all, which ``results.jsonl`` holds."""
    path = work / "results.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    results = {(result.command, result.number): result for result in (Result(**json.loads(line)) for line in lines)}
    with path.open("a") as file, tqdm(kills, unit=" kills", disable=not progress) as bar:
        for name, number in bar:
            if (name, number) in results:
                continue
            result = results[name, number] = try_kill(name, COMMANDS[name], number, work)
            if result.outcome != "same":
                tqdm.write(f"{name} {number}, killed {result.stage}: {result.outcome}; see {work / 'kills'}")
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
    return [results[key] for key in kills]


def report(results: list[Result]) -> str:
    """A table in Markdown: a line a command."""
    lines = [heading(f"| command | kills | {BEFORE} | {WITHIN} | {AFTER} | same result, same files |")]
    for name in COMMANDS:
        some = [result for result in results if result.command == name]
        stages = Counter(result.stage for result in some)
        same = sum(result.outcome == "same" for result in some)
        if some:
            lines.append(row([name, *map(str, (len(some), *(stages[s] for s in (BEFORE, WITHIN, AFTER)), same))]))
    return "\n".join(lines)


def main() -> None:
    """Read the command line, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of each command ({KILLS})")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="kill these alone")
    arguments = parser.parse_args()
    kills = [(name, number) for name in arguments.commands for number in range(arguments.kills)]
    results = run(arguments.work.absolute(), kills)
    print(report(results))
    sys.exit(any(result.outcome != "same" for result in results))


if __name__ == "__main__":
    main()
