"""Space groups and crystal systems against textbooks, spglib and pymatgen."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

from crysmm.config import GraphSettings
from crysmm.crystals.crystal import Crystal
from crysmm.data.space_groups import CRYSTAL_SYSTEMS, UNKNOWN, crystal_system, describe_symmetry, find_space_group
from crysmm.data.store import Store, build_store
from crysmm.io.inputs import StructuresSource, open_source

SPACE_GROUPS = {
    "Cu": 225,
    "Fe": 229,
    "Si": 227,
    "CdTe": 216,
    "CsCl": 221,
    "Mg": 194,
    "NaCl": 225,
    "SrTiO3": 221,
    "TiO2": 136,
    "SiO2": 154,
    "ZrO2": 14,
    "CuO": 15,
}
SAMPLE = "examples/sample_data"


def overlapping():
    """Two atoms so near that a tolerance of 0.6 A takes them for one: moyo finds no symmetry."""
    return Crystal(4 * np.eye(3), np.array([[0, 0, 0], [0, 0, 0.13]]), np.array([1, 1], dtype=np.uint8))


def test_known_space_groups(crystals):
    assert {name: find_space_group(crystal, 0.01) for name, crystal in crystals.items()} == SPACE_GROUPS


def test_the_tolerance_is_a_length(crystals):
    """The oxygen atom of a perovskite, 0.05 A off its place along z: tetragonal, unless that is within tolerance."""
    perovskite = crystals["SrTiO3"]
    moved = perovskite.frac_coords.copy()
    moved[1, 2] += 0.05 / perovskite.lattice[2, 2]
    moved = Crystal(perovskite.lattice, moved, perovskite.atomic_numbers)
    assert find_space_group(moved, 0.01) == 99
    assert find_space_group(moved, 0.2) == 221


def test_sample_crystals_have_the_space_groups_pymatgen_finds(request):
    analyzer = pytest.importorskip("pymatgen.symmetry.analyzer")
    structure = pytest.importorskip("pymatgen.core").Structure
    source = open_source(request.config.rootpath / SAMPLE)
    crystals = [row.read().crystal for row in source.rows()]
    found = [find_space_group(crystal, 0.01) for crystal in crystals]
    expected = [
        analyzer.SpacegroupAnalyzer(
            structure(c.lattice, c.elements, c.frac_coords), symprec=0.01
        ).get_space_group_number()
        for c in crystals
    ]
    assert found == expected
    assert len(set(found)) > 20


def test_unknown_where_moyo_finds_none():
    assert find_space_group(overlapping(), 0.3) == UNKNOWN
    assert find_space_group(overlapping(), 0.01) == 123


def test_every_space_group_has_the_crystal_system_pymatgen_gives():
    groups = pytest.importorskip("pymatgen.symmetry.groups")
    systems = [crystal_system(number) for number in range(1, 231)]
    assert systems == sorted(systems)  # so the first and the last of each system stand for those between them
    for place, name in enumerate(CRYSTAL_SYSTEMS):
        first = systems.index(place) + 1
        last = first + systems.count(place) - 1
        for number in (first, last):
            assert groups.SpaceGroup.from_int_number(number).crystal_system == name


def test_crystal_systems_of_numbers_arrays_and_tensors_agree():
    numbers = np.arange(231)
    expected = [crystal_system(number) for number in range(231)]
    assert expected[0] == -1
    assert crystal_system(numbers).tolist() == crystal_system(numbers.astype(np.uint8)).tolist() == expected
    systems = crystal_system(torch.from_numpy(numbers))
    assert systems.tolist() == expected
    assert systems.dtype == torch.int64


def test_description_counts_systems_and_failures():
    text = describe_symmetry(np.array([225, 227, 1, 0]))
    assert "cubic 50.0%" in text
    assert "triclinic 25.0%" in text
    assert "hexagonal 0.0%" in text
    assert "not found for 1 of 4 crystals (25.00%)" in text
    assert "\n" not in text


@pytest.fixture
def moyo_logger():
    """Return moyo's logger without a level, which is restored afterwards."""
    logger = logging.getLogger("moyo")
    level = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(level)


LISTENING = """
import logging
import subprocess
import sys

import numpy as np

logging.basicConfig(level=logging.DEBUG, format="%(name)s")
if {loud}:
    logging.getLogger("moyo").setLevel(logging.DEBUG)
from crysmm.crystals.crystal import Crystal
from crysmm.data.space_groups import find_space_group

face_centered = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
print(find_space_group(Crystal(3.6 * np.eye(3), np.array(face_centered), np.full(4, 29)), 0.01))
logging.getLogger("another").debug("heard")
"""


@pytest.mark.parametrize("loud", [False, True])
def test_moyo_is_not_heard_and_others_are(loud):
    """In a process of its own, as moyo asks for the level of its logger once."""
    finished = subprocess.run([sys.executable, "-c", LISTENING.format(loud=loud)], capture_output=True, text=True)
    assert finished.stdout == "225\n", finished.stderr
    heard = set(finished.stderr.split())
    assert "another" in heard
    assert any("moyo" in name for name in heard) == loud


def test_a_level_the_user_has_set_is_kept(crystals, moyo_logger):
    moyo_logger.setLevel(logging.WARNING)
    find_space_group(crystals["NaCl"], 0.01)
    assert moyo_logger.level == logging.WARNING


def build(crystals, cache, symprec=0.01, **options):
    source = StructuresSource(crystals)
    return build_store(source, GraphSettings(), symprec=symprec, cache_dir=cache, progress=False, **options)


def test_store_and_its_batches_have_the_space_groups(crystals, tmp_path):
    store = build([*crystals.values()], tmp_path)
    expected = list(SPACE_GROUPS.values())
    assert store.space_groups.tolist() == Store(store.path).space_groups.tolist() == expected
    assert store.space_groups.dtype == np.int64
    batch = store.batch([5, 0, 11])
    assert batch.space_groups.tolist() == [expected[5], expected[0], expected[11]]
    assert batch.space_groups.dtype == torch.int64
    assert batch.double().space_groups.tolist() == batch.space_groups.tolist()
    assert batch.to("meta").space_groups.is_meta
    assert batch.space_groups.shape == (len(batch),)


def test_without_a_tolerance_there_are_none(crystals, tmp_path):
    store = build([*crystals.values()], tmp_path, symprec=None)
    assert store.space_groups is None
    assert store.batch([0]).space_groups is None
    assert store.batch([0]).to("cpu").space_groups is None


def test_the_tolerance_is_part_of_the_name(crystals, tmp_path):
    paths = {build([crystals["Si"]], tmp_path, symprec=symprec).path for symprec in (None, 0.01, 0.1, 0.01)}
    assert len(paths) == 3


def test_a_crystal_whose_symmetry_is_unknown_stays_in_the_store(crystals, tmp_path):
    store = build([overlapping(), crystals["Si"]], tmp_path, symprec=0.6)
    assert store.batch([0, 1]).space_groups.tolist() == [UNKNOWN, 227]


def test_worker_processes_find_them_silently(crystals, tmp_path, capfd):
    store = build([*crystals.values()] * 11, tmp_path, jobs=2)
    assert store.space_groups.tolist() == [*SPACE_GROUPS.values()] * 11
    assert capfd.readouterr() == ("", "")
