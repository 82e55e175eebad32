"""A package outside crysmm with a toy teacher, installed for the tests."""

import sys

import pytest

from crysmm.teachers.registry import load_teacher

MODULE = '''
import numpy as np
from ase.neighborlist import neighbor_list


class ToyTeacher:
    """Neighbors of an atom within 5 Angstrom, weighted by their charge, spread over Gaussians of their distance."""

    def __init__(self, layers, device):
        self.centers = np.array([1.5, 2.0, 2.5, 3.0, 3.5][: 5 if layers is None else layers[-1]])
        self.name = f"toy:{len(self.centers)}"
        self.width = len(self.centers)
        self.checksum = "e5" * 16

    def embed(self, crystals):
        return np.concatenate([self.of_one(crystal) for crystal in crystals])

    def of_one(self, crystal):
        if 55 in crystal.atomic_numbers:
            raise KeyError("Cs")
        atoms, neighbors, distances = neighbor_list("ijd", crystal.to_ase(), 5.0)
        weights = np.exp(-((distances[:, None] - self.centers) ** 2)) * np.cos(np.pi * distances[:, None] / 10) ** 2
        weights *= crystal.atomic_numbers[neighbors, None] + crystal.atomic_numbers[atoms, None] ** 0.5
        features = np.zeros((len(crystal), len(self.centers)))
        np.add.at(features, atoms, weights)
        return features.astype(np.float32)
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a distribution with entry points ``{name: object}`` and modules ``{name: source}``."""

    def put(entry_points, modules, package="toys"):
        folder = tmp_path / f"site-{package}"
        metadata = folder / f"{package}-1.0.dist-info"
        metadata.mkdir(parents=True)
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[crysmm.teachers]", *lines, ""]))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(folder)

    return put


@pytest.fixture
def toy(install):
    """The toy teacher, by its name."""
    install({"toy": "toy_teacher:ToyTeacher"}, {"toy_teacher": MODULE})
    return load_teacher("toy")
