"""What is to be known of the data behind the scores: how they were split, rows left out, elements never seen."""

from __future__ import annotations

from collections.abc import Sequence

from crysmm.config.training import TrainingConfig
from crysmm.report.groups import Group
from crysmm.report.parts import Table
from crysmm.runs.data import SPLITS, TrainingData
from crysmm.runs.plots import TITLES
from crysmm.runs.summary import count, describe_split

MOST_SKIPPED = 50  # rows of the table


def data_facts(data: TrainingData, config: TrainingConfig, split: str, unseen: Sequence[Group]) -> dict[str, str]:
    """A sentence on each subject.

    Args:
        data: of the run.
        config: how it was split is read.
        split: the one that the model is judged by.
        unseen: its crystals with elements that no training crystal holds, by element.
    """
    store = data.store
    sizes = ", ".join(f"{len(data.rows(name)):,} {TITLES[name]}" for name in SPLITS)
    facts = {
        "read": f"{len(store):,} crystals of {len(store.elements)} elements, on average {store.n_atoms.mean():.1f} "
        f"atoms and {store.n_edges.mean():.0f} bonds",
        "split": f"{sizes} ({describe_split(config)})",
        "rows left out": f"{len(data.skipped):,}" if data.skipped else "none",
        f"{TITLES[split]} elements in no training crystal": ", ".join(
            f"{one.name} ({count(one.n, 'crystal')})" for one in unseen
        )
        or "none",
    }
    if data.texts is not None:
        lines = "; ".join(line.strip() for line in data.texts.lines)
        facts["descriptions"] = lines.removeprefix("descriptions: ")
    if data.embeddings is not None and config.taught is not None:
        facts["teacher"] = f"{config.taught.teacher}, {data.embeddings.width} features an atom"
    return facts


def skipped_table(data: TrainingData) -> Table:
    """The first rows that were left out, and why."""
    shown = data.skipped[:MOST_SKIPPED]
    more = f"; the first {MOST_SKIPPED}, all stand in skipped.csv" if len(data.skipped) > len(shown) else ""
    rows = [(row.id or row.file, row.file, row.reason) for row in shown]
    return Table(f"Rows left out ({len(data.skipped):,}{more})", ["id", "file", "reason"], rows, is_text=True)
