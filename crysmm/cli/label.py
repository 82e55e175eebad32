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
    open_unlabeled,
    path,
    positive,
    refuse_absent_device,
    warn,
)
from crysmm.errors import CrysmmError
from crysmm.files import refuse_other_files
from crysmm.inference.files import require_model
from crysmm.runs.run_folder import RunFolder
from crysmm.training import LABELED_IDS, LABELED_TABLE, LABELS, LABELS_REPORT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the run, the crystals to label, and the folder to write to."""
    parser.add_argument(
        "--model", type=path, required=True, metavar="DIR", help="Folder of a run of crysmm train, which predicts them."
    )
    parser.add_argument("--root_dir", type=path, required=True, metavar="PATH", help=f"Crystals to label. {UNLABELED}")
    parser.add_argument("--output_dir", type=path, required=True, metavar="DIR", help="Folder to write to.")
    parser.add_argument(
        "--labeled", type=path, metavar="PATH", help="Structures that the run was trained on, if they have moved."
    )
    add_reading_options(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="Read only this many rows, from the beginning.")
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
    source = open_unlabeled(arguments)
    from crysmm.training.labels import label

    labeled = label(
        arguments.model,
        source,
        folder,
        root_dir=arguments.labeled,
        device=arguments.device,
        batch_size=arguments.batch_size,
        jobs=arguments.jobs,
    )
    summary = labeled.summary
    if summary.n_failed:
        failed = [(row.file or row.id, row.reason) for row in summary.failures]
        warn(f"{summary.n_failed} not labeled:{listed(failed, summary.n_failed, f', in {folder / LABELS}')}")
    if n_same := summary.n_predicted - labeled.n_added:
        warn(f"{n_same} left out: the run has the same structure under another id")
    if not labeled.n_added:
        raise CrysmmError("no crystal is labeled, so there is nothing to train on beside the crystals of the run")
    print(f"{labeled.n_added:,} of {summary.n_rows:,} crystals labeled: {folder}")
    print(f"train on them and the {labeled.n_known:,} of the run with:")
    print(shlex.join(["crysmm", "train", *labeled.options, "--output_dir", "STUDENT"]))
    return int(summary.n_failed > 0)
