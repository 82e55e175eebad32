"""The command ``crysmm``, and the handling of errors on all command lines of the package."""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from crysmm import __version__
from crysmm.errors import CrysmmError, InputWarning, nearest

if TYPE_CHECKING:
    from crysmm.cli.options import CommandParser

# OpenMP threads spin while they wait for each other. With GNU OpenMP's default number of spins, they take the core from
# the thread they wait for when another program is running, and a training step takes ten times as long.
SPINS = 2000
LONGEST_LINE = 1000  # characters of an error on the screen; a broken file may contain a name of any length
COMMANDS = {
    "train": "Train a model on a folder of structures.",
    "pretrain": "Pre-train an encoder on structures without labels.",
    "predict": "Predict with a trained model.",
    "label": "Label crystals by a trained model, to train a cheaper one on them.",
    "app": "Predict on a page in the browser, served to this machine only.",
    "audit": "Find structures and formulas that the splits of a run share, and the test error without them.",
    "zoo": "List the models that come with the package, or print the card of one.",
    "convert": "Convert a checkpoint of ALIGNN, CGCNN, CrysXPP or CrysGNN to a model folder.",
    "explain": "Explain a model's predictions by features, atoms and elements.",
    "runs": "List the runs in a folder with their errors, and compare them on a page.",
    "compare": "Train in several ways on one split, and compare the errors on the same test crystals.",
    "leaderboard": "Make a contribution to the JARVIS-Leaderboard: train on a benchmark, or use a finished run.",
    "matbench": "Train on the folds of a Matbench v0.1 task, and write its results file.",
    "describe": "Write a text description of each structure, for models that read text.",
    "embed": "Write the features of atoms or crystals by a universal potential or a model.",
    "check": "Read a folder of structures and report what is wrong with it.",
    "doctor": "Report the installation and what a run would use, and how to fix problems.",
    "completion": "Print a script that makes a shell complete commands and options with the Tab key.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code; only the module of that command is imported.

    Without a command, print the help.
    """
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
    if not argv:
        parser.print_help()
    elif argv[0].startswith("-"):
        parser.parse_args(argv)
    else:
        parser.exit(
            2, f"crysmm: error: unknown command {argv[0]}{nearest(argv[0], list(COMMANDS))} (see crysmm --help)\n"
        )
    return 0


def run_command(module_name: str, prog: str, description: str, argv: Sequence[str]) -> int:
    """Parse the arguments of a command, and run it.

    Args:
        module_name: Module with ``add_arguments(parser)`` and ``run(arguments)``.
        prog: Name of the command.
        description: Sentence at the top of its help.
        argv: Words after the name.

    Returns:
        The exit code: that of ``run``, 2 after bad input, 130 after Ctrl-C, 141 if the output is no longer read.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read when torch is loaded

    def run() -> int:
        command = import_module(module_name)  # its imports may take seconds, in which Ctrl-C may arrive
        parser = make_parser(command, prog, description)
        return int(command.run(parser.parse([with_underscores(word) for word in argv])))

    return guarded(run)


def with_underscores(word: str) -> str:
    """Return a word of a command line, with underscores in place of hyphens if it is an option."""
    option, equals, value = word.partition("=")
    if not re.fullmatch(r"--[A-Za-z][\w.-]*", option):
        return word
    return f"--{option[2:].replace('-', '_')}{equals}{value}"


def make_parser(command: ModuleType, prog: str, description: str) -> "CommandParser":
    """Return the parser of a command, with the options that its module adds."""
    from crysmm.cli.options import CommandParser

    parser = CommandParser(prog=prog, description=description, usage=f"{prog} [options]")
    command.add_arguments(parser)
    return parser


def guarded(run: Callable[[], int]) -> int:
    """Run a function, print errors of the user's input or the system as a line instead of a traceback."""
    format_others = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *place: (
        f"warning: {message}\n" if issubclass(category, InputWarning) else format_others(message, category, *place)
    )
    try:
        code = run()
        print(end="", flush=True)  # raises BrokenPipeError here if the output is no longer read
        return code
    except CrysmmError as error:
        first, *others = [line[:LONGEST_LINE] for line in str(error).splitlines()] or [type(error).__name__]
        print(f"crysmm: error: {first}", *(f"               {line}" for line in others), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("crysmm: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python reports the broken pipe again when it exits
        print("crysmm: stopped, as its output is no longer read", file=sys.stderr)
        return 141
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"crysmm: error: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = format_others
