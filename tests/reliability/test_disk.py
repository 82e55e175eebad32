"""A full disk as far as it can be had without being root: files may not grow beyond a size (RLIMIT_FSIZE)."""

import resource
from contextlib import contextmanager

import pytest

from crysmm.text.descriptions import Appender, Description, read_descriptions
from tests.reliability.disk import commands
from tests.reliability.watching import contents, run

LIMITS = {"store": (4096,), "predict": (64, 4096), "convert": (64, 4096), "train": (16, 1500)}


@contextmanager
def files_of_at_most(size):
    """Writing beyond so many bytes fails in the block; Python ignores the signal that would end the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With what the commands have written while there was room."""
    folder = tmp_path_factory.mktemp("disk")
    for name, command in commands(folder).items():
        if name not in ("store", "describe"):
            assert run(command.first)[0] == 0
    return folder


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in LIMITS.items() for size in sizes])
def test_a_full_disk_is_told_and_harms_nothing(name, size, folder):
    command = commands(folder)[name]
    before = contents(folder)
    with files_of_at_most(size):
        code, said = run(command.second)
    assert code == 2, said
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith(f"crysmm: error: {folder}")
    assert last.endswith("File too large")
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".tmp" in name or ".building-" in name]


def add(path, rows):
    with Appender(path) as file:
        for row in rows:
            file.add(row)


def test_descriptions_on_a_full_disk_go_on_later(tmp_path):
    path = tmp_path / "descriptions.jsonl"
    rows = [Description(name, "It is cubic.", "jarvis", "1", 0.1, "0" * 16) for name in "abc"]
    with files_of_at_most(200), pytest.raises(OSError, match="File too large") as error:
        add(path, rows)
    assert error.value.filename == str(path)
    assert read_descriptions(path) == {"a": rows[0]}
    add(path, rows[1:])
    assert list(read_descriptions(path).values()) == rows
