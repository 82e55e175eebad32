"""Measure the milliseconds per crystal to build a graph and everything its line graph needs.

    python benchmarks/graphs.py --data crystals.jsonl.gz --limit 300 --jarvis

Prints one JSON line. "edges" is the neighbor list; "batch" is a :class:`~crysmm.data.batch.CrystalBatch` of one
crystal, with the blocks from which the engines read bonds and angles; "dgl" is a DGL graph and its line graph.
With --jarvis, JARVIS' ``atom_dgl_multigraph`` builds graphs and line graphs of the same crystals.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from crysmm.config.graph import GraphSettings
from crysmm.crystals.conversion import as_crystal
from crysmm.data.batch import collate_crystals
from crysmm.graphs.dgl import crystal_graph, import_dgl, line_graph
from crysmm.graphs.neighbors import find_edges
from crysmm.io.json_stream import jsonl_lines


def milliseconds(build: Callable[[Any], object], structures: list[Any]) -> dict[str, float]:
    """Return the median and mean time to build one structure, after a first one that is not counted."""
    build(structures[0])
    seconds = []
    for structure in structures:
        start = time.perf_counter()
        build(structure)
        seconds.append(time.perf_counter() - start)
    return {
        "median_ms": round(1e3 * statistics.median(seconds), 3),
        "mean_ms": round(1e3 * statistics.mean(seconds), 3),
    }


def main() -> None:
    """Parse the command line, time, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL file of structures")
    parser.add_argument("--limit", type=int, default=300, help="crystals to time (default 300)")
    parser.add_argument("--neighbor_strategy", default="k-nearest", choices=["k-nearest", "cgcnn", "radius"])
    parser.add_argument("--cutoff", type=float, default=8.0, help="Angstrom")
    parser.add_argument("--jarvis", action="store_true", help="time JARVIS' builder too (k-nearest)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    crystals = [as_crystal(json.loads(line)) for _, line in islice(jsonl_lines(arguments.data), arguments.limit)]
    choices = {"neighbor_strategy": arguments.neighbor_strategy, "cutoff": arguments.cutoff}
    settings = GraphSettings.model_validate(choices)
    result: dict[str, Any] = {
        **choices,
        "crystals": len(crystals),
        "atoms": sum(len(crystal) for crystal in crystals),
        "processor": platform.processor() or platform.machine(),
        "edges": milliseconds(lambda crystal: find_edges(crystal, settings), crystals),
        "batch": milliseconds(lambda crystal: collate_crystals([crystal], settings), crystals),
        "dgl": milliseconds(lambda crystal: line_graph(crystal_graph(crystal, **choices)), crystals),
    }
    if arguments.jarvis:
        import_dgl()
        from jarvis.core.graphs import Graph

        atoms = [crystal.to_jarvis() for crystal in crystals]
        result["jarvis"] = milliseconds(Graph.atom_dgl_multigraph, atoms)
        for name in ("batch", "dgl"):
            result[f"jarvis_over_{name}"] = round(result["jarvis"]["mean_ms"] / result[name]["mean_ms"], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
