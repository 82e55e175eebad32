"""``crysmm audit``: what the splits of a run share, and what that does to its test error."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from crysmm.errors import InputError
from crysmm.io.source import FileFormat

if TYPE_CHECKING:
    from crysmm.audit.leakage import Audit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, or structures with a split of them."""
    parser.add_argument("--model", type=Path, metavar="DIR", help="Folder of a run of crysmm train.")
    parser.add_argument(
        "--root_dir", type=Path, metavar="PATH", help="The structures; of a run, if they are not where they were."
    )
    parser.add_argument(
        "--ids_file", type=Path, metavar="FILE", help="Instead of a run: an ids_train_val_test.json of the structures."
    )
    parser.add_argument(
        "--file_format",
        choices=get_args(FileFormat),
        help="With --ids_file: format of the structure files; by default told from each.",
    )
    parser.add_argument(
        "--id_key", metavar="TEXT", help="With --ids_file: key of the ids in a JSON file; by default jid, else id."
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="Folder for audit.json and audit.csv; of a run by default its own.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Audit; 0.

    Raises:
        InputError: No split is named, or it does not fit the structures.
    """
    from crysmm.files import refuse_unwritable

    folder = _folder(arguments)
    refuse_unwritable(folder)
    audit = _audit(arguments)
    audit.write(folder)
    print(*audit.lines(), sep="\n")
    print(f"written to {folder}: audit.json, audit.csv")
    return 0


def _folder(arguments: argparse.Namespace) -> Path:
    """Where the audit is written; options that do not fit together are refused."""
    if (arguments.model is None) == (arguments.ids_file is None):
        raise InputError("name a run with --model, or a split with --root_dir and --ids_file")
    if arguments.model is not None:
        for name in ("file_format", "id_key"):
            if vars(arguments)[name] is not None:
                raise InputError(f"--{name}: a run's own settings say it; leave it out")
        return Path(arguments.output_dir or arguments.model)
    for name, what in (("root_dir", "the structures that --ids_file splits"), ("output_dir", "a folder for the audit")):
        if vars(arguments)[name] is None:
            raise InputError(f"--{name}: missing; name {what}")
    return Path(arguments.output_dir)


def _audit(arguments: argparse.Namespace) -> "Audit":
    from crysmm.audit.leakage import audit_ids, audit_run
    from crysmm.io.inputs import open_source

    if arguments.model is not None:
        return audit_run(arguments.model, arguments.root_dir)
    source = open_source(
        arguments.root_dir, id_key=arguments.id_key, file_format=arguments.file_format, needs_targets=False
    )
    return audit_ids(source, arguments.ids_file)
