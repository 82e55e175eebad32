"""From JARVIS data to predictions for new Atoms, without a file in between.

    python examples/jarvis_workflow.py --output_dir runs/jarvis

On a machine with a network, the records come from JARVIS itself (jarvis-tools downloads and keeps them):

    python examples/jarvis_workflow.py --dataset dft_3d --target_key mbj_bandgap --limit 2000 --output_dir runs/gap

Without ``--dataset`` the sample crystals take their place, as the same list of dicts.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from jarvis.core.atoms import Atoms

import crysmm

SAMPLE_DATA = Path(__file__).parent / "sample_data"


def sample_records() -> list[dict[str, Any]]:
    """The sample crystals as ``jarvis.db.figshare.data`` gives crystals: ``jid``, properties and ``atoms``."""
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
    """A data set of JARVIS, downloaded by jarvis-tools."""
    from jarvis.db.figshare import data

    records: list[dict[str, Any]] = data(dataset)
    return records


def main() -> None:
    """Train on records, then predict for Atoms that are new."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="a data set of jarvis.db.figshare, dft_3d for example")
    parser.add_argument("--target_key", default="K_VRH", help="the property to learn")
    parser.add_argument("--output_dir", type=Path, required=True, help="the run folder to make")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--limit", type=int, help="take only the first so many records")
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
