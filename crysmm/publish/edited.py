"""Files that whoever submits may edit, written again without losing what stands in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crysmm.errors import InputError, brief
from crysmm.files import write_text_atomic

MARK = "# written by crysmm, and again unless it was edited: "


def filled_in(path: Path, placeholders: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a JSON file and is no placeholder; nothing where there is no file.

    Args:
        path: of the file.
        placeholders: by key.

    Raises:
        InputError: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
        json.dumps(content, allow_nan=False)  # it is to be written again
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({brief(error)}); correct or delete it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; correct or delete it")
    return {key: value for key, value in content.items() if key not in placeholders or value != placeholders[key]}


def write_script(path: Path, text: str) -> bool:
    """Write a script, unless one stands there that was edited: its last line is a checksum of the others.

    Returns:
        Whether it is written.
    """
    if path.exists() and not _is_ours(path.read_bytes()):
        return False
    write_text_atomic(path, text + _last_line(text.encode()).decode())
    return True


def _is_ours(content: bytes) -> bool:
    text = b"".join(content.splitlines(keepends=True)[:-1])
    return content == text + _last_line(text)


def _last_line(content: bytes) -> bytes:
    return f"{MARK}{hashlib.sha256(content).hexdigest()[:16]}\n".encode()


def describe_kept(kept: Sequence[str]) -> list[str]:
    """A line that names what was left as it stood."""
    return [f"left as it was edited: {', '.join(kept)}; delete it to have it written anew"] if kept else []
