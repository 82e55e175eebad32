import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from crysmm.files import replacing, working_folder, write_csv_atomic, write_json_atomic, write_text_atomic


def test_text_replaces_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text_atomic(path, "one\n")
    write_text_atomic(path, "two\n")
    assert path.read_text() == "two\n"
    assert list(path.parent.iterdir()) == [path]


def write_half(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent
        raise RuntimeError(path.read_text())


def test_failure_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("kept")
    with pytest.raises(RuntimeError, match="kept"):
        write_half(path)
    assert path.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in "ab"]
    assert modes[0] == modes[1]


def test_json_that_others_can_read(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "a.json", {"mae": 0.1 + 0.2, "r2": None})
    assert json.loads((tmp_path / "a.json").read_text()) == {"mae": 0.1 + 0.2, "r2": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(tmp_path / "b.json", {"mae": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_table_quotes_and_keeps_digits(tmp_path: Path) -> None:
    write_csv_atomic(tmp_path / "a.csv", ["id", "reason"], [["x", 'a "bad", cell'], ["y", 0.1 + 0.2]])
    assert (tmp_path / "a.csv").read_text() == 'id,reason\nx,"a ""bad"", cell"\ny,0.30000000000000004\n'


@pytest.mark.parametrize("write", [write_csv_atomic, write_json_atomic])
def test_a_row_that_cannot_be_made_leaves_the_old_file_alone(tmp_path: Path, write) -> None:
    path = tmp_path / "table"
    path.write_text("old")

    def rows():
        yield ["1"]
        raise ValueError("no more")

    content = (["number"], rows()) if write is write_csv_atomic else ([1.0, float("nan")],)
    with pytest.raises(ValueError, match=r"no more|Out of range float"):
        write(path, *content)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


WRITES_A_FILE = """
import sys
from pathlib import Path
from crysmm.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("at work", flush=True)
    sys.stdin.read()
"""
FILLS_A_FOLDER = """
import sys
from pathlib import Path
from crysmm.files import working_folder
with working_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start():
    """Starts a program and waits until it is at work."""
    started = []

    def start(code: str, path: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"at work\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_file_of_a_dead_process_goes_and_one_of_a_live_process_stays(start, tmp_path):
    path = tmp_path / "[a] *.csv"
    other = tmp_path / ".another.csv.1.tmp"
    other.touch()
    dead, live = start(WRITES_A_FILE, path), start(WRITES_A_FILE, path)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert len(os.listdir(tmp_path)) == 3
    write_text_atomic(path, "whole")
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, other.name, f".{path.name}.{live.pid}.tmp"])
    assert path.read_text() == "whole"
    live.communicate(b"")
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, other.name])
    assert path.read_text() == "half"


def test_a_folder_of_a_dead_process_goes_and_one_of_a_live_process_stays(start, tmp_path):
    dead = start(FILLS_A_FOLDER, tmp_path / "a")
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    (tmp_path / "killed-at-once.building-x").mkdir()
    (tmp_path / "kept").mkdir()
    live = start(FILLS_A_FOLDER, tmp_path / "b")
    with working_folder(tmp_path / "b") as folder:
        found = {path.name.partition("-")[0]: path for path in tmp_path.iterdir() if path != folder}
        assert sorted(found) == ["b.building", "kept"]
        assert (found["b.building"] / "half").exists()
    live.communicate(b"")
    assert os.listdir(tmp_path) == ["kept"]
