"""Both describers, compared with the unmodified programs."""

import json
import os
import subprocess
import sys
import time

import pytest

from crysmm.crystals.crystal import Crystal
from crysmm.text.describers import DescribingProcess, Jarvis, Robocrystallographer, borrowed

LETTERS = """
import json, sys
from crysmm.crystals.crystal import Crystal
from crysmm.text.describers import Jarvis
for line in sys.stdin:
    print(Jarvis().describe(Crystal.from_arrays(*json.loads(line))))
"""


@pytest.fixture
def process():
    process = DescribingProcess("jarvis")
    yield process
    process.close()


def test_jarvis_text_does_not_depend_on_the_hash_seed(sample):
    crystals = list(sample.values())[:8]
    lines = [
        json.dumps([crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.elements]) for crystal in crystals
    ]
    elsewhere = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LETTERS],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    ).stdout.splitlines()
    assert elsewhere == [Jarvis().describe(crystal) for crystal in crystals]  # here the seed is another
    letters = [text.removesuffix(".").rpartition("Wyckoff symbols ")[2].split(", ") for text in elsewhere]
    assert any(len(some) > 2 for some in letters)
    assert all(some == sorted(some) for some in letters)


def test_the_text_of_jarvis_is_unchanged_except_for_the_order_of_letters(sample):
    for crystal in list(sample.values())[:5]:
        start, _, letters = crystal.to_jarvis().describe()["desc_2"].rpartition("Wyckoff symbols ")
        ours, _, sorted_letters = Jarvis().describe(crystal).rpartition("Wyckoff symbols ")
        assert ours == start
        assert sorted(letters.strip(".").split(", ")) == sorted_letters.strip(".").split(", ")


def test_the_text_of_robocrystallographer_is_unchanged(sample):
    """Compare with its own slow search, for a layered crystal, a prototype and a crystal without one."""
    pytest.importorskip("robocrys")
    from pymatgen.core import Structure
    from robocrys import StructureCondenser, StructureDescriber

    cadmium_chloride = Crystal.from_arrays(
        [[3.8, 0, 0], [-1.9, 3.29, 0], [0, 0, 6.5]], [[0, 0, 0], [1 / 3, 2 / 3, 0.22], [2 / 3, 1 / 3, 0.78]],
        ["Cd", "Cl", "Cl"],
    )  # fmt: skip
    crystals = [cadmium_chloride, *sorted(sample.values(), key=len)[:2]]
    stock = StructureCondenser()  # imports and changes nothing of ours
    expected = [
        StructureDescriber().describe(stock.condense_structure(Structure(c.lattice, c.elements, c.frac_coords)))
        for c in crystals
    ]
    ours = [Robocrystallographer().describe(crystal) for crystal in crystals]
    assert "np.int64(" in expected[0]
    assert "oriented in the (0, 0, 1) direction" in ours[0]
    assert ours == [text.replace("np.int64(0)", "0").replace("np.int64(1)", "1") for text in expected]


def test_a_describer_that_hangs_is_ended_and_the_next_crystal_described(foreign, process, sample):
    foreign("jarvis", "import time; time.sleep(60 if len(crystal) > 4 else 0); return 'a  text'")
    large, small = (next(c for c in sample.values() if (len(c) > 4) is is_large) for is_large in (True, False))
    started = time.monotonic()
    answer = process.describe(large, timeout=1)
    assert (answer.text, answer.reason) == (None, "no text after 1 seconds")
    assert time.monotonic() - started < 20
    assert process.describe(small, timeout=1).text == "a text"


def test_a_describer_that_crashes_gives_a_reason(foreign, process, sample):
    foreign("jarvis", "import os; os.abort()")
    for crystal in list(sample.values())[:2]:
        assert process.describe(crystal, timeout=5).reason == "the describer ended with -6"


def test_a_describer_that_raises_or_prints_gives_an_answer(foreign, process, sample):
    foreign("jarvis", "print('noise'); raise RuntimeError('no' + chr(10) + 'bonds')")
    answer = process.describe(next(iter(sample.values())), timeout=5)
    assert (answer.text, answer.reason) == (None, "RuntimeError: no")


def test_an_interrupted_description_is_not_taken_for_that_of_the_next_crystal(foreign, sample):
    foreign("jarvis", "return crystal.formula")
    first, second = list(sample.values())[:2]

    def interrupted():
        with borrowed("jarvis") as process:
            process.describe(first, timeout=5)
            lattice, coords = first.lattice.tolist(), first.frac_coords.tolist()
            request = {"timeout": 5, "lattice": lattice, "frac_coords": coords, "elements": first.elements}
            print(json.dumps(request), file=process._process.stdin, flush=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with borrowed("jarvis") as process:
        assert process.describe(second, timeout=5).text == second.formula
        process.close()
