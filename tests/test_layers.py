"""Imports go down the layers only, so that no import cycle can form."""

import ast
import re
from pathlib import Path

import pytest

import crysmm
from benchmarks.readability import imported

PACKAGE = Path(crysmm.__file__).parent
LAYERS = (  # folders and top-level modules, from the lowest to the highest; within a layer nothing imports another
    {"errors", "progress", "signals", "zoo", "elements"},
    {"cluster", "crystals", "files", "keys"},
    {"config", "array_cache"},
    {"device", "graphs"},
    {"engines", "io", "processes"},
    {"data"},
    {"teachers", "text"},
    {"models"},
    {"testing", "inference", "objectives"},
    {"runs"},
    {"report"},
    {"training"},
    {"audit", "comparison", "convert", "estimator", "explain", "publish"},
    {"app"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {unit: layer for layer, units in enumerate(LAYERS) for unit in units}


def imported_units(unit: str) -> set[str]:
    """Folders and modules of crysmm that one of them imports, inside functions and for type checks too."""
    path = PACKAGE / unit
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return set().union(*(imported(tree, "crysmm") for tree in trees)) & LAYER_OF.keys() - {unit}


def test_every_folder_and_module_has_its_layer() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders | modules == LAYER_OF.keys()


def test_the_design_page_shows_the_layers() -> None:
    page = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)(?:/|\.py)`", row)) for row in rows] == list(LAYERS)


@pytest.mark.parametrize("unit", sorted(LAYER_OF))
def test_imports_go_down(unit: str) -> None:
    assert {other for other in imported_units(unit) if LAYER_OF[other] >= LAYER_OF[unit]} == set()
