"""JSON, YAML and Python dicts in which no key is repeated; their readers would keep the last value alone."""

import ast
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from crysmm.errors import shown

LONGEST_LITERAL = 5 << 20  # characters; each takes a hundred times its memory


def load_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: The text is not JSON, or an object has a key twice.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_with_different_keys)


def load_python(text: str) -> Any:
    """Return the value of a literal of Python, such as a printed dict; nothing is executed.

    Raises:
        ValueError: The text is no literal, too long, nested too deeply, or a dict has a key twice.
    """
    if len(text) > LONGEST_LITERAL:
        raise ValueError(f"a printed dict of {len(text) >> 20} MB is not read, as it takes much memory; write JSON")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = ast.literal_eval(tree)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from error
    except (TypeError, ValueError) as error:  # its text has the address of an object
        raise ValueError("a value or a key is no number, text, list or dict") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            refuse_repeated_keys(str(ast.literal_eval(key)) for key in node.keys if key)
    return value


def _with_different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        refuse_repeated_keys(key for key, _ in pairs)
    return fields


def refuse_repeated_keys(keys: Iterable[str]) -> None:
    """Refuse an object with a key that occurs more than once.

    Raises:
        ValueError: A key does; the text names it.
    """
    repeated = next((key for key, count in Counter(keys).items() if count > 1), None)
    if repeated is not None:
        raise ValueError(f"an object has the key {shown(repeated)} twice; keep one")
