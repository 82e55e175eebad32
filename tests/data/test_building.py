"""Worker processes that read structures."""

import subprocess
import sys

READS_ONE_RESULT = """
from crysmm.data.building import map_tasks

results = map_tasks(lambda number: bytes(1 << 20), range(100), 2)  # more than a pipe holds
print(len(next(results)), flush=True)
input()
"""


def test_workers_end_with_a_process_that_is_killed() -> None:
    command = [sys.executable, "-c", READS_ONE_RESULT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == f"{1 << 20}\n"
        ran.kill()
        assert ran.communicate(timeout=60) == ("", None)  # the output ends when the last worker that has it does
