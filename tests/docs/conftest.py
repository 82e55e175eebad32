"""The pages, their blocks of code, and a folder in which what they say can be done."""

import gzip
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE_DATA = ROOT / "examples" / "sample_data"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
N_CRYSTALS = 40


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str


def find_blocks(page: Path) -> list[Block]:
    return [Block(found["language"], found["title"], found["text"]) for found in FENCE.finditer(page.read_text())]


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request):
    """Each page in turn: those of the site, and README."""
    return request.param


@pytest.fixture
def blocks(page):
    return find_blocks(page)


@pytest.fixture(scope="session")
def blocks_of():
    """From a page to its blocks."""
    return find_blocks


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """What pages take for granted: data, structures, settings and a trained model under the names they use."""
    from crysmm.cli.main import main

    folder = tmp_path_factory.mktemp("home")
    data = folder / "examples" / "sample_data"
    data.mkdir(parents=True)
    header, *rows = (SAMPLE_DATA / "id_prop.csv").read_text().splitlines()[: N_CRYSTALS + 1]
    (data / "id_prop.csv").write_text("\n".join([header, *rows]) + "\n")
    files = [SAMPLE_DATA / f"{row.split(',')[0]}.vasp" for row in rows]
    for file in {*files, SAMPLE_DATA / "mp-149.vasp", SAMPLE_DATA / "mp-10003.vasp"}:
        shutil.copy(file, data)
    shutil.copy(SAMPLE_DATA / "descriptions.jsonl", folder)
    (folder / "my_crystals").symlink_to(data)
    (folder / "structures").mkdir()
    for file in files[:24]:
        shutil.copy(file, folder / "structures")
    shutil.copy(SAMPLE_DATA / "mp-149.vasp", folder / "POSCAR")
    _write_cif(SAMPLE_DATA / "mp-10003.vasp", folder / "other.cif")
    _write_jsonl(rows, data, folder / "crystals.jsonl.gz")
    (folder / "settings.json").write_text('{"epochs": 5}')
    (folder / "config.json").write_text('{"version": "1", "model": {"name": "alignn"}, "dtype": "float32"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main(["train", "--root_dir", "my_crystals", "--output_dir", "runs/a", "--epochs", "1"]) == 0
    shutil.copy(folder / "runs" / "a" / "ids_train_val_test.json", folder / "ids.json")
    return folder


@pytest.fixture
def at_home(home, tmp_path, monkeypatch):
    """The current folder: a copy of :func:`home` in which a page may write."""
    folder = tmp_path / "home"
    shutil.copytree(home, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    return folder


def _write_cif(poscar: Path, cif: Path) -> None:
    from ase.io import read, write

    write(cif, read(poscar, format="vasp"))


def _write_jsonl(rows: list[str], data: Path, path: Path) -> None:
    """Write rows of which every other one has a shear modulus: 0.6 of the bulk modulus, for a Poisson ratio of 1/4."""
    from jarvis.core.atoms import Atoms

    with gzip.open(path, "wt") as file:
        for number, (name, value) in enumerate(row.split(",") for row in rows):
            atoms = Atoms.from_poscar(data / f"{name}.vasp").to_dict()
            shear = {"G_VRH": 0.6 * float(value)} if number % 2 else {}
            file.write(json.dumps({"jid": name, "atoms": atoms, "K_VRH": float(value), **shear}) + "\n")
