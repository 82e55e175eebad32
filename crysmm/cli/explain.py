"""``crysmm explain``: explain the predictions of a model by features, atoms and elements."""

import argparse
from typing import TYPE_CHECKING

from crysmm.cli.options import (
    add_batch_size,
    add_cache_dir,
    add_jobs,
    add_model_and_structures,
    add_reading_options,
    path,
    positive,
    refuse_row_options,
    require,
    warn,
)
from crysmm.data.units import after_number
from crysmm.errors import InputError, count
from crysmm.explain import REPORT, TABLES_AND_PLOTS
from crysmm.files import refuse_other_files
from crysmm.inference.model_files import require_model
from crysmm.runs.run_folder import RunFolder
from crysmm.zoo import resolve

if TYPE_CHECKING:
    from crysmm.data.store import Store
    from crysmm.explain.explanation import Explanation
    from crysmm.inference.saved_models import LoadedModel

SHOWN = 10  # features that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the model, the structures, the output to explain, and the folder to write to."""
    add_model_and_structures(
        parser,
        "Folder with structures, or one file of many (.json, .jsonl, .xyz, .csv, .parquet, ...); if it has targets, "
        "they are read to check the explanation by errors.",
    )
    parser.add_argument("--output_dir", type=path, required=True, metavar="DIR", help="Folder to write to.")
    parser.add_argument(
        "--explained",
        metavar="TEXT",
        help="Target to explain, or class whose probability to explain; by default the first target or the last class.",
    )
    parser.add_argument(
        "--target_key", metavar="TEXT", help="Property to compute errors with; by default the one the model predicts."
    )
    add_reading_options(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="Read only this many rows, from the beginning.")
    add_batch_size(parser)
    add_jobs(parser)
    add_cache_dir(parser, "Folder for stored graphs; by default crysmm in the user's cache.")


def run(arguments: argparse.Namespace) -> int:
    """Write the explanation, and print its main features.

    Raises:
        CrysmmError: The model folder, the input as a whole or the output cannot be used.
    """
    refuse_row_options(arguments, "target_key", "id_key", "limit")
    if RunFolder(arguments.output_dir).config.exists():
        raise InputError(
            f"--output_dir: {arguments.output_dir} holds a run, whose files must not change; name another folder"
        )
    refuse_other_files(arguments.output_dir, REPORT, "n_crystals", TABLES_AND_PLOTS)
    require("captum", "an explanation", "explain")
    require_model(resolve(arguments.model))
    from crysmm.explain.explanation import explain, refuse_other_input
    from crysmm.inference.assessment import unseen_elements
    from crysmm.inference.saved_models import load_model

    model = load_model(arguments.model)
    refuse_other_input(model)
    model.check_references()
    store = _store(arguments, model)
    explanation = explain(
        model, store, arguments.output_dir, explained=arguments.explained, batch_size=arguments.batch_size
    )
    _report(explanation)
    found = [row["element"] for row in explanation.totals.element_rows()]
    unseen = unseen_elements(model.description.elements, found)
    if unseen:
        warn(f"elements in no training structure: {', '.join(unseen)}; do not rely on their contributions")
    return 0


def _store(arguments: argparse.Namespace, model: "LoadedModel") -> "Store":
    """Read the structures, with their targets if possible; an error if ``--target_key`` is given and it is not."""
    from crysmm.data.store import build_store
    from crysmm.explain.explanation import why_not_measured
    from crysmm.io.inputs import open_source, source_from_files

    kept = {"cache_dir": arguments.cache_dir, "jobs": arguments.jobs}
    if arguments.files is not None:
        source = source_from_files(arguments.files, file_format=arguments.file_format)
        return build_store(source, model.settings, **kept)
    options = {key: vars(arguments)[key] for key in ("id_key", "file_format", "limit")}
    try:
        source = open_source(
            arguments.root_dir,
            target_key=arguments.target_key or model.config.target_key,
            target_transform=model.config.target_transform,
            target_multiplication_factor=model.config.target_multiplication_factor,
            **options,
        )
        store = build_store(source, model.settings, **kept)
        why = why_not_measured(model, store)
        if why:
            raise InputError(f"{why}; --target_key names another property")
        predicted, read = (", ".join(names) for names in (model.description.target_names, store.target_names))
        if predicted != read:
            warn(f"errors of {predicted} are computed from {read} in the data")
        return store
    except InputError as error:
        if arguments.target_key is not None:
            raise
        source = open_source(arguments.root_dir, needs_targets=False, **options)
        store = build_store(source, model.settings, **kept)
        reason = " ".join(str(error).split())
        warn(f"no targets are read ({reason}); changes of predictions are used instead of errors")
        return store


def _report(explanation: "Explanation") -> None:
    """Print the features that matter most, of the crystal if there is only one, and the checks of the explanation."""
    totals, unit = explanation.totals, after_number(explanation.unit)
    print(
        f"{count(totals.n_crystals, 'crystal')}, {count(totals.n_atoms, 'atom')}: the contributions to "
        f"{explanation.quantity} add up to within {totals.largest_residual:.2g} "
        f"(largest change from the baseline {totals.largest_change:.3g}{unit})"
    )
    crystal = explanation.crystal
    if crystal is not None:
        numbers = f"{crystal.prediction:.4g}{unit}, without features {crystal.baseline:.4g}{unit}"
        print(f"{crystal.id}: {explanation.quantity} {numbers}")
        heading = "contributions of its features"
        shown = [(row["contribution"], row["name"]) for row in crystal.features]
    else:
        important = [row for row in explanation.features if row.importance > 0]
        has_weights = explanation.features[0].weight is not None
        heading = f"features by {'weight' if has_weights else 'mean absolute contribution'}"
        shown = [(row.mean_size if row.weight is None else row.weight, row.feature.name) for row in important]
    print(f"{heading}:")
    for value, name in shown[:SHOWN]:
        print(f"  {value:10.4g}  {name}")
    for check in explanation.checks:
        print(check.verdict())
    if explanation.skipped:
        n_skipped, first = len(explanation.skipped), explanation.skipped[0]
        warn(f"{count(n_skipped, 'row')} skipped, see skipped.csv; the first: {first.file or first.id}: {first.reason}")
    print(f"written to {explanation.folder}")
