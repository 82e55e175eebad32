"""``crysmm audit``: find crystals that the splits of a run share, and the test error without them."""

import argparse
from typing import get_args

from crysmm.cli.options import path
from crysmm.config.run import FileFormat
from crysmm.errors import InputError
from crysmm.files import refuse_other_files
from crysmm.runs.run_folder import AUDIT_REPORT, AUDIT_TABLE, RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for a run, or for structures and a file that splits them."""
    parser.add_argument("--model", type=path, metavar="DIR", help="Folder of a run of crysmm train.")
    parser.add_argument("--root_dir", type=path, metavar="PATH", help="Structures; for a run only if they have moved.")
    parser.add_argument(
        "--ids_file",
        type=path,
        metavar="FILE",
        help="Instead of a run: an ids_train_val_test.json that splits the structures.",
    )
    parser.add_argument(
        "--file_format",
        choices=get_args(FileFormat),
        help="With --ids_file: format of the structure files; by default detected for each file.",
    )
    parser.add_argument(
        "--id_key",
        metavar="TEXT",
        help="With --ids_file: key of the ids in a JSON file; by default jid, id or material_id.",
    )
    parser.add_argument(
        "--output_dir",
        type=path,
        metavar="DIR",
        help="Folder for audit.json and audit.csv; for a run by default its own folder.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the audit, and print it.

    Raises:
        InputError: No split is named, options contradict each other, or the split does not fit the structures.
    """
    run, root_dir = arguments.model, arguments.root_dir
    if (run is None) == (arguments.ids_file is None):
        raise InputError("name a run with --model, or a split with --root_dir and --ids_file")
    required = {"root_dir": "the structures that --ids_file splits", "output_dir": "a folder for the audit"}
    for name in ("file_format", "id_key"):
        if run is not None and vars(arguments)[name] is not None:
            raise InputError(f"--{name}: is read from the settings of the run; leave it out")
    for name, meaning in required.items():
        if run is None and vars(arguments)[name] is None:
            raise InputError(f"--{name}: missing; name {meaning}")
    folder = arguments.output_dir or run
    if run is not None:
        RunFolder(run).require_training()
    if RunFolder(folder).config.exists() and (run is None or not folder.samefile(run)):
        raise InputError(
            f"--output_dir: {folder} holds another run, which may have an audit of its own; name another folder"
        )
    refuse_other_files(folder, AUDIT_REPORT, "n_training", [AUDIT_TABLE])
    from crysmm.audit.leakage import audit_ids, audit_run
    from crysmm.io.inputs import open_source

    if run is not None:
        audit = audit_run(run, root_dir)
    else:
        source = open_source(root_dir, id_key=arguments.id_key, file_format=arguments.file_format, needs_targets=False)
        audit = audit_ids(source, arguments.ids_file)
    audit.write(folder)
    print(*audit.lines(), sep="\n")
    print(f"written to {folder}: audit.json, audit.csv")
    return 0
