"""The command line that makes a run again."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

from crysmm.config.head import MultimodalConfig, TaughtConfig
from crysmm.config.options import options
from crysmm.config.run import RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.runs.folder import FREE_SETTINGS

PATHS = frozenset({"root_dir", "ids_file", "init_from"})  # free to change in a run that is resumed, and its input


def given(config: RunConfig, leave_out: Set[str] = frozenset()) -> list[str]:
    """The options that say what a run does: files without their folders, nothing of where it is computed.

    Args:
        config: of the run.
        leave_out: settings to leave out.
    """
    names = [name for name in type(config).model_fields if name not in (FREE_SETTINGS - PATHS) | leave_out]
    files: dict[str, Any] = {name: Path(path.name) for name in PATHS if (path := getattr(config, name)) is not None}
    if isinstance(config, TrainingConfig):
        files["head"] = config.head.model_copy(update=_names_of(config))
    return list(options(config.model_copy(update=files), names))


def _names_of(config: TrainingConfig) -> dict[str, Any]:
    """The files that the settings of a head name, without their folders."""
    head = config.head
    names: dict[str, Any] = {}
    if isinstance(head, TaughtConfig) and head.teacher is not None:
        names["teacher"] = Path(head.teacher).name
    if isinstance(head, MultimodalConfig):
        names["descriptions"] = head.descriptions and Path(head.descriptions.name)
        names["encoder"] = Path(head.encoder).name if Path(head.encoder).is_dir() else head.encoder
    return names
