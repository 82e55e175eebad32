"""Structures that are predicted by a model that reads text: described and embedded on the way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from crysmm.crystal import Crystal
from crysmm.errors import InputError
from crysmm.text.crystals import TextSettings
from crysmm.text.describe import TIMEOUT, describe_crystal
from crysmm.text.descriptions import Description
from crysmm.text.encoder import TextEncoder


class TextReader:
    """From structures to embedded descriptions, as a model folder says.

    Args:
        settings: of the model.
        device: where the encoder computes.
    """

    def __init__(self, settings: TextSettings, device: torch.device | str = "cpu"):
        self.settings = settings
        self.device = device

    @cached_property
    def encoder(self) -> TextEncoder:
        """Loaded when the first text is read.

        Raises:
            InputError: it cannot be had, or has other weights than the one the model was trained with.
            MissingDependencyError: the package that carries it is not installed.
        """
        settings = self.settings
        encoder = TextEncoder(settings.encoder, settings.pooling, self.device)
        if (encoder.revision, encoder.width) != (settings.revision, settings.width):
            raise InputError(
                f"the text encoder {settings.encoder} is not the one the model was trained with: its revision is "
                f"{encoder.revision}, expected {settings.revision}"
            )
        return encoder

    def read(self, crystals: Sequence[Crystal], jobs: int | None = None) -> tuple[np.ndarray, list[Description]]:
        """``[n, width]`` float32, NaN where there is no text; and the descriptions.

        Args:
            crystals: to be described.
            jobs: described at a time, by default one a core.
        """
        from joblib import Parallel, delayed

        work, describer = delayed(describe_crystal), self.settings.describer
        rows: list[Description] = Parallel(-1 if jobs is None else jobs, backend="threading")(
            work(str(number), crystal, describer, TIMEOUT) for number, crystal in enumerate(crystals)
        )
        values = np.full((len(crystals), self.settings.width), np.nan, dtype=np.float32)
        described = [number for number, row in enumerate(rows) if row.text is not None]
        if described:
            tokens, _ = self.encoder.tokenize([rows[number].text or "" for number in described])
            for number, ids in zip(described, tokens, strict=True):  # one by one: bf16 rounds by what stands beside it
                values[number] = self.encoder.embed([ids])[0].numpy()
        return values, rows
