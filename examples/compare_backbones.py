"""Compare CGCNN, GATGNN and ALIGNN on one split of a folder.

    python examples/compare_backbones.py --output_dir runs/compare

The split depends on the seed and the data only, so all three train, validate and test on the same crystals.
"""

import argparse
import json
import time
from pathlib import Path

import crysmm

SAMPLE_DATA = Path(__file__).parent / "sample_data"


def main() -> None:
    """Train CGCNN, GATGNN and ALIGNN, and print their test errors side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root_dir", type=Path, default=SAMPLE_DATA, help="structures and id_prop.csv, or a .jsonl")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for one run per backbone")
    parser.add_argument("--target_key", help="property to predict, if the data have several")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--limit", type=int, help="read only this many crystals")
    arguments = parser.parse_args()

    rows, splits = [], set()
    for backbone in ("cgcnn", "gatgnn", "alignn"):
        config = crysmm.TrainingConfig(
            root_dir=arguments.root_dir,
            target_key=arguments.target_key,
            output_dir=arguments.output_dir / backbone,
            epochs=arguments.epochs,
            limit=arguments.limit,
            model={"name": backbone},
        )
        start = time.perf_counter()
        result = crysmm.train(config)
        rows.append((backbone, result.metrics["test"], time.perf_counter() - start))
        splits.add((result.folder / "ids_train_val_test.json").read_text())
    if len(splits) > 1:
        raise SystemExit("the splits differ: a crystal was readable for one backbone and not for another")

    baseline = rows[0][1]["mae_of_train_mean"]
    print(
        f"\n{len(json.loads(splits.pop())['id_test'])} test crystals; predicting the training mean: MAE {baseline:.4g}"
    )
    print(f"{'backbone':<10}{'test MAE':>12}{'test RMSE':>12}{'seconds':>10}")
    for backbone, test, seconds in rows:
        print(f"{backbone:<10}{test['mae']:>12.4g}{test['rmse']:>12.4g}{seconds:>10.0f}")


if __name__ == "__main__":
    main()
