"""The descriptions a run learns from: found, checked against the structures, embedded or cut into tokens."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from crysmm.config.head import MultimodalConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.store import Store
from crysmm.errors import InputError
from crysmm.io.folder import DESCRIPTION
from crysmm.io.inputs import open_input
from crysmm.processes import Processes
from crysmm.runs.data import TrainingData
from crysmm.text.descriptions import Description, descriptions_from_file, descriptions_of_input, structure_checksum
from crysmm.text.embeddings import Texts, TextSettings, embed_texts, with_gaps
from crysmm.text.encoder import TextEncoder, pad


def read_texts(
    config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, data: TrainingData, processes: Processes
) -> Texts | None:
    """The descriptions of a run's crystals as its head reads them, where it does.

    Args:
        config: the settings.
        records: in place of ``config.root_dir``.
        data: the crystals.
        trainer: knows the processes and their device.

    Raises:
        InputError: there are no descriptions, or they are of other structures, or the encoder cannot be had.
    """
    head = config.head
    if not isinstance(head, MultimodalConfig):
        return None

    def build() -> Texts:
        rows = _descriptions(head, config, records, data.store)
        encoder = TextEncoder(head.encoder, head.pooling, processes.device)
        texts = [row.text for row in rows if row is not None and row.text is not None]
        values, n_truncated = _read(texts, encoder, head, config)
        settings = TextSettings(
            describer=_describer(rows),
            encoder=head.encoder,
            revision=encoder.revision,
            pooling=head.pooling,
            width=encoder.width,
            tuned_layers=head.tuned_layers,
        )
        has_text = [row is not None and row.text is not None for row in rows]
        lines = _lines(rows, encoder, head, n_truncated)
        return Texts(with_gaps(values, has_text), settings, lines, _checksum(rows))

    return processes.first_before_others(build)


def _read(
    texts: Sequence[str], encoder: TextEncoder, head: MultimodalConfig, config: TrainingConfig
) -> tuple[np.ndarray, int]:
    """Embeddings of texts, or their tokens where the encoder is tuned; and how many were too long."""
    if head.tuned_layers:
        tokens, too_long = encoder.tokenize(texts)
        return pad(tokens), sum(too_long)
    embedded = embed_texts(texts, encoder, cache_dir=config.cache_dir, progress=config.progress)
    return embedded.values, embedded.n_truncated


def _descriptions(
    head: MultimodalConfig, config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, store: Store
) -> list[Description | None]:
    """One a crystal of the store."""
    if head.descriptions is None:
        by_id, where = descriptions_of_input(open_input(config, records)), f"the column {DESCRIPTION} of the input"
    else:
        by_id, where = descriptions_from_file(head.descriptions), str(head.descriptions)
    rows = [by_id.get(identifier) for identifier in store.ids]
    if not any(row is not None and row.text is not None for row in rows):
        raise InputError(
            f"no crystal has a description in {where}; crysmm describe --root_dir DIR --output FILE makes some, and "
            "--head.descriptions FILE names them"
        )
    others = [
        row.id
        for number, row in enumerate(rows)
        if row is not None and row.structure and row.structure != structure_checksum(store.crystal(number))
    ]
    if others:
        raise InputError(
            f"{where} describes other structures under the ids of {len(others)} crystals ({others[0]} for one): run "
            "crysmm describe again, on the structures that are to be learned from"
        )
    return rows


def _checksum(rows: Sequence[Description | None]) -> str:
    texts = "\0".join((row.text if row is not None else None) or "" for row in rows)
    return hashlib.sha256(texts.encode()).hexdigest()


def _describer(rows: Sequence[Description | None]) -> Literal["robocrys", "jarvis"]:
    """Who has written most of the texts; the paper's describer where the file does not say."""
    counts = Counter(row.describer for row in rows if row is not None and row.text is not None)
    return "jarvis" if counts["jarvis"] > counts["robocrys"] + counts[""] else "robocrys"


def _lines(
    rows: Sequence[Description | None], encoder: TextEncoder, head: MultimodalConfig, n_truncated: int
) -> list[str]:
    texts = [row for row in rows if row is not None and row.text is not None]
    by = Counter(f"{row.describer} {row.version}" for row in texts if row.describer)
    sources = "".join(f", {count} by {name}" for name, count in by.most_common())
    missing = len(rows) - len(texts)
    lines = [f"descriptions: {len(texts)} of {len(rows)} crystals have one{sources}"]
    if missing:
        lines.append(f"  {missing} without a text have a learned vector in its place")
    truncated = f"{n_truncated} texts ({100 * n_truncated / len(texts):.1f}%) are cut after {encoder.max_tokens} tokens"
    tuned = f", its last {head.tuned_layers} layers tuned" if head.tuned_layers else ""
    return [*lines, f"text encoder {encoder.name}, {encoder.pooling}, {encoder.width} features{tuned}: {truncated}"]
