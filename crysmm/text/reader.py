"""Structures that are predicted by a model that reads text: described and embedded on the way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from crysmm.crystal import Crystal
from crysmm.text.crystals import TextSettings, with_gaps
from crysmm.text.describe import TIMEOUT, describe_crystal
from crysmm.text.descriptions import Description
from crysmm.text.encoder import TextEncoder, pad


class TextReader:
    """From structures to what a network reads of their descriptions, as a model folder says.

    Args:
        settings: of the model.
        device: where the encoder computes.
    """

    def __init__(self, settings: TextSettings, device: torch.device | str = "cpu"):
        self.settings = settings
        self.device = device

    @cached_property
    def encoder(self) -> TextEncoder:
        """Loaded when the first text is read."""
        return self.settings.load_encoder(self.device)

    def read(self, crystals: Sequence[Crystal], jobs: int | None = None) -> tuple[np.ndarray, list[Description]]:
        """What a network reads of each (see :class:`~crysmm.text.crystals.Texts`); and the descriptions.

        Args:
            crystals: to be described.
            jobs: described at a time, by default one a core.
        """
        from joblib import Parallel, delayed

        work, describer = delayed(describe_crystal), self.settings.describer
        rows: list[Description] = Parallel(-1 if jobs is None else jobs, backend="threading")(
            work(str(number), crystal, describer, TIMEOUT) for number, crystal in enumerate(crystals)
        )
        return with_gaps(self._values([row.text for row in rows if row.text]), [bool(row.text) for row in rows]), rows

    def _values(self, texts: Sequence[str]) -> np.ndarray:
        """A row a text."""
        tokens = self.encoder.tokenize(texts)[0] if texts else []
        if self.settings.tuned_layers:
            return pad(tokens)
        values = np.empty((len(texts), self.settings.width), dtype=np.float32)
        for row, ids in zip(values, tokens, strict=True):  # one by one: bf16 rounds by what stands beside it
            row[:] = self.encoder.embed([ids])[0].numpy()
        return values
