"""Packages import downward only."""

import ast
from pathlib import Path

import pytest

import crysmm

PACKAGE = Path(crysmm.__file__).parent
LAYERS = (  # from the lowest to the highest; packages of one layer may import each other
    {"config", "zoo"},
    {"graphs"},
    {"engines", "io"},
    {"data", "models", "text", "inference", "objectives", "training", "runs", "report"},
    {"audit", "convert", "explain", "publish"},
    {"app"},
    {"cli"},
)
LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}


def imported_packages(package: str) -> set[str]:
    """Packages of crysmm whose modules a package imports, inside functions too."""
    found = set()
    for file in (PACKAGE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {module.split(".")[1] for module in modules if module.startswith("crysmm.")}
    return found & LAYER_OF.keys() - {package}


def test_every_package_has_its_layer() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == LAYER_OF.keys()


@pytest.mark.parametrize("package", LAYER_OF)
def test_imports_go_down(package: str) -> None:
    upward = {other for other in imported_packages(package) if LAYER_OF[other] > LAYER_OF[package]}
    assert not upward
