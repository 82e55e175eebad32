"""Every message on the page about errors is one that the package can give."""

import ast
import re
from pathlib import Path

import pytest

import crysmm

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
MESSAGES = re.findall(r"^### `(.+)`$", PAGE.read_text(), re.MULTILINE)
CHANGES = "…"


def text_of(node: ast.AST) -> str:
    """A string of the source with … in place of what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return CHANGES


def tidy(text: str) -> str:
    """One blank for each white space, one … for what changes."""
    return re.sub(f"{CHANGES}+", CHANGES, re.sub(r"\s+", " ", re.sub(r"\{\w+\}", CHANGES, text)))


@pytest.fixture(scope="module")
def strings() -> list[str]:
    files = Path(crysmm.__file__).parent.rglob("*.py")
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return [tidy(text_of(node)) for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)]


def test_there_are_messages_and_none_twice():
    assert len(MESSAGES) > 80
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_message_is_in_the_code(message, strings):
    assert any(tidy(message) in string for string in strings)
