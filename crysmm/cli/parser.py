"""An argument parser that takes no abbreviations and answers a wrong option with the nearest known one."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from crysmm.config.loading import commands_with, nearest


class CommandParser(argparse.ArgumentParser):
    """As `argparse.ArgumentParser`, with short errors."""

    def __init__(self, prog: str, description: str | None = None, usage: str | None = None) -> None:
        super().__init__(prog=prog, description=description, usage=usage, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in a line and leave with 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def refuse_unknown(self, unknown: Sequence[str]) -> None:
        """Leave with 2 if there are arguments that no option took."""
        if unknown:
            option = unknown[0].split("=")[0]
            others = commands_with(option.removeprefix("--"))
            if others and self.prog not in others:
                self.error(f"{option} is a setting of {' and '.join(others)}, which this command does not have")
            self.error(f"unknown argument {option}{nearest(option, list(self._option_string_actions))}")
