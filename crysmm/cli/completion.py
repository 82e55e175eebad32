"""``crysmm completion``: a script that makes a shell complete commands, options, choices and file names."""

import argparse
import re
from importlib import import_module

import shtab

from crysmm.cli.main import COMMANDS
from crysmm.cli.options import METAVARS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of the shell."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="Shell that reads the script.")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    parser = argparse.ArgumentParser(prog="crysmm")
    commands = parser.add_subparsers()
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        import_module(f"crysmm.cli.{name}").add_arguments(command)
        for action in command._actions:
            metavar = str(action.metavar)
            if metavar in ("PATH", "FILE", "DIR"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
            elif action.choices is None and re.search("[|{]", metavar):  # settings, whose values pydantic checks
                action.choices = [word for word in re.split("[|,]", metavar.strip("{}")) if word != METAVARS["float"]]
    print(shtab.complete(parser, arguments.shell))
    return 0
