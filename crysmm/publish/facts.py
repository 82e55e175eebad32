"""Facts that a submission needs and no run knows: placeholders, until someone has filled them in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from crysmm.errors import InputError


def filled_in(path: Path, placeholders: Mapping[str, str]) -> dict[str, str]:
    """The facts that stand in a JSON file and are no placeholders, so that writing it anew does not lose them.

    Args:
        path: of the file, which need not be there.
        placeholders: by key; of a list of one text, that text counts.

    Raises:
        InputError: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); correct or delete it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; correct or delete it")
    found = {key: content.get(key) for key in placeholders}
    texts = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in found.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str) and text != placeholders[key]}
