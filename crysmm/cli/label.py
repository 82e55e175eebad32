"""``crysmm label``: label crystals by a model, to train a cheaper one on them."""

import argparse
import shlex

from crysmm.cli.options import (
    UNLABELED,
    add_batch_size,
    add_device,
    add_jobs,
    add_reading_options,
    listed,
    path,
    refuse_absent_device,
    report,
    warn,
)
from crysmm.files import refuse_other_files
from crysmm.inference.model_files import require_model, unfinished_folder
from crysmm.runs.run_folder import RunFolder
from crysmm.training import LABELED_IDS, LABELED_TABLE, LABELS, LABELS_REPORT

SHOWN = 5  # crystals without a label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the run, the crystals to label, and the folder to write to."""
    parser.add_argument(
        "--model", type=path, required=True, metavar="DIR", help="Folder of a run of crysmm train, which predicts them."
    )
    parser.add_argument("--unlabeled", type=path, required=True, metavar="PATH", help=f"Crystals to label. {UNLABELED}")
    parser.add_argument("--output_dir", type=path, required=True, metavar="DIR", help="Folder to write to.")
    parser.add_argument("--root_dir", type=path, metavar="PATH", help="Structures of the run, only if they have moved.")
    add_reading_options(parser)
    add_batch_size(parser)
    add_device(parser)
    add_jobs(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the labels, and print how to train on them; return 1 if some crystals got none.

    Raises:
        CrysmmError: The run, the input as a whole or the output cannot be used, or no crystal is labeled.
    """
    refuse_absent_device(arguments.device)
    folder = arguments.output_dir
    RunFolder(arguments.model).require_training()
    require_model(arguments.model, may_be_ensemble=True)
    refuse_other_files(folder, LABELS_REPORT, "n_known", [LABELS, LABELED_TABLE, LABELED_IDS])
    from crysmm.io.inputs import open_source
    from crysmm.training.labels import label

    source = open_source(
        arguments.unlabeled, id_key=arguments.id_key, file_format=arguments.file_format, needs_targets=False
    )
    options = {name: vars(arguments)[name] for name in ("root_dir", "device", "batch_size", "jobs")}
    try:
        labeled = label(arguments.model, source, folder, **options)
    except KeyboardInterrupt:
        if unfinished_folder(folder / LABELS).exists():
            report([f"what was predicted is kept in {folder}; the same command goes on from there"])
        raise
    summary, skipped = labeled.summary, labeled.skipped
    left_out = {"exactly the same structures": labeled.n_same, "other structures under their ids": labeled.n_other}
    report(f"{number} left out: the run has {what}" for what, number in left_out.items() if number)
    failed = [(row.file or row.id, row.reason) for row in [*skipped, *summary.failures]]
    if failed:
        n_failed = len(skipped) + summary.n_failed
        warn(f"{n_failed} not labeled:{listed(failed[:SHOWN], n_failed)}")
    print(f"{summary.n_predicted:,} crystals labeled: {folder}")
    print(f"train on them and the {labeled.n_known:,} of the run with:")
    print(shlex.join(["crysmm", "train", *labeled.options, "--output_dir", "STUDENT"]))
    return int(bool(failed))
