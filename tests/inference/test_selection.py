"""Rules of what to keep of a table, beside the same asked in plain Python."""

import re

import pytest

from crysmm.errors import InputError
from crysmm.inference.selection import Selection

PLACES = {"gap": 1, "K VRH": 2, "lower_gap": 3}
ROWS = [("a", 1.0, -5.0), ("b", 2.5, 30.0), ("c", 1.0, 7.0), ("d", -0.1, 1e3), ("e", 2.0, 30.0), ("f", 1.5, -20.5)]
LINES = [[name, str(gap), str(bulk), ""] for name, gap, bulk in ROWS] + [["failed", "", "", ""]]


def kept(*rules: str) -> str:
    return "".join(line[0] for line in Selection.parse(rules).of_table(PLACES).choose(LINES))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["gap between 1 and 2"], "acef"),
        (["gap > 1.0"], "bef"),
        (["gap>=1"], "abcef"),
        (["gap < 1e0"], "d"),
        (["K VRH <= -5", "gap > -.5"], "af"),
        (["gap between 1 and 2", "K VRH between -10 and 10"], "ac"),
        (["lowest 2 K VRH"], "fa"),
        (["highest 3 K VRH"], "dbe"),
        (["lowest 3 gap"], "dac"),
        (["highest 2 K VRH", "gap >= 1", "gap < 2.5"], "ec"),
        (["highest 100 gap"], "befacd"),
        (["lower_gap > -100"], ""),
        (["gap > 99"], ""),
    ],
)
def test_what_is_kept(rules: list[str], expected: str) -> None:
    assert kept(*rules) == expected


def test_everything_is_kept_in_order_without_rules() -> None:
    assert kept() == "abcdeffailed"


@pytest.mark.parametrize("rules", [["highest 3 K VRH"], ["lowest 3 gap", "K VRH < 100"], ["gap >= 1"]])
def test_chosen_from_parts_it_is_the_same(rules: list[str]) -> None:
    selection = Selection.parse(rules).of_table(PLACES)
    for cut in range(len(LINES)):
        parts = [selection.choose(part) for part in (LINES[:cut], LINES[cut:])]
        again = selection.choose([line for part in parts for line in part])
        assert list(again) == list(selection.choose(LINES))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["gap = 1"], "keep: 'gap = 1' is no rule; expected 'NAME between A and B', 'NAME < A' (or"),
        (["gap < 1 eV"], "is no rule"),
        (["gap < nan"], "is no rule"),
        (["lowest 0 gap"], "is no rule"),
        (["lowest gap"], "is no rule"),
        (["< 1"], "is no rule"),
        (["gap between 2 and 1"], "keeps nothing; write the lower number first"),
        (["lowest 1 gap", "highest 1 gap"], "several rankings"),
        (["gapp < 1"], "no number is called 'gapp'; there are gap, K VRH, lower_gap; did you mean gap?"),
        (["lowest 5 bulk"], "no number is called 'bulk'; there are gap, K VRH, lower_gap"),
    ],
)
def test_what_is_no_rule(rules: list[str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Selection.parse(rules).of_table(PLACES)
