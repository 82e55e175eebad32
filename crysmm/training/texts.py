"""Descriptions of a run's crystals: found, checked against the structures, and embedded or tokenized."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from crysmm.config.models import MultimodalConfig
from crysmm.config.training import TrainingConfig
from crysmm.data.store import Store
from crysmm.errors import InputError
from crysmm.io.id_prop import DESCRIPTION
from crysmm.io.inputs import open_input
from crysmm.processes import Processes
from crysmm.runs.data import TrainingData
from crysmm.text.descriptions import Description, descriptions_from_file, descriptions_of_input
from crysmm.text.embeddings import Texts, TextSettings, embed_texts, with_gaps
from crysmm.text.encoder import TextEncoder, pad


def read_texts(
    config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, data: TrainingData, processes: Processes
) -> Texts | None:
    """Read the descriptions of a run's crystals for its multimodal head, or return None if it has another head.

    Args:
        config: Settings of the run.
        records: Rows of the input in place of ``config.root_dir``.
        data: Crystals of the run.
        processes: Processes of the run.

    Raises:
        InputError: There are no descriptions, they describe other structures, or the text encoder is not available.
    """
    head = config.head
    if not isinstance(head, MultimodalConfig) or not head.reads_text:
        return None

    def build() -> Texts:
        rows = find_descriptions(head, config, records, data.store)
        described = [row for row in rows if row is not None and row.text is not None]
        texts = [None if row is None else row.text for row in rows]
        given = [text for text in texts if text is not None]
        encoder = TextEncoder(head.encoder, head.pooling, processes.device)
        if head.tuned_layers:
            tokens, too_long = encoder.tokenize(given)
            values, n_truncated = pad(tokens), sum(too_long)
        else:
            embedded = embed_texts(given, encoder, cache_dir=config.cache_dir, progress=config.progress)
            values, n_truncated = embedded.values, embedded.n_truncated
        describers = Counter(row.describer for row in described)
        settings = TextSettings(
            # The paper's describer if the file does not name one
            describer="jarvis" if describers["jarvis"] > describers["robocrys"] + describers[""] else "robocrys",
            is_assumed=describers[""] > 0,
            encoder=head.encoder,
            revision=encoder.revision,
            pooling=head.pooling,
            width=encoder.width,
            tuned_layers=head.tuned_layers,
        )
        values = with_gaps(values, [text is not None for text in texts])
        checksum = hashlib.sha256("\0".join(text or "" for text in texts).encode()).hexdigest()
        return Texts(values, settings, _summarize(described, len(rows), encoder, settings, n_truncated), checksum)

    return processes.first_before_others(build)


def find_descriptions(
    head: MultimodalConfig, config: TrainingConfig, records: Sequence[Mapping[str, Any]] | None, store: Store
) -> list[Description | None]:
    """Find the description of each crystal in a store, and check that it describes this structure."""
    if head.descriptions is None:
        by_id = descriptions_of_input(open_input(config, records), head.description_column)
        where = f"the column {head.description_column or DESCRIPTION} of the input"
    else:
        by_id, where = descriptions_from_file(head.descriptions, head.description_column), str(head.descriptions)
    rows = [by_id.get(identifier) for identifier in store.ids]
    if not any(row is not None and row.text is not None for row in rows):
        raise InputError(
            f"no crystal has a description in {where}; crysmm describe --root_dir DIR --output FILE makes some, and "
            "--head.descriptions FILE names them; a column of the input is named with --head.description_column"
        )
    known = {number: row for number, row in enumerate(rows) if row is not None and row.structure}
    others = [row.id for number, row in known.items() if row.structure != store.checksums[number]]
    if others:
        raise InputError(
            f"{where} describes other structures under the ids of {len(others)} crystals (such as {others[0]}); run "
            "crysmm describe again, on the structures to be trained on"
        )
    return rows


def _summarize(
    described: Sequence[Description], n_crystals: int, encoder: TextEncoder, settings: TextSettings, n_truncated: int
) -> list[str]:
    """Return lines that describe the texts and their encoder."""
    by = Counter(f"{row.describer} {row.version}" for row in described if row.describer)
    sources = "".join(f", {count} by {name}" for name, count in by.most_common())
    lines = [f"descriptions: {len(described)} of {n_crystals} crystals have one{sources}"]
    if settings.is_assumed:
        lines.append(f"  new structures will be described by {settings.describer}, as some texts name no describer")
    if len(described) < n_crystals:
        lines.append(f"  {n_crystals - len(described)} without a text have a learned vector in its place")
    cut = f"{n_truncated} texts ({100 * n_truncated / len(described):.1f}%) are cut after {encoder.max_tokens} tokens"
    tuned = f", its last {settings.tuned_layers} layers tuned" if settings.tuned_layers else ""
    return [*lines, f"text encoder {encoder.name}, {encoder.pooling}, {encoder.width} features{tuned}: {cut}"]
