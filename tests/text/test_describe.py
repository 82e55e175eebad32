"""Describing an input: complete, in order, resumable, the same on a cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import pytest

from crysmm.cli.main import main
from crysmm.errors import InputError
from crysmm.io.source import ReadingOptions
from crysmm.io.table import RecordsTable
from crysmm.text.describe import describe
from crysmm.text.describers import end_processes
from crysmm.text.descriptions import read_descriptions

SECRET = 98765.4321
NEEDS_ROBOCRYS = pytest.mark.skipif(find_spec("robocrys") is None, reason="robocrys is not installed")


@pytest.fixture(autouse=True)
def kept_processes(monkeypatch):
    """Let the next test have the describing processes: each takes seconds to start."""
    monkeypatch.setattr("crysmm.text.describe.end_processes", lambda: None)


@pytest.fixture(scope="module", autouse=True)
def ended_processes():
    yield
    end_processes()


@pytest.fixture
def records(sample):
    return [
        {
            "id": identifier,
            "lattice_mat": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "elements": crystal.elements,
            "K_VRH": SECRET,
            "note": "xyzzy",
        }
        for identifier, crystal in sample.items()
    ]


@pytest.fixture
def run(records, tmp_path):
    """Return a function that describes by JARVIS and returns the summary and the rows without their times."""

    def run(rows=records, **options):
        source = RecordsTable(rows, ReadingOptions(needs_targets=False))
        path = tmp_path / options.pop("output", "descriptions.jsonl")
        summary = describe(source, path, **({"describer": "jarvis", "progress": False, "jobs": 2} | options))
        return summary, without_times(path)

    return run


def without_times(path):
    return [replace(row, seconds=0.0) for row in read_descriptions(path).values()]


def test_every_crystal_has_its_row_in_order_and_nothing_but_the_structure_in_it(run, records, tmp_path):
    summary, rows = run()
    assert [row.id for row in rows] == [record["id"] for record in records]
    assert (len(summary.described), summary.n_kept) == (len(records), 0)
    assert all(row.text.startswith(f"{row.text.split()[0]} crystallizes in the ") for row in rows)
    text = (tmp_path / "descriptions.jsonl").read_text()
    assert "98765" not in text
    assert "xyzzy" not in text
    changed = [record | {"K_VRH": 1.0, "note": "plugh"} for record in records]
    assert run(changed, output="again.jsonl")[1] == rows


def test_rows_that_cannot_be_read_are_recorded(run, records):
    broken = records[1] | {"elements": ["Xx"] * len(records[1]["elements"])}
    for n_kept in (0, 2):
        summary, rows = run([records[0], broken, records[0]])
        assert [row.text is None for row in rows] == [False, True]
        assert "unknown element 'Xx'" in rows[1].reason
        assert (len(summary.failed), len(summary.skipped), summary.n_kept) == (1, 1, n_kept)
    assert run(records[:2])[1][1].text is not None


@NEEDS_ROBOCRYS
def test_texts_of_two_describers_are_not_mixed(run, records):
    run(records[:1])
    with pytest.raises(InputError, match="holds descriptions by jarvis, but robocrys is requested"):
        run(records[:1], describer="robocrys")


def test_only_what_is_missing_is_described(run, records, foreign):
    foreign("jarvis", "return 'a text'")
    _, first = run(records[:5])
    foreign("jarvis", "return 'another text'")
    moved = records[1] | {"lattice_mat": (1.01 * np.array(records[1]["lattice_mat"])).tolist()}
    summary, rows = run([records[0], moved, *records[2:7]])
    assert summary.n_kept == 4
    assert [row.text == "another text" for row in rows] == [False, True, False, False, False, True, True]
    assert [rows[0], *rows[2:5]] == [first[0], *first[2:5]]


def test_killed_and_resumed_nothing_is_lost_or_doubled(records, run, tmp_path, foreign):
    foreign("jarvis", "import time; time.sleep(0.1); return f'{crystal.formula} in {crystal.lattice.tolist()}'")
    _, expected = run(output="straight.jsonl")
    data, output = tmp_path / "crystals.jsonl", tmp_path / "killed.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    command = [sys.executable, "-m", "crysmm", "describe", "--root_dir", str(data), "--describer", "jarvis"]
    command += ["--output", str(output), "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not output.exists() or output.read_bytes().count(b"\n") < 3):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    n_before = output.read_bytes().count(b"\n")
    assert 3 <= n_before < len(records)
    assert main([*command[3:]]) == 0
    assert without_times(output) == expected
    assert len(output.read_text().splitlines()) == len(records)


@NEEDS_ROBOCRYS
def test_jarvis_takes_the_place_of_robocrystallographer(run, records, foreign):
    _, expected = run(records[:2], output="jarvis.jsonl", jobs=1)
    foreign("robocrys", "raise ValueError('no bonds')")
    summary, rows = run(records[:2], describer="robocrys", jobs=1)
    assert [row.text for row in rows] == [row.text for row in expected]
    assert {(row.describer, row.reason) for row in rows} == {("jarvis", "robocrys: ValueError: no bonds")}
    assert (len(summary.described), len(summary.replaced)) == (0, 2)
    assert run(records[:2], describer="robocrys")[0].n_kept == 2


def test_failures_are_recorded_and_not_tried_again(run, records, foreign):
    foreign("jarvis", "raise ValueError('no bonds')")
    summary, rows = run(records[:2])
    assert [(row.text, row.reason) for row in rows] == [(None, "ValueError: no bonds")] * 2
    assert (len(summary.failed), summary.n_kept) == (2, 0)
    assert run(records[:2])[0].n_kept == 2


def test_a_cluster_gives_the_same_rows(run, foreign):
    distributed = pytest.importorskip("distributed")
    foreign("jarvis", "return f'{crystal.formula} in {crystal.lattice.tolist()}'")
    _, expected = run()
    with (
        patch.dict(os.environ),  # the cluster leaves numbers of threads in it
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        _, rows = run(output="cluster.jsonl", backend="dask", scheduler=cluster.scheduler_address, jobs=None)
    assert rows == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "dask"], "backend dask needs a scheduler"),
        (["--scheduler", "tcp://127.0.0.1:1"], "backend dask needs a scheduler"),
    ],
)
def test_backend_and_scheduler_go_together(records, tmp_path, capsys, options, message):
    data = tmp_path / "crystals.jsonl"
    data.write_text(json.dumps(records[0]) + "\n")
    output = tmp_path / "out.jsonl"
    line = ["describe", "--root_dir", str(data), "--describer", "jarvis", "--output", str(output)]
    assert main([*line, *options]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_the_command_reports_failures(records, tmp_path, capsys, foreign):
    data = tmp_path / "crystals.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records[:3]))
    foreign("jarvis", "import os; return 'text' if 'Fe' in crystal.elements else os.abort()")
    line = ["describe", "--root_dir", str(data), "--describer", "jarvis", "--output", str(tmp_path / "out.jsonl")]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert "3 not described" in error
    assert f"{records[0]['id']}: the describer ended with {-signal.SIGABRT}" in error
    assert "no structure could be described" in error
    assert os.path.exists(tmp_path / "out.jsonl")


def test_a_structure_that_cannot_be_predicted_is_not_described(run):
    """A describer would write a text even for two atoms at the same position."""
    double = {"id": "double", "lattice_mat": (4 * np.eye(3)).tolist(), "elements": ["Fe", "Co", "O"]}
    summary, rows = run([double | {"frac_coords": [[0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.5]]}])
    assert not summary.described
    assert rows[0].text is None
    assert "atoms 1 and 2 are 0.000 Angstrom apart" in rows[0].reason


def test_descriptions_are_not_named_as_a_table(run, tmp_path):
    with pytest.raises(InputError, match=r"written as JSON lines; name it \.jsonl"):
        run(output="descriptions.csv")
    assert not list(tmp_path.glob("*.csv"))
