"""Estimates of memory and time for training, from the numbers of bonds and triplets.

Nearly all memory in a training step holds activations for the backward pass: a fixed number of arrays, one layer wide,
per bond or triplet. These numbers were measured (forward and backward in fp32, 2 cores, Materials Project crystals:
12.4 kB per bond for CGCNN, 30 kB for GATGNN, 21 kB per triplet for ALIGNN, bonds included).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from crysmm.config.models import ModelConfig

if TYPE_CHECKING:
    from crysmm.data.store import Store

PROCESS_MEMORY = 400 << 20  # bytes; a process that has imported torch and read a batch
PREDICTION_FRACTION = 0.6  # memory for prediction over memory for training: 0.44 to 0.63 measured for the backbones
BATCH_MEMORY = 2 << 30  # bytes; batches for prediction or embedding are kept below this
BYTES_PER_SECOND = 1.5e9  # activations processed by two CPU cores; within a factor of two for every backbone
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")

Amount = TypeVar("Amount", float, np.ndarray)


def estimated_memory(model: ModelConfig, n_edges: Amount, n_triplets: Amount) -> Amount:
    """Estimate the memory for one training step in fp32, in bytes, to within about a third.

    Args:
        model: Backbone settings.
        n_edges: Number of directed bonds in the batch that are computed.
        n_triplets: Number of pairs of bonds in the batch (edges of the line graph) that are computed.
    """
    return PROCESS_MEMORY + activations(model, n_edges, n_triplets)


def activations(model: ModelConfig, n_edges: Amount, n_triplets: Amount) -> Amount:
    """Return the size of the activations one training step in fp32 keeps for the backward pass, in bytes."""
    per_edge, per_triplet = model.activations
    return 4.0 * (per_edge * n_edges + per_triplet * n_triplets)


def memory_limit(device: torch.device) -> int:
    """Return the memory of a GPU, or the memory that the machine or its container gives processes, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.is_file() and (text := CONTAINER_LIMIT.read_text().strip()).isdigit():
        return min(memory, int(text))
    return memory


def oversized_rows(
    store: Store, model: ModelConfig, limit: int, fraction: float = 1.0, *, merge: bool = False
) -> dict[int, str]:
    """Find rows that would not fit in memory even alone in a batch.

    Args:
        store: Store with the crystals.
        model: Backbone settings.
        limit: Available memory, bytes.
        fraction: Memory needed over that of a training step.
        merge: True if equivalent atoms are computed once.

    Returns:
        The reason for each such row.
    """
    edges, triplets = store.sizes(merge=merge)
    memory = fraction * estimated_memory(model, edges, triplets)
    return {
        row: _too_large(int(store.n_atoms[row]), int(edges[row]), int(triplets[row]), float(memory[row]), limit)
        for row in np.flatnonzero(memory > limit).tolist()
    }


def why_too_large(
    model: ModelConfig, n_atoms: int, n_edges: int, n_triplets: int, limit: int, fraction: float = 1.0
) -> str | None:
    """Return why a training step on one crystal does not fit in memory, or None if it does.

    Args:
        model: Backbone settings.
        n_atoms: Number of atoms, for the message.
        n_edges: Number of directed bonds that are computed.
        n_triplets: Number of pairs of bonds that are computed.
        limit: Available memory, bytes.
        fraction: Memory needed over that of a training step: ``PREDICTION_FRACTION`` for a prediction.
    """
    memory = fraction * estimated_memory(model, n_edges, n_triplets)
    return _too_large(n_atoms, n_edges, n_triplets, memory, limit) if memory > limit else None


def _too_large(n_atoms: int, n_edges: int, n_triplets: int, memory: float, limit: int) -> str:
    return (
        f"too large: {n_atoms} atoms, {n_edges} bonds and {n_triplets} triplets to compute need about "
        f"{format_size(memory)}, there are {format_size(limit)}"
    )


def format_size(n_bytes: float) -> str:
    """Format a number of bytes: ``512 B``, ``3.1 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TB"
