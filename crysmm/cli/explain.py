"""``crysmm explain``: a model folder and structures in; what the predictions rest on, out."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from crysmm.cli.options import add_model_and_structures, positive, refuse_row_options, warn
from crysmm.errors import InputError
from crysmm.io.source import FileFormat

if TYPE_CHECKING:
    from crysmm.data.store import Store
    from crysmm.explain.explanation import Explanation
    from crysmm.inference.saved_models import LoadedModel

SHOWN = 10  # features on the screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the structures, the folder, and what is explained."""
    add_model_and_structures(
        parser,
        "Folder with structures, or one .json, .json.zip, .jsonl or .jsonl.gz file; targets are read where there "
        "are any, to check the explanation by errors.",
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help="Folder to write to.")
    parser.add_argument(
        "--explained",
        metavar="TEXT",
        help="The target to explain, or the class whose probability is; by default the first target, the last class.",
    )
    parser.add_argument(
        "--target_key", metavar="TEXT", help="Property to measure errors by; by default the one the model learned."
    )
    parser.add_argument(
        "--file_format", choices=get_args(FileFormat), help="Format of the structure files; by default told from each."
    )
    parser.add_argument("--id_key", metavar="TEXT", help="Key of the ids in a JSON file; by default jid, else id.")
    parser.add_argument("--limit", type=positive, metavar="N", help="Read only the first so many rows.")
    parser.add_argument(
        "--batch_size", type=positive, default=64, metavar="N", help="Structures computed together (64)."
    )
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="Processes that read structures; by default all cores."
    )
    parser.add_argument(
        "--cache_dir", type=Path, metavar="DIR", help="Folder for stored graphs; by default crysmm in the user's cache."
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain; 0.

    Raises:
        CrysmmError: The model folder, the input as a whole or the output cannot be used.
    """
    from crysmm.explain.explanation import explain, refuse_texts
    from crysmm.files import refuse_unwritable
    from crysmm.inference.saved_models import load_model
    from crysmm.runs.run_folder import RunFolder

    refuse_row_options(arguments, "target_key", "id_key", "limit")
    refuse_unwritable(arguments.output_dir)
    if RunFolder(arguments.output_dir).config.exists():
        raise InputError(f"--output_dir: {arguments.output_dir} holds a run, whose files it is not to touch")
    model = load_model(arguments.model)
    refuse_texts(model)
    model.check_references()
    store = _store(arguments, model)
    explanation = explain(
        model, store, arguments.output_dir, explained=arguments.explained, batch_size=arguments.batch_size
    )
    _report(explanation)
    elements = model.description.elements
    found = [row["element"] for row in explanation.totals.element_rows()]
    unseen = [] if elements is None else [symbol for symbol in found if symbol not in elements]
    if unseen:
        warn(f"elements that no training structure held: {', '.join(unseen)}; what is said of them means little")
    return 0


def _store(arguments: argparse.Namespace, model: "LoadedModel") -> "Store":
    """The structures, with targets where they can be read; those of ``--target_key`` must be."""
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
        learned, read = (", ".join(names) for names in (model.description.target_names, store.target_names))
        if learned != read:
            warn(f"errors of {learned} are measured by {read} of the data")
        return store
    except InputError as error:
        if arguments.target_key is not None:
            raise
        source = open_source(arguments.root_dir, needs_targets=False, **options)
        store = build_store(source, model.settings, **kept)
        reason = " ".join(str(error).split())
        warn(f"no targets are read ({reason}); changes of predictions are measured instead")
        return store


def _report(explanation: "Explanation") -> None:
    totals = explanation.totals
    print(
        f"{totals.n_crystals} crystals, {totals.n_atoms} atoms: the contributions to {explanation.quantity} add up to "
        f"within {totals.largest_residual:.2g} (largest change from the baseline {totals.largest_change:.3g})"
    )
    _report_features(explanation)
    for check in explanation.checks:
        print(check.verdict())
    if explanation.skipped:
        count, first = len(explanation.skipped), explanation.skipped[0]
        warn(f"{count} rows left out, see skipped.csv; the first: {first.file or first.id}: {first.reason}")
    print(f"written to {explanation.folder}")


def _report_features(explanation: "Explanation") -> None:
    """Those of the crystal where it is the only one, else those of all crystals."""
    crystal = explanation.crystal
    if crystal is not None:
        print(f"{crystal.id}: {explanation.quantity} {crystal.prediction:.4g}, without features {crystal.baseline:.4g}")
        heading = "contributions of its features"
        shown = [(row["contribution"], row["name"]) for row in crystal.features]
    else:
        matter = [row for row in explanation.features if row.importance > 0]
        weighted = explanation.features[0].weight is not None
        heading = f"features by {'weight' if weighted else 'mean absolute contribution'}"
        shown = [(row.mean_size if row.weight is None else row.weight, row.feature.name) for row in matter]
    print(f"{heading}:")
    for value, name in shown[:SHOWN]:
        print(f"  {value:10.4g}  {name}")
