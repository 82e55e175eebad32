"""``crysmm convert``: convert a checkpoint of other code to a model folder."""

import argparse

from crysmm.cli.options import path, report
from crysmm.convert.inputs import refuse_unusable_conversion


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the checkpoint, the code that wrote it, and the folder to write."""
    parser.add_argument(
        "checkpoint", type=path, metavar="CHECKPOINT", help="File with the weights, written by torch.save."
    )
    parser.add_argument(
        "--from",
        dest="code",
        choices=("alignn", "cgcnn", "crysxpp", "crysgnn"),
        required=True,
        help="Code that wrote the checkpoint; cgcnn: the authors' or cgcnn2.",
    )
    parser.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="JSON file: for alignn the config.json next to the checkpoint; for the others the settings that the "
        "checkpoint lacks, if they are not the defaults: target_key, cutoff (8), max_neighbors (12).",
    )
    parser.add_argument("--output_dir", type=path, required=True, metavar="DIR", help="New folder to write to.")


def run(arguments: argparse.Namespace) -> int:
    """Convert the checkpoint, and print how to use the model.

    Raises:
        CrysmmError: The checkpoint, the settings or the folder cannot be used.
    """
    folder = arguments.output_dir
    refuse_unusable_conversion(arguments.code, arguments.checkpoint, arguments.config, folder)
    from crysmm.convert.conversion import convert

    conversion = convert(arguments.code, arguments.checkpoint, arguments.config, folder)
    unknown = "the elements in its training structures are unknown, so there is no warning about other elements"
    report([*conversion.notes, unknown])
    is_encoder = conversion.scaler is None
    use = f"crysmm train --init_from {folder}" if is_encoder else f"crysmm predict --model {folder} --files POSCAR"
    print(f"{conversion.config.model.name} from {arguments.code} written to {folder}; use it with: {use}")
    return 0
