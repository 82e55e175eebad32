r"""A full disk and a read-only folder: a clear error, and what was there before is as it was.

    python -m tests.reliability.disk --work DIR        # as root: it mounts small file systems in DIR

Each command first writes something into its output folder and its cache, then meets one of the two on a file system
that is read-only, or has so many KiB left, and has to end with exit code 2 and a message that names a place; the files
from before must be unchanged, and on the file system made large again the same command must end well, with
the last of its files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.processes import SAMPLE_DATA, heading, row
from tests.reliability.originals import TINY, of_cgcnn
from tests.reliability.watching import contents, run

ROOM = (0, 4, 16, 64, 256, 1024)  # KiB
LARGE = "64m"
READ_ONLY = "read-only"
COMMON = ["--root_dir", str(SAMPLE_DATA), "--jobs", "1", "--device", "cpu"]
RUN = ["--n_val", "12", "--n_test", "6", "--batch_size", "8", "--precision", "32", "--progress", "false", *TINY]


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Args:
        first: arguments of the run whose files must not be harmed.
        second: of the run that meets the full disk.
        folders: which of ``output`` and ``cache`` it writes to.
        result: the last file of the second run, or a pattern of it.
    """

    first: list[str]
    second: list[str]
    folders: tuple[str, ...]
    result: str


def commands(folder: Path) -> dict[str, Command]:
    """The commands, writing to ``output`` and ``cache`` in a folder."""
    output, cache = folder / "output", ["--cache_dir", str(folder / "cache")]

    def train(name: str, limit: int) -> list[str]:
        options = [*COMMON, *cache, *RUN, "--limit", str(limit), "--epochs", "3", "--output_dir", str(output / name)]
        return ["train", *options]

    def predict(*files: str) -> list[str]:
        structures = ["--files", *files] if files else ["--root_dir", str(SAMPLE_DATA)]
        options = ["--jobs", "1", "--device", "cpu", "--output", str(output / "predictions.csv")]
        return ["predict", "--model", "cgcnn-formation-energy", *structures, *options]

    def describe(limit: int) -> list[str]:
        options = ["--describer", "jarvis", "--jobs", "1", "--limit", str(limit)]
        return ["describe", *COMMON[:2], *options, "--output", str(output / "descriptions.jsonl")]

    def store(limit: int) -> list[str]:
        return ["check", *COMMON, *cache, "--limit", str(limit), "--progress", "false"]

    def convert(name: str) -> list[str]:
        return ["convert", "--from", "crysxpp", str(_checkpoint(folder)), "--output_dir", str(output / name)]

    return {
        "store": Command(store(20), store(200), ("cache",), "cache/stores/*/store.json"),
        "train": Command(train("first", 40), train("second", 60), ("output", "cache"), "output/second/report.html"),
        "predict": Command(predict(str(SAMPLE_DATA / "mp-11.vasp")), predict(), ("output",), "output/predictions.csv"),
        "describe": Command(describe(2), describe(12), ("output",), "output/descriptions.jsonl"),
        "convert": Command(
            convert("converted"), convert("converted-again"), ("output",), "output/converted-again/README.md"
        ),
    }


def _checkpoint(folder: Path) -> Path:
    """Of a small CrysXPP."""
    path = folder / "crysxpp.pth.tar"
    if not path.exists():
        torch.save(of_cgcnn("crysxpp").content, path)
    return path


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[str], None]]:
    """A file system of its own under a folder; what is given changes its mount options."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda options: _remount(folder, options)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def options_for(limit: str, folder: Path) -> str:
    """Mount options of a disk that is read-only, or has so many KiB left."""
    if limit == READ_ONLY:
        return "ro"
    found = os.statvfs(folder)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    return f"size={used // 1024 + int(limit)}k"


def try_disk(name: str, place: str, limit: str, work: Path) -> str:
    """``refused`` or ``finished``, or what is wrong."""
    folder = work / f"{name}-{place}-{limit}"
    shutil.rmtree(folder, ignore_errors=True)
    with small_disk(folder / place) as remount:
        command = commands(folder)[name]
        code, said = run(command.first)
        if code not in (0, 1):
            raise SystemExit(f"{name} fails on a large disk: {said}")
        before = contents(folder / place)
        remount(options_for(limit, folder / place))
        code, said = run(command.second)
        after = contents(folder / place)
        remount(f"rw,size={LARGE}")
        if code in (0, 1):
            return "finished"
        again, said_again = run([*command.second, *(["--resume"] if name == "train" else [])])
        wrong = _second(again, said_again, there=any(folder.glob(command.result)))
    return _judged(code, said, before, after) or wrong or "refused"


def _judged(code: int, said: str, before: dict[str, bytes], after: dict[str, bytes]) -> str:
    if code != 2 or "Traceback" in said:
        return f"ended with {code}: {said[-1500:]}"
    if not any("error: " in line and "/" in line for line in said.splitlines()):
        return f"an error without a place: {said}"
    harmed = sorted(name for name in before if not _holds(after.get(name, b""), name, before[name]))
    if harmed:
        return f"harmed: {harmed}"
    left = sorted(name for name in after.keys() - before.keys() if name.endswith(".tmp") or ".building-" in name)
    return f"left over: {left}" if left else ""


def _holds(now: bytes, name: str, before: bytes) -> bool:
    """Whether a file is as it was; descriptions are added one by one, so their file may be longer."""
    return now == before or (name == "descriptions.jsonl" and now.startswith(before))


def _second(code: int, said: str, *, there: bool) -> str:
    if code in (0, 1):
        return "" if there else "with room again, its last file is missing"
    return f"with room again, it ends with {code}: {said[-1000:]}"


def main() -> None:
    """Read the command line, fill disks, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the small file systems")
    parser.add_argument("--commands", nargs="+", help="try these alone")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    os.environ["MPLCONFIGDIR"] = str(work / "matplotlib")
    limits = [READ_ONLY, *map(str, ROOM)]
    places = {name: command.folders for name, command in commands(work).items()}
    cases = [(name, place) for name in arguments.commands or places for place in places[name]]
    lines, failed = (
        [heading(f"| command | full is | {' | '.join([READ_ONLY, *(f'{room} KiB' for room in ROOM)])} |")],
        False,
    )
    for name, place in tqdm(cases):
        outcomes = [try_disk(name, place, limit, work) for limit in limits]
        for limit, outcome in zip(limits, outcomes, strict=True):
            if outcome not in ("refused", "finished"):
                failed = True
                tqdm.write(f"{name}, {place}, {limit}: {outcome}")
        lines.append(row([name, place, *(outcome.partition(":")[0] for outcome in outcomes)]))
    print("\n".join(lines))
    sys.exit(failed)


if __name__ == "__main__":
    main()
