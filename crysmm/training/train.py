"""Training: a property, several or classes learned from labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crysmm.config.training import TrainingConfig
from crysmm.training.ensemble import EnsembleRun
from crysmm.training.run import RunResult, carry_out
from crysmm.training.runs import training_run


def train(config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None = None) -> RunResult:
    """Train a network and write the run folder ``config.output_dir``, which :func:`crysmm.load` reads.

    Args:
        config: the settings.
        records: the structures and their properties as a list of dicts, as ``jarvis.db.figshare.data`` gives it,
            in place of ``config.root_dir``.

    Raises:
        InputError: the settings, the input or the output folder cannot be used; nothing has been written then.
        KeyboardInterrupt: Ctrl-C; what resuming needs is in the folder. SIGTERM raises ``SystemExit`` likewise.
    """
    return carry_out(EnsembleRun if config.ensemble > 1 else training_run, config, records)
