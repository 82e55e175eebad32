"""What a killed process leaves is removed by the next one, and what another is writing is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crysmm.files import write_text_atomic
from crysmm.leftovers import working_folder

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
from crysmm.leftovers import working_folder
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
