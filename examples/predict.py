"""Predict with a trained model: for structure files, and for structures made in Python.

    python examples/predict.py --model runs/from_python --root_dir examples/sample_data --limit 5

From the command line, for any number of files: ``crysmm predict --model runs/from_python --root_dir FOLDER
--output predictions.csv``.
"""

import argparse
from pathlib import Path

from jarvis.core.atoms import Atoms

import crysmm

SAMPLE_DATA = Path(__file__).parent / "sample_data"


def main() -> None:
    """Print predictions, and the distance between the embeddings of two structures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a run folder")
    parser.add_argument("--root_dir", type=Path, default=SAMPLE_DATA, help="folder of .vasp files")
    parser.add_argument("--limit", type=int, help="predict only this many files")
    arguments = parser.parse_args()

    predictor = crysmm.load(arguments.model)
    files = sorted(arguments.root_dir.glob("*.vasp"))[: arguments.limit]
    for file, prediction in zip(files, predictor.predict(files), strict=True):
        print(f"{file.name}: {prediction[0]:.2f}")

    # JARVIS Atoms, pymatgen Structures and ase.Atoms need no conversion.
    lattice = [[0.0, 2.04, 2.04], [2.04, 0.0, 2.04], [2.04, 2.04, 0.0]]
    silver = Atoms(lattice_mat=lattice, coords=[[0, 0, 0]], elements=["Ag"])
    gold = Atoms(lattice_mat=lattice, coords=[[0, 0, 0]], elements=["Au"])
    (of_silver,), (of_gold,) = predictor.predict([silver, gold])
    print(f"silver {of_silver:.2f}, gold {of_gold:.2f}")
    embeddings = predictor.embed([silver, gold])
    print(
        f"embeddings of width {embeddings.shape[1]}, distance {((embeddings[0] - embeddings[1]) ** 2).sum() ** 0.5:.3g}"
    )


if __name__ == "__main__":
    main()
