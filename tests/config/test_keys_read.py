"""Every setting has a reader: a key that nothing reads would be a promise that is not kept."""

import ast
from pathlib import Path

import pytest

import crysmm
from crysmm.config import PretrainingConfig, TrainingConfig
from crysmm.config.loading import SECTIONS

PACKAGE = Path(crysmm.__file__).parent
HOLDERS = {"config", "settings", "model", "head", "method"}  # what the package calls an object that holds settings


def holder_name(node: ast.expr) -> str:
    """The last name of what an attribute is taken from: ``config`` of ``config.epochs`` and ``run.config.epochs``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def attributes_read(source: str) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and holder_name(node.value).lstrip("_") in HOLDERS
    }


@pytest.fixture(scope="module")
def keys_read() -> set[str]:
    files = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "config" not in path.parents]
    read = set().union(*(attributes_read(path.read_text(encoding="utf-8")) for path in files))
    if "is_classification" in read:  # the one property of TrainingConfig reads these two
        read |= {"classification_threshold", "classification"}
    return read


@pytest.mark.parametrize("key", sorted(TrainingConfig.model_fields | PretrainingConfig.model_fields))
def test_key_is_read(keys_read: set[str], key: str) -> None:
    assert key in keys_read


@pytest.mark.parametrize(
    ("model", "key"),
    [
        pytest.param(model, key, id=f"{model.__name__}.{key}")
        for choices in SECTIONS.values()
        for model in choices.values()
        for key in model.model_fields
    ],
)
def test_key_of_a_choice_is_read(keys_read: set[str], model: type, key: str) -> None:
    assert key in keys_read


def test_a_key_that_only_looks_read_is_not_counted() -> None:
    assert attributes_read("config.epochs; device.devices; config.seed = 1; self.config.engine") == {"epochs", "engine"}
