"""Models that are installed with the package: each a model folder with its card."""

from __future__ import annotations

from pathlib import Path

ZOO = Path(__file__).parent


def shipped_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(description.parent.name for description in ZOO.glob("*/model.json"))


def resolve(model: Path | str) -> Path:
    """The folder of a model: the one of this path, or else the shipped model of this name."""
    folder = Path(model)
    return ZOO / folder if not folder.exists() and str(model) in shipped_names() else folder
