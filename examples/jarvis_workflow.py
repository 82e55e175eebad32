"""Train on JARVIS records and predict new Atoms, without files in between.

    python examples/jarvis_workflow.py --output_dir runs/jarvis

On a machine with a network, jarvis-tools downloads the records:

    python examples/jarvis_workflow.py --dataset dft_3d --target_key mbj_bandgap --limit 2000 --output_dir runs/gap

Without ``--dataset`` the sample crystals are used, in the same form.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from jarvis.core.atoms import Atoms

import crysmm

SAMPLE_DATA = Path(__file__).parent / "sample_data"


def sample_records() -> list[dict[str, Any]]:
    """Return the sample crystals in the form of ``jarvis.db.figshare.data``: ``jid``, properties and ``atoms``."""
    with (SAMPLE_DATA / "id_prop.csv").open(newline="", encoding="utf-8") as file:
        return [
            {
                "jid": row["id"],
                "K_VRH": float(row["K_VRH"]),
                "atoms": Atoms.from_poscar(str(SAMPLE_DATA / f"{row['id']}.vasp")).to_dict(),
            }
            for row in csv.DictReader(file)
        ]


def jarvis_records(dataset: str) -> list[dict[str, Any]]:
    """Download a data set with jarvis-tools."""
    from jarvis.db.figshare import data

    records: list[dict[str, Any]] = data(dataset)
    return records


def main() -> None:
    """Train on records, then predict new Atoms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="data set of jarvis.db.figshare, such as dft_3d")
    parser.add_argument("--target_key", default="K_VRH", help="property to predict")
    parser.add_argument("--output_dir", type=Path, required=True, help="run folder to create")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--limit", type=int, help="use only this many records")
    arguments = parser.parse_args()

    records = jarvis_records(arguments.dataset) if arguments.dataset else sample_records()
    config = crysmm.TrainingConfig(
        target_key=arguments.target_key,
        output_dir=arguments.output_dir,
        epochs=arguments.epochs,
        limit=arguments.limit,
    )
    result = crysmm.train(config, records=records)
    print(f"test MAE {result.metrics['test']['mae']:.4g} on {result.metrics['test']['n']} crystals")

    predictor = crysmm.load(result.folder)
    for strain in (0.98, 1.0, 1.02):
        lattice = [[strain * length for length in row] for row in ((4.05, 0, 0), (0, 4.05, 0), (0, 0, 4.05))]
        coords = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
        aluminium = Atoms(lattice_mat=lattice, coords=coords, elements=["Al"] * 4)
        prediction = predictor.predict([aluminium])[0, 0]
        print(f"aluminium with a lattice constant of {lattice[0][0]:.2f} Angstrom: {prediction:.4g}")


if __name__ == "__main__":
    main()
