"""Options of the commands: all settings of a run, types of values, and notes and warnings to the user."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import CliSettingsSource, SettingsError

from crysmm.config import TrainingConfig, load_config
from crysmm.config.loading import SECTIONS, AnyConfig, commands_with, format_value
from crysmm.config.run import DEFAULT_CHOICES, FileFormat, RunConfig
from crysmm.errors import InputError, MissingDependencyError, nearest

if TYPE_CHECKING:
    from crysmm.io.source import Source

METAVARS = {"Path": "PATH", "str": "TEXT", "int": "N", "float": "X"}
BASIC = frozenset({
    "root_dir", "output_dir", "target_key", "model.name", "head.name", "method.name", "init_from", "epochs",
    "batch_size", "learning_rate", "ensemble", "device", "resume", "overwrite",
})  # fmt: skip
"""Settings that stand first in the help."""
UNLABELED = (
    "Folder with structures, with or without id_prop, or one file of many (.json, .jsonl, .xyz, .csv, .parquet, ...); "
    "targets are not read."
)
"""Help of ``--root_dir`` for commands that read no targets."""


class CommandParser(argparse.ArgumentParser):
    """Argument parser without abbreviations, with one-line errors that suggest the nearest option."""

    def __init__(self, prog: str, description: str | None = None, usage: str | None = None) -> None:
        super().__init__(prog=prog, description=description, usage=usage, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the error in one line, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse a command line; what is unknown ends it before what is missing, as that may be a misspelled option."""
        options = [word.split("=")[0] for word in argv if re.match("--[A-Za-z]", word)]
        self._refuse([option for option in options if option not in self._option_string_actions])
        arguments, unknown = self.parse_known_args(argv)
        self._refuse(unknown)
        return arguments

    def _refuse(self, unknown: Sequence[str]) -> None:
        """Exit with code 2 if there are unknown arguments; name a similar option, or commands that have this one."""
        if unknown:
            option = unknown[0].split("=")[0]
            others = commands_with(option.removeprefix("--"))
            if others and self.prog not in others:
                self.error(f"{option} is a setting of {' and '.join(others)}, which this command does not have")
            self.error(f"unknown argument {option}{nearest(option, list(self._option_string_actions))}")


def add_config_options(
    parser: argparse.ArgumentParser, kind: type[RunConfig] = TrainingConfig, without: Set[str] = frozenset()
) -> None:
    """Add ``--config FILE`` and an option for every setting.

    Args:
        parser: Parser of the command.
        kind: Class of the settings.
        without: Names of settings that get no option.
    """
    parser.add_argument(
        "--config",
        "--config_name",
        type=path,
        metavar="FILE",
        help="JSON or YAML file with settings; options override it.",
    )
    _settings_source(kind, parser, without)


def config_from(kind: type[AnyConfig], arguments: argparse.Namespace) -> tuple[AnyConfig, list[str]]:
    """Return the settings of a command line with the options of :func:`add_config_options`.

    Args:
        kind: Class of the settings.
        arguments: Parsed command line; options that are not settings are left out.

    Returns:
        The settings, and notes on how they were read, one line each.

    Raises:
        InputError: A setting is invalid.
    """
    options = {key: value for key, value in vars(arguments).items() if key.split(".")[0] in kind.model_fields}
    try:
        overrides = _settings_source(kind, argparse.ArgumentParser())(parsed_args=options)()
    except SettingsError as error:
        raise InputError(f"the command line cannot be read: {error}") from None
    return load_config(kind, arguments.config, overrides)


def report(notes: Iterable[str]) -> None:
    """Print notes next to the output."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def add_print_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--print_config``."""
    parser.add_argument(
        "--print_config",
        nargs="?",
        const="yaml",
        choices=("yaml", "json"),
        help="Print the resolved settings, which --config reads, and exit; as YAML with comments, or as JSON.",
    )


def printed(config: RunConfig, arguments: argparse.Namespace) -> bool:
    """Print the settings if the command line asks for that; return whether it does."""
    if arguments.print_config:
        print(describe(config, arguments.print_config))
    return arguments.print_config is not None


def describe(config: RunConfig, language: str = "yaml") -> str:
    """Return the settings as YAML, each with its description as a comment, or as JSON."""
    if language == "json":
        return config.model_dump_json(indent=2)

    def lines_of(settings: BaseModel, indent: str) -> Iterator[str]:
        for name, field in type(settings).model_fields.items():
            value = dict(settings)[name]
            yield f"{indent}# {field.description}"
            if isinstance(value, BaseModel):
                yield f"{indent}{name}:"
                yield from lines_of(value, indent + "  ")
            else:
                yield f"{indent}{name}: {json.dumps(value, default=str)}"

    return "\n".join(lines_of(config, indent=""))


def _settings_source(
    kind: type[RunConfig], parser: argparse.ArgumentParser, without: Set[str] = frozenset()
) -> CliSettingsSource[argparse.ArgumentParser]:
    """Add an option for every setting to a parser; the returned source reads nested settings from its arguments."""
    basic, others = parser.add_argument_group("most used settings"), parser.add_argument_group("other settings")
    return CliSettingsSource(
        kind,  # type: ignore[arg-type]  # any pydantic model will do
        root_parser=parser,
        add_argument_method=partial(_add_option, kind, without, basic, others),
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_enforce_required=False,
    )


def _add_option(
    kind: type[RunConfig], without: Set[str], basic: Any, others: Any, container: Any, *names: str, **options: Any
) -> None:
    """Add one option that pydantic-settings describes; a switch may stand alone, and the help gives the default.

    Args:
        kind: Class of the settings.
        without: Names of settings that get no option.
        basic: Group for the settings in ``BASIC``.
        others: Group for settings that are in no section.
        container: Parser, or group of the section.
        *names: Names of the option.
        **options: Arguments of ``add_argument``.
    """
    key = options["dest"]
    section, _, name = key.rpartition(".")
    if key in SECTIONS or key in without:
        return  # a section has an option for each of its keys, and --model is short for --model.name
    if name == "name":
        names = (*names, f"--{section}")
    metavar = options.get("metavar", "")
    options["metavar"] = METAVARS.get(metavar, metavar)
    if metavar.startswith("{float,"):  # a number or one of some words
        options["metavar"] = "|".join([METAVARS["float"], *re.findall(r"\w+", metavar)[1:]])
    elif metavar == "bool":
        options |= {"nargs": "?", "const": "true", "metavar": "true|false"}
    elif metavar.startswith("tuple"):
        options["metavar"] = "TEXT,TEXT,..." if "str" in metavar else "N,N,..."
    if section:
        sentence, default = _help_in_section(section, name)
    else:
        field = kind.model_fields[name]
        sentence, default = field.description, "" if field.default_factory is not None else _shown(field.default)
    options["help"] = (f"{sentence} ({default})" if default else f"{sentence}").replace("%", "%%")
    group = basic if key in BASIC else container if section else others
    group.add_argument(*names, **options)


def _help_in_section(section: str, name: str) -> tuple[str | None, str]:
    """Return the description and the default of a setting in a section such as ``model``.

    The default is given for each choice that has the setting, unless all choices have it with the same default.
    """
    choices = SECTIONS[section]
    fields = {choice: model.model_fields[name] for choice, model in choices.items() if name in model.model_fields}
    sentence = next(iter(fields.values())).description
    if name == "name":
        return sentence, DEFAULT_CHOICES[section]
    defaults = {choice: _shown(field.default) for choice, field in fields.items()}
    if len(defaults) == len(choices) and len(set(defaults.values())) == 1:
        return sentence, next(iter(defaults.values()))
    return sentence, ", ".join(f"{choice}: {shown}" if shown else choice for choice, shown in defaults.items())


def _shown(value: Any) -> str:
    return "" if value in (None, PydanticUndefined) else format_value(value)


def add_model_and_structures(parser: argparse.ArgumentParser, root_dir_help: str) -> None:
    """Add ``--model``, and ``--root_dir`` or ``--files``."""
    parser.add_argument(
        "--model",
        type=path,
        required=True,
        metavar="DIR",
        help="Folder of the trained model, or the name of a shipped one (crysmm zoo).",
    )
    inputs = parser.add_mutually_exclusive_group(required=True)
    inputs.add_argument("--root_dir", type=path, metavar="PATH", help=root_dir_help)
    inputs.add_argument("--files", type=path, nargs="+", metavar="FILE", help="Structure files.")


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--file_format`` and ``--id_key``."""
    parser.add_argument(
        "--file_format",
        choices=get_args(FileFormat),
        help="Format of the structure files; by default detected for each file.",
    )
    parser.add_argument(
        "--id_key", metavar="TEXT", help="Key of the ids in a JSON file; by default jid, id or material_id."
    )


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Add ``--batch_size``."""
    parser.add_argument(
        "--batch_size", type=positive, default=64, metavar="N", help="Number of structures in a batch (64)."
    )


def add_cache_dir(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add ``--cache_dir``."""
    parser.add_argument("--cache_dir", type=path, metavar="DIR", help=help_text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", metavar="TEXT", help="auto (default), cpu, cuda or cuda:N.")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``, the number of processes that read structures."""
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="Number of processes that read structures; by default one per core."
    )


def open_unlabeled(arguments: argparse.Namespace) -> "Source":
    """Open the structures in ``--root_dir`` without targets, by the other options on how to read it."""
    from crysmm.io.inputs import open_source

    return open_source(
        arguments.root_dir,
        id_key=arguments.id_key,
        file_format=arguments.file_format,
        limit=arguments.limit,
        needs_targets=False,
    )


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a Dask cluster."""
    parser.add_argument(
        "--backend", choices=("local", "dask"), default="local", help="local: this machine (default). dask: a cluster."
    )
    parser.add_argument("--scheduler", metavar="URL", help="Address of the Dask scheduler, tcp://HOST:PORT.")


def listed(rows: Iterable[tuple[str, str | None]], total: int, where: str = "") -> str:
    """Return a line for each of the first names with its reason, and the number of the others.

    Args:
        rows: First names and reasons.
        total: Number of all.
        where: Place of the others, after a comma.
    """
    lines = [f"\n  {name}: {reason}" for name, reason in rows]
    others = total - len(lines)
    return "".join(lines) + (f"\n  and {others} more{where}" if others else "")


def refuse_absent_device(device: str) -> None:
    """Refuse a GPU if torch is built for CPUs alone, which is known without importing it.

    Raises:
        InputError: The device cannot be there.
    """
    if device.startswith("cuda") and version("torch").endswith("+cpu"):
        raise InputError(
            f"--device: {device} is not available: torch {version('torch')} is the build for CPUs; use --device cpu or "
            "auto, and `crysmm doctor` to see what is installed"
        )


def require(package: str, purpose: str, extra: str) -> None:
    """Refuse to go on without an optional package.

    Raises:
        MissingDependencyError: It is not installed.
    """
    if find_spec(package) is None:
        raise MissingDependencyError(
            f"{purpose} needs the package {package}, which is not installed: pip install 'crysmm[{extra}]'"
        )


def path(text: str) -> Path:
    """Read a path, ``~`` too, but no empty one: a shell variable that is not set would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return Path(text).expanduser()


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """Read a number between 0 and 1, both excluded."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return number


def folder_name(text: str) -> str:
    """Read the name of a folder, without a path to it."""
    if text in ("", "..") or Path(text).name != text or not text.isprintable():
        raise argparse.ArgumentTypeError(f"expected the name of a folder, got {text!r}")
    return text


def refuse_row_options(arguments: argparse.Namespace, *names: str) -> None:
    """Refuse options for the rows of ``--root_dir`` together with ``--files``, where they have no effect.

    Args:
        arguments: Parsed command line.
        *names: Names of these options.

    Raises:
        InputError: One of them is given with ``--files``.
    """
    for name in names:
        if arguments.files is not None and vars(arguments)[name] is not None:
            raise InputError(f"--{name}: applies to the rows of --root_dir only; leave it out with --files")


def warn(text: str) -> None:
    """Print a warning next to the output."""
    print(f"warning: {text}", file=sys.stderr)
