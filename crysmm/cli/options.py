"""Every setting of a run as an option of a command, and the command line as settings."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import CliSettingsSource, SettingsError

from crysmm.config import TrainingConfig, load_config
from crysmm.config.loading import SECTIONS, AnyConfig
from crysmm.config.options import written
from crysmm.config.run import DEFAULT_CHOICES, RunConfig
from crysmm.errors import InputError

METAVARS = {"Path": "PATH", "str": "TEXT", "int": "N", "float": "X"}


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
    return "" if value in (None, PydanticUndefined) else written(value)
