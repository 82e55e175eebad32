"""Time ALIGNN's own package for one batch: graphs, training steps, inference. Runs in an environment of its own.

Prints one JSON line. ``--engine dgl`` is the model on DGL with its builder, ``pure`` the one on torch alone with its.
"""

import argparse
import json
import os
import resource
import warnings
from pathlib import Path

os.environ.setdefault("DGLBACKEND", "pytorch")
warnings.filterwarnings("ignore")

import torch
from jarvis.core.atoms import Atoms
from timing import median_seconds

CUTOFF, NEIGHBORS = 8.0, 12


def read(path: Path) -> list[Atoms]:
    """Read the crystals of a JSONL file."""
    rows = map(json.loads, path.read_text().splitlines())
    return [
        Atoms(lattice_mat=row["lattice_mat"], coords=row["frac_coords"], elements=row["elements"], cartesian=False)
        for row in rows
    ]


def dgl_graphs(crystals: list[Atoms]) -> tuple:
    """Build graphs and line graphs of a batch with DGL; also return the number of triplets."""
    import dgl
    from alignn.graphs import Graph

    pairs = [
        Graph.atom_dgl_multigraph(
            crystal, cutoff=CUTOFF, max_neighbors=NEIGHBORS, atom_features="cgcnn", use_canonize=True
        )
        for crystal in crystals
    ]
    graph, line_graph = (dgl.batch(list(side)) for side in zip(*pairs, strict=True))
    return graph, line_graph, line_graph.num_edges()


def pure_graphs(crystals: list[Atoms]) -> tuple:
    """Build graphs and line graphs of a batch with torch; also return the number of triplets."""
    from alignn.torch_graph_builder import batch_torch_graph_pairs, build_pure_torch_graph

    pairs = [
        build_pure_torch_graph(atoms=crystal, two_body_cutoff=CUTOFF, max_neighbors=NEIGHBORS) for crystal in crystals
    ]
    graph, line_graph = batch_torch_graph_pairs(pairs)[:2]
    return graph, line_graph, len(line_graph.src)


def lattices(crystals: list[Atoms]) -> torch.Tensor:
    """Return the lattices, ``[n_crystals, 3, 3]``, which the models take in addition to the graphs."""
    return torch.stack([torch.tensor(crystal.lattice_mat).float() for crystal in crystals])


def make_model(engine: str) -> torch.nn.Module:
    """Make the network in its default sizes, with one output."""
    if engine == "dgl":
        from alignn.models.alignn import ALIGNN, ALIGNNConfig

        return ALIGNN(ALIGNNConfig(name="alignn", output_features=1))
    from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig

    return ALIGNNAtomWisePure(
        ALIGNNAtomWisePureConfig(
            name="alignn_atomwise_pure", atom_input_features=92, alignn_layers=4, gcn_layers=4, hidden_features=256,
            use_penalty=False, calculate_gradient=False, output_features=1, gradwise_weight=0, stresswise_weight=0,
            atomwise_weight=0, graphwise_weight=1.0,
        )
    )  # fmt: skip


def main() -> None:
    """Parse the command line, time, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL file of the crystals of the batch")
    parser.add_argument("--engine", choices=("dgl", "pure"), default="dgl")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    crystals = read(arguments.data)
    build = dgl_graphs if arguments.engine == "dgl" else pure_graphs
    graph, line_graph, n_triplets = build(crystals)
    lattice = lattices(crystals)
    model = make_model(arguments.engine)
    optimizer = torch.optim.AdamW(model.parameters())
    target = torch.zeros(len(crystals))

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            out = model((graph, line_graph, lattice))
        return (out["out"] if isinstance(out, dict) else out).float()

    def step() -> None:
        optimizer.zero_grad()
        (forward().flatten() - target).square().mean().backward()
        optimizer.step()

    build_seconds = median_seconds(lambda: build(crystals), arguments.steps)
    result = {"triplets": n_triplets, "build": build_seconds / len(crystals)}
    result["step"] = median_seconds(step, arguments.steps)
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    model.eval()
    with torch.no_grad():
        result["inference"] = median_seconds(forward, arguments.steps)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
