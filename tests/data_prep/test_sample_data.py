"""The crystals in examples/sample_data, and the choice that made them."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest

from crysmm.elements import SYMBOLS
from crysmm.io.inputs import open_source
from crysmm.text.descriptions import read_descriptions
from data_prep.sample_data import choose

SAMPLE = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture(scope="module")
def table():
    with (SAMPLE / "id_prop.csv").open(newline="") as file:
        return {row["id"]: float(row["K_VRH"]) for row in csv.DictReader(file)}


def test_every_row_has_its_file_and_it_is_small(table):
    assert len(table) == 200
    others = {"id_prop.csv", "README.md", "descriptions.jsonl"}
    assert {path.name for path in SAMPLE.iterdir()} == {f"{name}.vasp" for name in table} | others
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 1_000_000


def test_every_crystal_is_described_as_it_stands_there_and_nothing_is_said_of_its_modulus(table):
    rows = read_descriptions(SAMPLE / "descriptions.jsonl")
    crystals = {row.id: row.read().crystal for row in open_source(SAMPLE, needs_targets=False).rows()}
    assert list(rows) == list(crystals)
    for name, row in rows.items():
        assert (row.describer, row.reason) == ("robocrys", None)
        assert row.structure == crystals[name].checksum
        assert not {f"{table[name]:.{digits}f}" for digits in range(2, 9)} & set(row.text.split())
        assert "GPa" not in row.text
        assert "np." not in row.text
    assert (SAMPLE / "descriptions.jsonl").stat().st_size < 500_000


def test_known_moduli(table):
    """Ids, structures and values belong together: Ti, Sc, Be and WC against experiment, which PBE meets to 12%."""
    experiment = {"mp-46": ("Ti", 110), "mp-67": ("Sc", 57), "mp-87": ("Be", 130), "mp-1894": ("W C", 400)}
    for name, (elements, modulus) in experiment.items():
        assert (SAMPLE / f"{name}.vasp").read_text().splitlines()[5] == elements
        assert table[name] == pytest.approx(modulus, rel=0.12)


def test_readme_tells_the_truth(table):
    from pymatgen.core import Structure

    structures = [Structure.from_file(SAMPLE / f"{name}.vasp") for name in table]
    sizes = [len(structure) for structure in structures]
    elements = {element.symbol for structure in structures for element in structure.composition}
    text = (SAMPLE / "README.md").read_text()
    assert f"{min(sizes)} to {max(sizes)} atoms per cell, {len(elements)} elements" in text
    assert f"{min(table.values()):.1f} to {max(table.values()):.1f}\nGPa" in text
    commands = ("python -m data_prep.sample_data --output", "crysmm describe --root_dir")
    for phrase in ("CC BY 4.0", "A. Jain et al.", "M. de Jong et al.", *commands):
        assert phrase in text


def test_choice_spreads_values_and_elements_and_does_not_depend_on_the_order():
    generator = np.random.default_rng(0)
    rows = [
        {
            "id": f"mp-{n}",
            "K_VRH": float(n % 997),
            "elements": [SYMBOLS[z] for z in generator.integers(1, 90, n % 20 + 1)],
        }
        for n in range(1, 3000)
    ]
    chosen = choose(rows)
    assert len({row["id"] for row in chosen}) == 200
    assert all(2 <= len(row["elements"]) <= 12 for row in chosen)
    assert len({element for row in chosen for element in row["elements"]}) == 89
    quartiles = np.quantile([row["K_VRH"] for row in chosen], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(quartiles, np.linspace(0, 997, 5), atol=10)
    random.Random(1).shuffle(rows)
    assert choose(rows) == chosen
