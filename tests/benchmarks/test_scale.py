"""What is measured against the number of crystals, with few."""

import sys

import pytest

from benchmarks import scale

HOLDING = "import time; held = bytearray(300 << 20); time.sleep(1.5)"


def test_memory_is_that_of_the_process_and_of_all_it_starts():
    _, alone = scale.watched([sys.executable, "-c", HOLDING])
    starting = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDING!r}])"
    seconds, with_worker = scale.watched([sys.executable, "-c", starting])
    assert 0.29 < alone.own < 0.35
    assert alone.workers == 0
    assert with_worker.own < 0.05
    assert 0.29 < with_worker.workers < 0.35
    assert seconds > 1.5


def test_a_command_that_fails_is_told():
    with pytest.raises(SystemExit, match="no room"):
        scale.watched([sys.executable, "-c", "import sys; sys.exit('no room')"])


def test_a_process_that_is_gone_has_nothing():
    assert scale.anonymous(2**22 + 1) == 0
    assert scale.descendants(2**22 + 1) == []


def test_loader_is_read_and_the_line_fits_the_heading(tmp_path):
    sys_argv = ["--input", str(scale.SAMPLE_DATA), "--count", "70", "--output", str(tmp_path / "70.jsonl")]
    scale.subprocess.run([sys.executable, "-m", "data_prep.synthetic", *sys_argv], cwd=scale.CHECKOUT, check=True)
    store = scale.build(tmp_path, 70)
    assert len(store) == 70
    assert scale.loading_rate(store) > 0
    names = ("store", "store_own", "store_workers", "epoch", "epoch_own", "loader")
    names += ("prediction", "prediction_own", "prediction_workers", "crysgnn", "crysgnn_own")
    figures = dict.fromkeys(names, 2.0)
    assert scale.line(70, figures).count("|") == scale.HEADING.count("|")
    assert scale.line(70, figures).startswith("| 70 | 2 | 35 | 2.00 | 2.00 | 2.0 | 35 |")
