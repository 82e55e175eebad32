"""``crysmm predict``: write a table with the predictions of a trained model."""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from crysmm.cli.options import (
    UNLABELED,
    add_batch_size,
    add_cluster_options,
    add_device,
    add_jobs,
    add_model_and_structures,
    add_reading_options,
    fraction,
    listed,
    path,
    refuse_absent_device,
    refuse_row_options,
    report,
    warn,
)
from crysmm.cluster import require_cluster
from crysmm.data.units import after_number
from crysmm.errors import CrysmmError, InputError, first_of
from crysmm.inference import COVERAGE
from crysmm.inference.model_files import PARQUET, refuse_table, require_model, unfinished_folder
from crysmm.inference.selection import Selection
from crysmm.io.source import Source
from crysmm.zoo import resolve_group

if TYPE_CHECKING:
    from crysmm.inference.prediction_table import PredictionSummary
    from crysmm.inference.predictor import Predictor

SHOWN = 10  # a table with at most this many rows is printed, too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the model, the structures, the table, and the device."""
    add_model_and_structures(parser, UNLABELED)
    add_reading_options(parser)
    parser.add_argument(
        "--output",
        type=path,
        default=Path("predictions.csv"),
        metavar="FILE",
        help="Table to write, .csv or .parquet (predictions.csv).",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="RULE",
        help="Rows to keep in the table, by their predictions: 'band_gap between 1 and 2', 'spread < 0.1', 'lowest 100 "
        "formation_energy' or 'highest 100 K_VRH'. May be given several times; all rules hold.",
    )
    add_batch_size(parser)
    parser.add_argument(
        "--coverage",
        type=fraction,
        default=COVERAGE,
        metavar="X",
        help=f"Fraction of the targets inside the intervals, columns lower and upper ({COVERAGE}).",
    )
    parser.add_argument(
        "--precision",
        choices=("32", "bf16"),
        default="32",
        help="32: predictions that do not depend on the batch (default). bf16: faster on processors that multiply it "
        "in hardware, accurate to two or three digits.",
    )
    add_device(parser)
    add_jobs(parser)
    add_cluster_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the table of predictions, and print what a user should know about it; return 1 if some are missing.

    Raises:
        CrysmmError: The model folder, the input as a whole or the output cannot be used, or no structure is predicted.
    """
    from crysmm.io.id_prop import FolderTable
    from crysmm.io.inputs import open_source, source_from_files

    refuse_row_options(arguments, "id_key")
    refuse_absent_device(arguments.device)
    Selection.parse(arguments.keep)
    for folder in resolve_group(arguments.model):
        require_model(folder, may_be_ensemble=True)
    refuse_table(arguments.output)
    if arguments.files is not None and not any(path.exists() for path in arguments.files):
        raise InputError(f"{first_of(list(map(str, arguments.files)))}: no such file")
    require_cluster(arguments.backend, arguments.scheduler)
    file_format = arguments.file_format
    source: Source
    if arguments.files is not None:
        source = source_from_files(arguments.files, file_format=file_format)
    else:
        source = open_source(arguments.root_dir, id_key=arguments.id_key, file_format=file_format, needs_targets=False)
    if isinstance(source, FolderTable) and (others := source.unnamed_files()):
        warn(
            f"not predicted, as no row of the table in {arguments.root_dir} names them: {first_of(others)}; there are "
            f"{len(others)} such structure files, which --files predicts"
        )
    from crysmm.inference.predictor import load
    from crysmm.inference.screening import screen

    predictor = load(arguments.model, arguments.device, arguments.precision)
    unfinished = unfinished_folder(arguments.output)
    if unfinished.exists():
        report([f"going on with the predictions in {unfinished}"])
    try:
        summary = screen(
            predictor,
            source,
            arguments.output,
            keep=arguments.keep,
            batch_size=arguments.batch_size,
            coverage=arguments.coverage,
            jobs=arguments.jobs,
            scheduler=arguments.scheduler,
        )
    except KeyboardInterrupt:
        if unfinished.exists():
            report([f"what was predicted is in {unfinished}; the same command goes on from there"])
        raise
    return _report(predictor, summary, arguments)


def _report(predictor: Predictor, summary: PredictionSummary, arguments: argparse.Namespace) -> int:
    """Print what a user should know about a table of predictions, and return the exit code.

    Raises:
        CrysmmError: No structure is predicted.
    """
    from crysmm.inference.intervals import fewest_errors

    total, output, keeps = summary.n_rows, arguments.output, bool(arguments.keep)
    if total and total <= SHOWN and output.suffix != PARQUET:
        has_several = len(predictor.target_names) > 1
        print(_by_property(predictor, output) if has_several else output.read_text(encoding="utf-8"), end="")
    kept = f", {summary.n_kept} kept" if keeps else ""
    print(f"{summary.n_predicted} of {total} structures predicted{kept}: {output}")
    if not predictor.has_calibration:
        warn(
            "the model has no calibration: there are no intervals, and nothing shows which structures are far from the "
            "training structures"
        )
    if summary.unseen:
        counts = ", ".join(f"{symbol} ({count})" for symbol, count in summary.unseen.most_common())
        warn(f"elements in no training structure, with the number of structures that contain them: {counts}")
    if summary.n_far:
        warn(f"{summary.n_far} far from the training structures, see the column domain: trust these less")
    n_validation, fewest = predictor.n_validation, fewest_errors(arguments.coverage)
    if n_validation is not None and n_validation < fewest:
        some = " for at least one property" if len(predictor.target_names) > 1 else ""
        warn(
            f"intervals of {arguments.coverage:.0%} are infinite{some}: they need {fewest} validation "
            f"structures, the model had {n_validation}; lower --coverage"
        )
    others = "" if keeps else ", in the table"
    if summary.n_undescribed:
        name, reason = next(iter(summary.undescribed.items()))
        count = summary.n_undescribed
        warn(f"{count} predicted without a description, which the model reads; the first: {name}: {reason}")
    if summary.n_noted:
        notes = listed([(row.file, row.note) for row in summary.notes], summary.n_noted, others)
        warn(f"{summary.n_noted} predicted, with a note on how they were read:{notes}")
    if summary.n_failed:
        failed = [(row.file or row.id, row.reason) for row in summary.failures]
        where = "" if keeps else ", their reasons are in the table"
        warn(f"{summary.n_failed} not predicted{where}:{listed(failed, summary.n_failed, others)}")
    if not total:
        raise CrysmmError("the input has no structures")
    if not summary.n_predicted:
        why = "" if keeps else f"; see the column reason of {output}"
        raise CrysmmError(f"no structure could be predicted{why}")
    return 1 if summary.n_failed else 0


def _by_property(predictor: Predictor, table: Path) -> str:
    """Format a short table of several properties with a line per property of each structure."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = predictor.target_names
    width = max(map(len, names))
    lines = []
    for row in rows:
        if row["reason"]:
            lines.append(f"{row['id']}: {row['reason']}")
            continue
        lines.append(row["id"])
        for name, unit in zip(names, predictor.units, strict=True):
            value, *ends = (float(row.get(f"{kind}_{name}") or "nan") for kind in ("prediction", "lower", "upper"))
            interval = "" if any(map(math.isnan, ends)) else f"  ({ends[0]:.4g} to {ends[1]:.4g})"
            lines.append(f"  {name:{width}}  {value:.4g}{after_number(unit)}{interval}")
    return "\n".join(lines) + "\n"
