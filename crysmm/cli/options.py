"""Every setting of a run as an option of a command, and the command line as settings."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import CliSettingsSource, SettingsError

from crysmm.config import TrainingConfig, load_config
from crysmm.config.loading import SECTIONS, AnyConfig, commands_with, format_value, nearest
from crysmm.config.run import DEFAULT_CHOICES, RunConfig
from crysmm.errors import InputError

METAVARS = {"Path": "PATH", "str": "TEXT", "int": "N", "float": "X"}


class CommandParser(argparse.ArgumentParser):
    """Argument parser without abbreviations, with one-line errors that suggest the nearest option."""

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


def add_config_options(
    parser: argparse.ArgumentParser, kind: type[RunConfig] = TrainingConfig, without: Set[str] = frozenset()
) -> None:
    """Give a command ``--config FILE`` and an option for every setting of a kind, but for some."""
    parser.add_argument(
        "--config", "--config_name", type=Path, metavar="FILE", help="JSON file with settings; options win over it."
    )
    _settings_source(kind, parser, without)


def config_from(kind: type[AnyConfig], arguments: argparse.Namespace) -> tuple[AnyConfig, list[str]]:
    """The settings of a command line parsed with `add_config_options`, and what the user should know of them.

    Raises:
        InputError: A setting cannot be used.
    """
    options = {key: value for key, value in vars(arguments).items() if key.split(".")[0] in kind.model_fields}
    try:
        overrides = _settings_source(kind, argparse.ArgumentParser())(parsed_args=options)()
    except SettingsError as error:
        raise InputError(f"the command line cannot be read: {error}") from None
    return load_config(kind, arguments.config, overrides)


def report(notes: Iterable[str]) -> None:
    """Print what the user should know of the settings."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def describe(config: RunConfig) -> str:
    """The settings, a line each, under a sentence that says what each is."""
    return "\n".join(_described(config, indent=""))


def _described(settings: BaseModel, indent: str) -> list[str]:
    lines = []
    for name, field in type(settings).model_fields.items():
        value = dict(settings)[name]
        lines.append(f"{indent}# {field.description}")
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_described(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {json.dumps(value, default=str)}")
    return lines


def _settings_source(
    kind: type[RunConfig], parser: argparse.ArgumentParser, without: Set[str] = frozenset()
) -> CliSettingsSource[argparse.ArgumentParser]:
    return CliSettingsSource(
        kind,  # type: ignore[arg-type]  # any pydantic model will do
        root_parser=parser,
        add_argument_method=partial(_add_option, kind, without),
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_enforce_required=False,
    )


def _add_option(kind: type[RunConfig], without: Set[str], container: Any, *names: str, **options: Any) -> None:
    """Add one option as pydantic-settings describes it, with switches that also stand alone, and readable help."""
    key = options["dest"]
    section, _, name = key.rpartition(".")
    if key in SECTIONS or key in without:
        return  # a section is set key by key; --model is short for --model.name
    if name == "name":
        names = (*names, f"--{section}")
    metavar = options.get("metavar", "")
    options["metavar"] = METAVARS.get(metavar, metavar)
    if metavar == "bool":
        options |= {"nargs": "?", "const": "true", "metavar": "true|false"}
    elif metavar.startswith("tuple"):
        options["metavar"] = "N,N,..."
    options["help"] = _help(kind, key).replace("%", "%%")
    container.add_argument(*names, **options)


def _help(kind: type[RunConfig], key: str) -> str:
    """The sentence of a setting and its default; for a setting of a choice, which choices have it."""
    section, _, name = key.rpartition(".")
    if section:
        sentence, shown = _help_of_choice(SECTIONS[section], DEFAULT_CHOICES[section], name)
    else:
        field = kind.model_fields[name]
        sentence, shown = field.description, _shown(field.default) if field.default_factory is None else ""
    return f"{sentence} ({shown})" if shown else f"{sentence}"


def _help_of_choice(choices: Mapping[str, type[BaseModel]], default: str, name: str) -> tuple[str | None, str]:
    having = {choice: model.model_fields for choice, model in choices.items() if name in model.model_fields}
    sentence = next(iter(having.values()))[name].description
    if name == "name":
        return sentence, default
    defaults = {choice: _shown(fields[name].default) for choice, fields in having.items()}
    if len(defaults) == len(choices) and len(set(defaults.values())) == 1:
        return sentence, defaults[default]
    return sentence, ", ".join(f"{choice}: {shown}" if shown else choice for choice, shown in defaults.items())


def _shown(value: Any) -> str:
    return "" if value in (None, PydanticUndefined) else format_value(value)


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
