"""The reference of the commands, from their own argument parsers, in place of ``<!-- commands -->``."""

from __future__ import annotations

import argparse
import html
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from crysmm.cli import train_folder
from crysmm.cli.main import COMMANDS, make_parser
from crysmm.cli.options import CommandParser
from crysmm.config import PretrainingConfig, RunConfig, TrainingConfig

MARKER = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the commands in it, where it asks for them."""
    return markdown.replace(MARKER, "\n".join(lines())) if MARKER in markdown else markdown


def parsers() -> dict[str, CommandParser]:
    """The parser of every command, and of the script, by what is typed."""
    commands = {
        f"crysmm {name}": make_parser(import_module(f"crysmm.cli.{name}"), f"crysmm {name}", summary)
        for name, summary in COMMANDS.items()
    }
    return commands | {train_folder.NAME: make_parser(train_folder, train_folder.NAME, train_folder.SUMMARY)}


def settings_of(parser: CommandParser) -> type[RunConfig] | None:
    """The kind of settings that a command has an option each for, if it has."""
    names = {argument.dest for argument in arguments_of(parser)}
    if "model.name" not in names:
        return None
    return PretrainingConfig if "method.name" in names else TrainingConfig


def arguments_of(parser: CommandParser) -> list[argparse.Action]:
    """The arguments of a command; argparse has no public list of them."""
    return [argument for argument in parser._actions if argument.dest != "help"]


def lines() -> Iterator[str]:
    """Markdown: a section a command."""
    for name, parser in parsers().items():
        kind, arguments = settings_of(parser), arguments_of(parser)
        settings = [argument for argument in arguments if kind and is_setting(argument, kind)]
        yield from (f"## {name}", "", html.escape(parser.description or "", quote=False), "")
        for argument in arguments:
            if argument not in settings:
                yield from described(argument)
        if kind and settings:
            missing = sorted(kind.model_fields.keys() - {argument.dest.split(".")[0] for argument in settings})
            but = f", but for {', '.join(f'`{setting}`' for setting in missing)}" if missing else ""
            yield from (
                f"Every [setting](configuration.md) is an option too{but}.",
                "",
                '<details class="options" markdown>',
                "",
            )
            yield from (
                f"<summary>{len(settings)} settings</summary>",
                "",
                *map(linked, settings),
                "",
                "</details>",
                "",
            )


def is_setting(argument: argparse.Action, kind: type[RunConfig]) -> bool:
    """Whether an argument is an option that is named like its setting."""
    return f"--{argument.dest}" in argument.option_strings and argument.dest.split(".")[0] in kind.model_fields


def described(argument: argparse.Action) -> Iterator[str]:
    """An argument and its help, as an item of a definition list."""
    needed = " Needed." if argument.required and argument.option_strings else ""
    sentence = html.escape((argument.help or "").replace("%%", "%"), quote=False)
    yield from (f"`{spelled(argument)}`", f":   {sentence}{needed}", "")


def spelled(argument: argparse.Action) -> str:
    """An argument as it is typed: its names and what follows them."""
    values = "|".join(map(str, argument.choices)) if argument.choices else str(argument.metavar or "")
    values += " ..." if argument.nargs == "+" else ""
    return " ".join(filter(None, [", ".join(argument.option_strings), values if argument.nargs != 0 else ""]))


def linked(argument: argparse.Action) -> str:
    """The option of a setting, and where the setting is explained."""
    section, dot, _ = argument.dest.partition(".")
    names = ", ".join(f"`{name}`" for name in argument.option_strings)
    return f"[{names}](configuration.md#{section if dot else argument.dest})"
