"""What training will take, before it starts: memory and time from the numbers of bonds and triplets.

Nearly all memory of a training step is activations kept for the gradient: so many arrays, each one layer wide, for
a bond or a triplet. The numbers of arrays are measured (forward and backward in fp32, 2 cores, Materials Project
crystals: 12.4 kB a bond for CGCNN, 30 kB for GATGNN, 21 kB a triplet for ALIGNN, bonds included).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from crysmm.config.models import ALIGNNConfig, GATGNNConfig, ModelConfig

if TYPE_CHECKING:
    from crysmm.data.store import Store

PROCESS_MEMORY = 400 << 20  # bytes of a process that has imported torch and read a batch
PREDICTION_SHARE = 0.6  # of the memory of a training step: 0.44 to 0.63 measured for the three backbones
BATCH_MEMORY = 2 << 30  # bytes; a batch to predict or to embed that would take more holds fewer crystals
BYTES_A_SECOND = 1.5e9  # activations that two CPU cores get through; within a factor of two for every backbone
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")

Amount = TypeVar("Amount", float, np.ndarray)


def estimated_memory(model: ModelConfig, n_edges: float, n_triplets: float) -> float:
    """Bytes that one training step in fp32 takes, within about a third.

    Args:
        model: the backbone.
        n_edges: bonds in the batch that are computed, each direction counted.
        n_triplets: pairs of bonds in the batch (edges of the line graph) that are computed.
    """
    return PROCESS_MEMORY + activations(model, n_edges, n_triplets)


def estimated_seconds(model: ModelConfig, n_edges: float, n_triplets: float) -> float:
    """Seconds that training takes, on two CPU cores in fp32, for so many bonds and triplets; within a factor of two."""
    return activations(model, n_edges, n_triplets) / BYTES_A_SECOND


def activations(model: ModelConfig, n_edges: Amount, n_triplets: Amount) -> Amount:
    """Bytes of what one training step in fp32 keeps for the gradient: in proportion to bonds and triplets."""
    if isinstance(model, ALIGNNConfig):
        bond_layers = 2 * model.alignn_layers + model.gcn_layers
        numbers = model.hidden_features * (6 * bond_layers * n_edges + 4 * model.alignn_layers * n_triplets)
    elif isinstance(model, GATGNNConfig):
        numbers = 10 * model.conv_layers * model.heads * model.node_features * n_edges
    else:
        numbers = 16 * model.conv_layers * model.node_features * n_edges
    return 4.0 * numbers


def memory_limit(device: torch.device) -> int:
    """Bytes of memory that a device has: a GPU's own, or what the machine or container gives its processes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.is_file() and (text := CONTAINER_LIMIT.read_text().strip()).isdigit():
        return min(memory, int(text))
    return memory


def oversized_rows(store: Store, model: ModelConfig, limit: int, *, merge: bool = False) -> dict[int, str]:
    """Rows that would not fit in memory even alone in a batch, each with the reason.

    Args:
        store: the crystals.
        model: the backbone.
        limit: bytes of memory.
        merge: of atoms that are alike one is computed.
    """
    edges, triplets = store.sizes(merge=merge)
    sizes = zip(store.n_atoms.tolist(), edges.tolist(), triplets.tolist(), strict=True)
    reasons = (why_too_large(model, *size, limit) for size in sizes)
    return {row: reason for row, reason in enumerate(reasons) if reason is not None}


def why_too_large(model: ModelConfig, n_atoms: int, n_edges: int, n_triplets: int, limit: int) -> str | None:
    """Why a training step on one crystal does not fit in so many bytes of memory; None where it does."""
    memory = estimated_memory(model, n_edges, n_triplets)
    if memory <= limit:
        return None
    return (
        f"too large: {n_atoms} atoms, {n_edges} bonds and {n_triplets} triplets to compute need about "
        f"{in_bytes(memory)}, there are {in_bytes(limit)}"
    )


def in_bytes(n_bytes: float) -> str:
    """A size as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TB"
