"""What the commands have in common that read a trained model and structures for it."""

import argparse
import sys
from pathlib import Path

from crysmm.errors import InputError


def add_model_and_structures(parser: argparse.ArgumentParser, root_dir_help: str) -> None:
    """Give a command ``--model``, and ``--root_dir`` or ``--files``."""
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="DIR",
        help="Folder of the trained model, or the name of a shipped one (crysmm zoo).",
    )
    inputs = parser.add_mutually_exclusive_group(required=True)
    inputs.add_argument("--root_dir", type=Path, metavar="PATH", help=root_dir_help)
    inputs.add_argument("--files", type=Path, nargs="+", metavar="FILE", help="Structure files.")


def positive(text: str) -> int:
    """A whole number of an option, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """A number of an option, between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return number


def folder_name(text: str) -> str:
    """The name of a folder, as an option gives it."""
    if text in ("", "..") or Path(text).name != text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"expected the name of a folder, got {text!r}")
    return text


def refuse_row_options(arguments: argparse.Namespace, *names: str) -> None:
    """Some options say how the rows of ``--root_dir`` are read; beside ``--files`` they would do nothing.

    Raises:
        InputError: One of these is given with ``--files``.
    """
    for name in names:
        if arguments.files is not None and vars(arguments)[name] is not None:
            raise InputError(f"--{name}: is for the rows of --root_dir; --files have none, leave it out")


def warn(text: str) -> None:
    """Print a warning beside the output."""
    print(f"warning: {text}", file=sys.stderr)
