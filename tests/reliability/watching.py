"""A command in this process: how it ends, what it writes, and how much memory it takes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Self

from crysmm.cli.main import main as crysmm

NO_FOLDER = -1  # in place of the folder that a path is relative to
CHANGING: dict[str, dict[int, int | None]] = {  # audit events that change the disk: places of a path and of its folder
    "os.mkdir": {0: 2}, "os.remove": {0: 1}, "os.rmdir": {0: 1}, "os.rename": {0: 2, 1: 3}, "os.truncate": {0: None},
    "os.link": {1: 3}, "os.symlink": {1: 2}, "os.chmod": {0: 2}, "os.chown": {0: 3}, "os.utime": {0: 3},
}  # fmt: skip
DEVICES = Path("/dev")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def run(argv: list[str]) -> tuple[int, str]:
    """Exit code of a command, and what it said on standard error, a traceback if there was one."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            return crysmm(argv), said.getvalue()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
        except BaseException:  # noqa: BLE001 - this is what is looked for
            return -1, said.getvalue() + traceback.format_exc()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Writes:
    """Paths that Python code opens for writing, makes, renames or removes while the block runs."""

    _current: Writes | None = None
    _listens = False

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __enter__(self) -> Self:
        if not Writes._listens:  # a hook is there for good
            sys.addaudithook(Writes._heard)
            Writes._listens = True
        Writes._current = self
        return self

    def __exit__(self, *error: object) -> None:
        Writes._current = None

    def outside(self, *folders: Path) -> list[str]:
        """Those that lie in none of some folders."""
        allowed = [*map(Path.resolve, folders), DEVICES]
        return [str(path) for path in self.paths if not any(path.is_relative_to(folder) for folder in allowed)]

    @staticmethod
    def _heard(event: str, arguments: tuple[Any, ...]) -> None:
        if Writes._current is None:
            return
        if event == "open":
            path, _, flags = arguments
            found = [(path, NO_FOLDER)] if flags & WRITING else []
        else:
            places = CHANGING.get(event, {})
            found = [(arguments[path], NO_FOLDER if at is None else arguments[at]) for path, at in places.items()]
        for path, folder in found:
            if isinstance(path, str | bytes | os.PathLike):
                above = "" if folder == NO_FOLDER else f"/proc/self/fd/{folder}"
                Writes._current.paths.append(Path(os.path.realpath(os.path.join(above, os.fsdecode(path)))))


def reset_peak_memory() -> float:
    """Forget the most memory this process has had; GiB it has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """GiB of resident memory, the most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM"))
