"""``crysmm convert``: a checkpoint of other code in, a model folder out."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, whose it is, and the folder."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="File with the weights, of torch.save.")
    parser.add_argument(
        "--from",
        dest="code",
        choices=("alignn", "cgcnn", "crysxpp", "crysgnn"),
        required=True,
        help="Whose code has written it; cgcnn: the authors' or cgcnn2.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON file: for alignn the config.json written beside the checkpoint; for the others what the checkpoint "
        "does not say, where it is not the default: target_key, cutoff (8), max_neighbors (12).",
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help="New folder to write to.")


def run(arguments: argparse.Namespace) -> int:
    """Convert; 0.

    Raises:
        CrysmmError: The checkpoint, the settings or the folder cannot be used.
    """
    from crysmm.cli.options import report
    from crysmm.convert.conversion import convert

    folder = arguments.output_dir
    conversion = convert(arguments.code, arguments.checkpoint, arguments.config, folder)
    report([*conversion.notes, "which elements its training structures held is not known, and nothing warns of others"])
    is_encoder = conversion.scaler is None
    use = f"crysmm train --init_from {folder}" if is_encoder else f"crysmm predict --model {folder} --files POSCAR"
    print(f"{conversion.config.model.name} of {arguments.code} written to {folder}; use it with {use}")
    return 0
