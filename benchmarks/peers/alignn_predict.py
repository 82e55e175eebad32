"""Predict a folder of POSCARs with ALIGNN's own builder and model on DGL; the caller times the process."""

import argparse
import csv
import os
from pathlib import Path

import torch
from alignn_step import dgl_graphs, lattices, make_model
from jarvis.core.atoms import Atoms

BATCH_SIZE = 64


def main() -> None:
    """Parse the command line and predict with random weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the files, NAME.vasp")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model = make_model("dgl").eval()
    files = sorted(arguments.folder.glob("*.vasp"))
    with arguments.output.open("w", newline="") as output, torch.no_grad():
        writer = csv.writer(output)
        for start in range(0, len(files), BATCH_SIZE):
            batch = files[start : start + BATCH_SIZE]
            crystals = [Atoms.from_poscar(str(path)) for path in batch]
            graph, line_graph, _ = dgl_graphs(crystals)
            predictions = model((graph, line_graph, lattices(crystals))).flatten().tolist()
            writer.writerows(zip([path.name for path in batch], predictions, strict=True))


if __name__ == "__main__":
    main()
