"""Units that are assumed from the names of columns, against what papers and Matbench say, and units that are given."""

import json
from pathlib import Path

import pytest

from crysmm.config import TrainingConfig
from crysmm.data.units import KNOWN, after_name, after_number, duration, named, units_of
from crysmm.errors import InputError
from crysmm.publish.matbench_tasks import TASKS

PUBLISHED = Path(__file__).parents[2] / "examples" / "reproduce" / "published.json"


def test_known_units_are_those_of_the_papers() -> None:
    tables = json.loads(PUBLISHED.read_text(encoding="utf-8")).values()
    found = {}
    for properties in (table["properties"] for table in tables if "properties" in table):
        for about in properties.values():
            # the papers give the errors of moduli in log10 of the unit of the column
            found[about["target_key"]] = about["unit"].removeprefix("log10 ") or "1"
    common = found.keys() & KNOWN.keys()
    assert {name: KNOWN[name] for name in common} == {name: found[name] for name in common}
    assert len(common) > 12


def test_known_units_are_those_of_matbench() -> None:
    units = {}
    for task in TASKS.values():
        units.setdefault(task.target, set()).add(task.unit)
    for target, found in units.items():
        # one name with two units is not assumed to have either
        assert KNOWN.get(target) == (found.pop() if len(found) == 1 else None), target


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("eV", None)),
        ({"unit": "meV,A^3"}, ("meV", "A^3")),
        ({"target_multiplication_factor": 1000}, (None, None)),
        ({"target_multiplication_factor": 1000, "unit": ["meV", "1"]}, ("meV", "1")),
        ({"classification_threshold": 1}, (None, None)),
    ],
)
def test_given_or_assumed(settings: dict, expected: tuple) -> None:
    assert units_of(TrainingConfig(**settings), ["band_gap", "volume"]) == expected


def test_one_for_each_target() -> None:
    with pytest.raises(InputError, match=r"--unit: 1 given \(eV\); expected 2, .*: band_gap, volume$"):
        units_of(TrainingConfig(unit="eV"), ["band_gap", "volume"])


@pytest.mark.parametrize("unit", ["", "eV,,GPa", "a\nb", "x" * 41, []])
def test_refuses_what_is_no_unit(unit: object) -> None:
    with pytest.raises(ValueError, match="expected a unit such as GPa"):
        TrainingConfig(unit=unit)


def test_no_unit_stands_where_there_is_no_dimension() -> None:
    assert [after_number(unit) for unit in ("GPa", "1", None)] == [" GPa", "", ""]
    assert [after_name(unit) for unit in ("GPa", "1", None)] == [" (GPa)", "", " (unit of the input)"]
    assert named(["K", "n", "x"], ["GPa", "1", None]) == ["K (GPa)", "n", "x"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.144, "144 ms"),
        (0.9996, "1.0 s"),
        (59.96, "1 min 0 s"),
        (8.21, "8.2 s"),
        (119.7, "2 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
