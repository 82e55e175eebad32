"""``crysmm embed``: write a file with the features of atoms or crystals by a potential or a model."""

import argparse
from pathlib import Path

from crysmm.cli.options import (
    UNLABELED,
    add_cache_dir,
    add_cluster_options,
    add_device,
    add_reading_options,
    listed,
    open_unlabeled,
    path,
    positive,
    refuse_absent_device,
    warn,
)
from crysmm.cluster import require_cluster
from crysmm.errors import CrysmmError
from crysmm.inference.model_files import require_needed

SHOWN = 3  # crystals without features


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the teacher, the structures, the file to write, and the processes or the cluster."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="Potential, such as chgnet, sevennet-0 or sevennet-0:4+5 for these layers alone; or the folder of a "
        "model, or the name of a shipped one.",
    )
    parser.add_argument("--root_dir", type=path, required=True, metavar="PATH", help=UNLABELED)
    parser.add_argument(
        "--output",
        type=path,
        default=Path("embeddings.parquet"),
        metavar="FILE",
        help="File of features (embeddings.parquet).",
    )
    parser.add_argument(
        "--per",
        choices=("atom", "crystal"),
        default="atom",
        help="atom: one row per atom, as teachers need (default). crystal: one row with the means over the atoms.",
    )
    add_reading_options(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="Embed only this many rows, from the beginning.")
    add_device(parser)
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="Number of processes on a CPU; by default one per core."
    )
    add_cluster_options(parser)
    add_cache_dir(parser, "Folder for features, as for training.")


def run(arguments: argparse.Namespace) -> int:
    """Embed the structures, and print how many were embedded and why others were not.

    Raises:
        CrysmmError: The model, the input as a whole or the output cannot be used, or no structure is embedded.
    """
    refuse_absent_device(arguments.device)
    require_needed(arguments.model)
    from crysmm.config.graph import GraphSettings
    from crysmm.data.store import build_store
    from crysmm.inference.model_teacher import any_teacher
    from crysmm.teachers.feature_file import refuse_feature_file, write_embeddings
    from crysmm.teachers.features import compute_features
    from crysmm.teachers.names import is_model

    refuse_feature_file(arguments.output)
    require_cluster(arguments.backend, arguments.scheduler)
    model = arguments.model
    if is_model(model) and Path(model).exists():
        model = str(Path(model).absolute())  # the same folder in a process with another current folder
    options = {"jobs": arguments.jobs, "cache_dir": arguments.cache_dir}
    store = build_store(open_unlabeled(arguments), GraphSettings(), **options)
    features, failed = compute_features(
        store,
        range(len(store)),
        model,
        any_teacher,
        device=arguments.device,
        scheduler=arguments.scheduler,
        **options,
    )
    rows = [row for row in range(len(store)) if row not in failed]
    problems = [(store.files[row], reason) for row, reason in failed.items()]
    problems += [(row.file, row.reason) for row in store.skipped]
    if problems:
        warn(f"{len(problems)} not embedded:{listed(problems[:SHOWN], len(problems))}")
    if not rows:
        raise CrysmmError("no structure could be embedded")
    write_embeddings(arguments.output, store, rows, features, arguments.per)
    total = len(store) + len(store.skipped)
    print(
        f"{len(rows)} of {total} structures embedded, {features.width} features per {arguments.per}: {arguments.output}"
    )
    return int(len(rows) < total)
