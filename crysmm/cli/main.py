"""The command ``crysmm`` and what becomes of errors on any command line of the package."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from crysmm import __version__
from crysmm.errors import CrysmmError

if TYPE_CHECKING:
    from crysmm.cli.options import CommandParser

# Threads of a step wait for each other. Spinning as long as GNU OpenMP does unasked, they take the core from the one
# they wait for where another program runs too, and a step takes ten times as long.
SPINS = 2000
LONGEST_LINE = 1000  # characters of an error on the screen; a broken file may have a name in it of any length
COMMANDS = {
    "train": "Train a model on a folder of structures.",
    "pretrain": "Pre-train an encoder on structures without labels.",
    "predict": "Predict with a trained model.",
    "app": "Show predictions on a page in the browser, served to this machine alone.",
    "audit": "Find what the splits of a run share, and the test error without it.",
    "zoo": "List the models that come with the package, or print the card of one.",
    "convert": "Make a model folder of a checkpoint of ALIGNN, CGCNN, CrysXPP or CrysGNN.",
    "explain": "Say what a model's predictions rest on: features, atoms, elements.",
    "leaderboard": "Make a contribution to the JARVIS-Leaderboard: train on a benchmark, or take a finished run.",
    "matbench": "Train on the folds of a task of Matbench v0.1, and write its results file.",
    "describe": "Write a description of each structure, for models that read text.",
    "check": "Read a folder of structures and report what is wrong with it.",
    "doctor": "Report what is installed and what would be used, and how to mend what is wrong.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its module is imported only when it is the one asked for."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in COMMANDS:
        return run_command(f"crysmm.cli.{argv[0]}", f"crysmm {argv[0]}", COMMANDS[argv[0]], argv[1:])
    parser = argparse.ArgumentParser(
        prog="crysmm",
        description="Graph neural networks for properties of crystals.",
        epilog="Each command has its own --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"crysmm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary)
    parser.parse_args(argv)
    return 0


def run_command(module_name: str, prog: str, description: str, argv: Sequence[str]) -> int:
    """Run a command's module: its ``add_arguments``, the parser, its ``run``.

    Returns:
        The exit code: what ``run`` returns, 2 after bad input, 130 after Ctrl-C, 141 where nobody reads the output.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when torch is loaded
    command = import_module(module_name)
    parser = make_parser(command, prog, description)
    arguments, unknown = parser.parse_known_args(argv)
    parser.refuse_unknown(unknown)
    return guarded(lambda: command.run(arguments))


def make_parser(command: ModuleType, prog: str, description: str) -> "CommandParser":
    """The parser of a command, its module's ``add_arguments`` applied."""
    from crysmm.cli.options import CommandParser

    parser = CommandParser(prog=prog, description=description, usage=f"{prog} [options]")
    command.add_arguments(parser)
    return parser


def guarded(run: Callable[[], int]) -> int:
    """Run, and say in a line what a traceback would hide from a user."""
    try:
        code = run()
        print(end="", flush=True)  # a pipe that nobody reads any more shows here
        return code
    except CrysmmError as error:
        first, *others = [line[:LONGEST_LINE] for line in str(error).splitlines()] or [type(error).__name__]
        print(f"crysmm: error: {first}", *(f"               {line}" for line in others), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("crysmm: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains of what it could not print when it ends
        print("crysmm: stopped, as its output is no longer read", file=sys.stderr)
        return 141
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"crysmm: error: {place}{error.strerror or error}", file=sys.stderr)
        return 2
