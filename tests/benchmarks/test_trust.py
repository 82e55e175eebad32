"""The studies behind the intervals and the rule of near-identical structures, on data of which the answer is known."""

import numpy as np
import pytest

from benchmarks import intervals, near_duplicates
from crysmm.crystals.crystal import Crystal
from crysmm.io.source import Record
from crysmm.testing import supercell


def test_widths_that_follow_the_errors_hold_everywhere():
    """Errors that grow with the distance: one width misses the far ones, expected errors hold them as often."""
    random = np.random.default_rng(0)
    distances, n_atoms = random.uniform(0.1, 2, 2000), random.integers(1, 9, 2000)
    errors, predictions = distances * np.abs(random.normal(size=2000)), random.normal(size=(2000, 1))
    held, far, small, one_width = intervals.evaluate(errors, distances, n_atoms, predictions, False)
    assert (held, small) == (pytest.approx(0.9, abs=0.01), pytest.approx(0.9, abs=0.02))
    assert far < 0.75
    held, far, small, half_width = intervals.evaluate(errors, distances, n_atoms, predictions, True)
    assert [held, far, small] == pytest.approx([0.9] * 3, abs=0.02)
    assert half_width < one_width


def test_intervals_of_a_run(tmp_path, monkeypatch, capsys, data):
    from crysmm.cli.main import main

    run, cache = str(tmp_path / "run"), ["--cache_dir", str(tmp_path / "cache"), "--device", "cpu", "--jobs", "1"]
    sizes = ["--n_val", "10", "--n_test", "10", "--epochs", "1", "--model.conv_layers", "1"]
    assert main(["train", "--root_dir", str(data), "--output_dir", run, *sizes, *cache]) == 0
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["intervals", run])
    assert intervals.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("run: 20 crystals held out, 90% asked")
    assert [line.split(" hold ")[0].strip() for line in lines[1:]] == ["one width", "expected error"]


def test_pairs_are_matched_and_their_labels_compared(crystals):
    salt = crystals["NaCl"]
    caesium = Crystal.from_arrays(3.4 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], ["Na", "Cl"])
    group = [
        Record(str(place), crystal, (label,), "")
        for place, (crystal, label) in enumerate([(salt, 1.0), (supercell(salt, (2, 1, 1)), 1.5), (caesium, 4.0)])
    ]
    differences, matched, labels = zip(*near_duplicates.compare([group]), strict=True)
    assert list(matched) == [True, False, False]
    assert labels == (0.5, 3.0, 2.5)
    assert differences[0] < 1e-5 < 0.5 < min(differences[1:])
