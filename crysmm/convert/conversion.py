"""What every source makes of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from crysmm.config.run import RunConfig
from crysmm.data.scaler import TargetScaler


@dataclass(frozen=True)
class Conversion:
    """A model of other code as one of this package.

    Args:
        config: what it is and on which graphs; the settings of its training have their defaults.
        network: with its weights: a backbone and a head, or a dict with the backbone of an encoder.
        notes: a line for each thing the user should know.
        scaler: from its outputs to predictions; ``None`` for an encoder.
        target_names: one a target; none for an encoder.
    """

    config: RunConfig
    network: nn.Module
    notes: list[str]
    scaler: TargetScaler | None = None
    target_names: tuple[str, ...] = ()
