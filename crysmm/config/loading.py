"""Reading of settings from JSON or YAML files and command lines, and writing them as options.

Every invalid setting is reported in a line of its own.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from crysmm.config.alignn_files import SYNONYMS, translate, translate_model
from crysmm.config.base import Settings
from crysmm.config.models import BACKBONES, HEADS
from crysmm.config.pretraining import METHODS, PretrainingConfig
from crysmm.config.run import DEFAULT_CHOICES, ONLY_WITH, RunConfig, given_in
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, brief, nearest, shown
from crysmm.keys import load_json, refuse_repeated_keys

AnyConfig = TypeVar("AnyConfig", bound=RunConfig)
AnySettings = TypeVar("AnySettings", bound=Settings)

SECTIONS = {"model": BACKBONES, "head": HEADS, "method": METHODS}
"""Settings classes by name, for every section of settings that starts with a choice by name."""
SPLITTING = frozenset({
    "split_strategy", "keep_data_order", "n_train", "n_val", "n_test", "train_ratio", "val_ratio", "test_ratio",
})  # fmt: skip
"""Settings of a random split, which a file of ids replaces."""
COMMANDS: dict[type[RunConfig], str] = {TrainingConfig: "crysmm train", PretrainingConfig: "crysmm pretrain"}
EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "weight": "a number from 0 to 1, or rising",
    "finite_number": "a finite number",
    "switch": "a value other than true and false",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "union_tag_invalid": "{expected_tags}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "string_type": "text",
    "string_too_short": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "model_type": "settings in braces, the name among them",
    "model_attributes_type": "a name, or settings in braces",
    "string_pattern_mismatch": "auto, cpu, cuda or cuda:N",
}


def load_config(kind: type[AnyConfig], path: Path | None, overrides: Mapping[str, Any]) -> tuple[AnyConfig, list[str]]:
    """Read settings from a file and override them with those of the command line.

    Args:
        kind: Class of the settings.
        path: JSON or YAML file with settings of this package, ALIGNN or CrysMMNet, or None for no file.
        overrides: Settings that take precedence over the file's, nested like it.

    Returns:
        The settings, and notes on how they were read, one line each.

    Raises:
        InputError: The file cannot be read, or settings are invalid (one line each).
    """
    settings, notes = ({}, []) if path is None else translate(read_settings(path), given=set(overrides))
    if isinstance(overrides.get("model"), dict):
        overrides = {**overrides, "model": translate_model(overrides["model"])}
    config = make_config(kind, merge(settings, overrides))
    if not config.use_canonize and not config.as_jarvis:
        notes.append("use_canonize false has an effect with as_jarvis only")
    return config, notes


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object, or YAML text of names and values, as ``--print_config`` prints it.

    Raises:
        InputError: The file does not exist, is neither (reported with line and column), does not hold an object, has
            a key twice, or holds text that cannot be encoded.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_yaml = path.suffix in (".yaml", ".yml") or not text.lstrip().startswith(("{", "["))
        content = _read_yaml(path, text) if is_yaml else load_json(text)
        json.dumps(content, ensure_ascii=False, default=str).encode()  # fails on half of a surrogate pair, "\ud800"
    except OSError as error:
        raise InputError(f"--config: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--config: {path} is not a text file; expected JSON or YAML in UTF-8") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise InputError(f"--config: {path} holds {half}, half of a character; write it whole") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InputError(f"--config: {path} is not JSON, {place}: {error.msg}") from None
    except InputError:  # of YAML
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested thousands deep
        raise InputError(f"--config: {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        found = "is empty" if content is None else "does not hold settings"
        raise InputError(f'--config: {path} {found}; expected JSON or YAML, {{"epochs": 50, ...}}')
    return content


def _read_yaml(path: Path, text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Loader that refuses a repeated key."""

        def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            refuse_repeated_keys(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            return node

    try:
        content = yaml.load(text, Loader)  # as safe as the loader it derives from
        return {str(key): value for key, value in content.items()} if isinstance(content, dict) else content
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1} column {mark.column + 1}"
        problem = getattr(error, "problem", None) or brief(error)
        raise InputError(f"--config: {path} is neither JSON nor YAML{place}: {problem}") from None


def merge(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Override settings with others.

    Settings of a backbone, head, method, optimizer or scheduler are dropped if the overrides choose another one. A
    number of crystals for a split replaces its fraction and vice versa, and a file of ids replaces all settings of the
    split.
    """
    merged = {**settings, **overrides}
    for section, default in DEFAULT_CHOICES.items():
        before, after = (_as_section(given.get(section)) for given in (settings, overrides))
        if isinstance(before, dict) and isinstance(after, dict):
            name = before.get("name", default)
            merged[section] = {**before, **after} if after.get("name", name) == name else after
    if overrides.get("ids_file") is not None:
        merged = {key: value for key, value in merged.items() if key not in SPLITTING or key in overrides}
    for key, (choice, value) in ONLY_WITH.items():
        if key not in overrides and overrides.get(choice, value) != value:
            merged.pop(key, None)
    for split in ("train", "val", "test"):
        for given, replaced in ((f"n_{split}", f"{split}_ratio"), (f"{split}_ratio", f"n_{split}")):
            if overrides.get(given) is not None and replaced not in overrides:
                merged.pop(replaced, None)
    return merged


def _as_section(choice: Any) -> Any:
    """Return a choice that is a name or an object as a dict of the settings that were given."""
    if isinstance(choice, Settings):
        return given_in(choice)
    return {"name": choice} if isinstance(choice, str) else choice


def make_config(kind: type[AnySettings], settings: Mapping[str, Any]) -> AnySettings:
    """Validate settings.

    Raises:
        InputError: Settings are invalid (one line each).
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        # A default that depends on an invalid setting is reported too; the invalid setting itself is enough.
        details = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
    raise InputError("\n".join(_describe_problem(kind, detail) for detail in details))


def override(
    kind: type[AnyConfig], config: AnyConfig | Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> AnyConfig:
    """Return settings in which some are changed, as options change those of a file.

    Args:
        kind: Class of the settings.
        config: Settings, also as a dict, or None for the defaults.
        settings: Settings that take precedence.

    Raises:
        InputError: A setting is unknown or invalid (one line each), or the settings are something else.
    """
    if config is None or isinstance(config, Mapping):
        return make_config(kind, merge(config or {}, settings))
    if not isinstance(config, kind):
        raise InputError(
            f"the settings are a {type(config).__name__}; expected a {kind.__name__} or a dict; single settings are "
            "given by name, such as epochs=50"
        )
    return make_config(kind, merge(config.given(), settings)) if settings else config


def commands_with(name: str) -> list[str]:
    """List the commands that have a setting."""
    return [command for kind, command in COMMANDS.items() if name in kind.model_fields]


def _describe_problem(kind: type[Settings], detail: Any) -> str:
    """Return one line for an error that pydantic found."""
    location = [part for part in detail["loc"] if isinstance(part, str)]
    # Pydantic puts the choice of a section into the location: ("model", "gatgnn", "heads").
    tagged = len(location) > 1 and location[1] in SECTIONS.get(location[0], ())
    choice = location.pop(1) if tagged else None
    key, problem = ".".join(location), detail["type"]
    if problem == "extra_forbidden":
        return _describe_unknown(kind, key, choice)
    if problem == "contradiction":
        return f"--{key}: {detail['msg']}"
    if problem == "missing" and choice is not None:
        field = SECTIONS[location[0]][choice].model_fields[location[1]]
        return f"--{key}: missing; {choice} needs it ({field.description})"
    got = detail["input"]
    if problem == "union_tag_invalid":  # an unknown choice: the input is the whole section
        key, got = f"{key}.name", got.get("name")
    expected = EXPECTED.get(problem, detail["msg"].removeprefix("Input should be ")).format(**detail.get("ctx", {}))
    return f"--{key}: expected {expected}, got {shown(got)}"


def _describe_unknown(kind: type[Settings], key: str, choice: str | None) -> str:
    """Return one line for a key that does not exist, and where it does if another command or choice has it."""
    section, _, name = key.partition(".")
    if choice is None:
        commands = commands_with(section)
        if commands and section not in kind.model_fields:
            return f"--{key}: a setting of {commands[0]}, which this command does not have"
        if name and section in SECTIONS:
            return f'{key}: written as on a command line; in a file write {{"{section}": {{"{name}": ...}}}}'
        return f"{key}: unknown setting{nearest(key, [*kind.model_fields, *SYNONYMS])}"
    choices = SECTIONS[section]
    others = [other for other, settings in choices.items() if name in settings.model_fields]
    if others:
        return f"--{key}: a setting of {' and '.join(others)}; --{section}.name is {choice}"
    known = [f"{section}.{field}" for field in choices[choice].model_fields]
    return f"{key}: unknown setting of {choice}{nearest(key, known)}"


def options(config: RunConfig, names: Iterable[str]) -> Iterator[str]:
    """Yield the words of a command line that sets the named settings, without those at their defaults.

    Args:
        config: Settings of a run.
        names: Names of settings; a section such as ``model`` means all settings in it.
    """
    names = tuple(names)
    # Some defaults depend on the backbone, and its depth on the method of pre-training, if the command has one.
    given = {key: value for key, value in config if key == "method" and key in names}
    default = type(config)(model=config.model.name, **given)
    for name in names:
        value, usual = getattr(config, name), getattr(default, name)
        if isinstance(value, BaseModel):
            chosen, others = dict(value), dict(usual) if name == "model" else {}
            if (choice := chosen.pop("name")) != DEFAULT_CHOICES[name]:
                yield from _option(name, choice)
            for key, setting in chosen.items():
                if setting != others.get(key, type(value).model_fields[key].default):
                    yield from _option(f"{name}.{key}", setting)
        elif value is not None and value != usual:
            yield from _option(name, value)


def _option(key: str, value: Any) -> Iterator[str]:
    """Yield the words that give an option a value."""
    text = format_value(value)
    yield from (f"--{key}={text}",) if text.startswith("-") else (f"--{key}", text)


def format_value(value: Any) -> str:
    """Write the value of a setting as on a command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
