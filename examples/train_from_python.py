"""Train a backbone on a folder of structures, and read its test metrics.

    python examples/train_from_python.py --output_dir runs/from_python

The same from the command line: ``crysmm train --root_dir examples/sample_data --model gatgnn --target_transform log10
--output_dir runs/from_python``.
"""

import argparse
from pathlib import Path

import crysmm

SAMPLE_DATA = Path(__file__).parent / "sample_data"


def main() -> None:
    """Train GATGNN on the logarithm of the sample crystals' bulk moduli."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root_dir", type=Path, default=SAMPLE_DATA, help="structures and id_prop.csv")
    parser.add_argument("--output_dir", type=Path, required=True, help="run folder to create")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--limit", type=int, help="read only this many crystals")
    arguments = parser.parse_args()

    # Any setting of `crysmm train --print_config` can be given here.
    config = crysmm.TrainingConfig(
        root_dir=arguments.root_dir,
        output_dir=arguments.output_dir,
        epochs=arguments.epochs,
        limit=arguments.limit,
        model={"name": "gatgnn", "heads": 4},
        target_transform="log10",
    )
    result = crysmm.train(config)

    test = result.metrics["test"]
    print(f"{test['n']} test crystals: MAE {test['mae']:.1f} GPa, of log10(K_VRH) {test['log10']['mae']:.3f}")
    print(f"predicting the mean of the training crystals: MAE {test['mae_of_train_mean']:.1f} GPa")
    print(f"weights, predictions and plots are in {result.folder}")


if __name__ == "__main__":
    main()
