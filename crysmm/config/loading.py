"""From a JSON file and a command line to settings, with every problem said in a line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from crysmm.config.alignn_files import SYNONYMS, translate, translate_model
from crysmm.config.head import DistilledConfig, MultimodalConfig, VanillaConfig
from crysmm.config.models import BACKBONES
from crysmm.config.pretraining import METHODS, PretrainingConfig
from crysmm.config.run import DEFAULT_CHOICES, RunConfig
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, shown

AnyConfig = TypeVar("AnyConfig", bound=RunConfig)

HEADS: dict[str, type[BaseModel]] = {
    "vanilla": VanillaConfig,
    "distilled": DistilledConfig,
    "multimodal": MultimodalConfig,
}
SECTIONS = {"model": BACKBONES, "head": HEADS, "method": METHODS}
"""Settings that are a choice by name with settings of its own: by section what can be chosen."""
SIZES = frozenset({"split_strategy", "n_train", "n_val", "n_test", "train_ratio", "val_ratio", "test_ratio"})
COMMANDS: dict[type[RunConfig], str] = {TrainingConfig: "crysmm train", PretrainingConfig: "crysmm pretrain"}
EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "weight": "a number from 0 to 1, or rising",
    "finite_number": "a finite number",
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
    """Settings from a file, with those of the command line put over them.

    Args:
        kind: of settings.
        path: a JSON file with our settings, ALIGNN's or CrysMMNet's; None where there is none.
        overrides: settings that win over the file's, nested like it.

    Returns:
        The settings, and a line for each thing the user should know about how they were read.

    Raises:
        InputError: The file cannot be read, or a line for each setting that cannot be used.
    """
    settings, notes = ({}, []) if path is None else translate(read_json(path), given=set(overrides))
    if isinstance(overrides.get("model"), dict):
        overrides = {**overrides, "model": translate_model(overrides["model"])}
    config = make_config(kind, merge(settings, overrides))
    if not config.use_canonize and not config.as_jarvis:
        notes.append("use_canonize false has an effect with as_jarvis only")
    return config, notes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        InputError: There is no such file, or it is not JSON (with line and column), or not an object, or holds what no
            text file can.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise InputError(f"--config: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--config: {path} is not a text file; expected JSON in UTF-8") from None
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise InputError(f"--config: {path} holds {half}, half of a character; write it whole") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InputError(f"--config: {path} is not JSON, {place}: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets thousands deep
        raise InputError(f"--config: {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f'--config: {path} holds a {type(content).__name__}; expected settings, {{"epochs": 50, ...}}')
    return content


def merge(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others put over them.

    Another backbone, head or method takes none of the first one's settings, a count of crystals for a split replaces
    its share, and a file of ids replaces whatever says how to split.
    """
    merged = {**settings, **overrides}
    for section, default in DEFAULT_CHOICES.items():
        before, after = settings.get(section), overrides.get(section)
        before = {"name": before} if isinstance(before, str) else before
        if isinstance(before, dict) and isinstance(after, dict):
            name = before.get("name", default)
            merged[section] = {**before, **after} if after.get("name", name) == name else after
    if overrides.get("ids_file") is not None:
        merged = {key: value for key, value in merged.items() if key not in SIZES or key in overrides}
    for split in ("train", "val", "test"):
        for given, replaced in ((f"n_{split}", f"{split}_ratio"), (f"{split}_ratio", f"n_{split}")):
            if overrides.get(given) is not None and replaced not in overrides:
                merged.pop(replaced, None)
    return merged


def make_config(kind: type[AnyConfig], settings: Mapping[str, Any]) -> AnyConfig:
    """Settings of a kind, validated.

    Raises:
        InputError: A line for each setting that cannot be used.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        lines = [_problem(kind, detail) for detail in error.errors() if detail["type"] != "default_factory_not_called"]
    raise InputError("\n".join(lines))


def nearest(name: str, known: list[str]) -> str:
    """``; did you mean X?`` where a known name is close, else nothing."""
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def commands_with(name: str) -> list[str]:
    """The commands that have a setting of this name."""
    return [command for kind, command in COMMANDS.items() if name in kind.model_fields]


def _problem(kind: type[RunConfig], detail: Any) -> str:
    location = [part for part in detail["loc"] if isinstance(part, str)]
    tagged = len(location) > 1 and location[1] in SECTIONS.get(location[0], ())
    choice = location.pop(1) if tagged else None
    key, problem = ".".join(location), detail["type"]
    if problem == "extra_forbidden":
        return _unknown_choice(key, choice) if choice is not None else _unknown(kind, key)
    if problem == "contradiction":
        return f"--{key}: {detail['msg']}"
    if problem == "missing" and choice is not None:
        field = SECTIONS[location[0]][choice].model_fields[location[1]]
        return f"--{key}: missing; {choice} needs it ({field.description})"
    if problem == "union_tag_invalid":
        key = f"{key}.name"
    expected = EXPECTED.get(problem, detail["msg"].removeprefix("Input should be ")).format(**detail.get("ctx", {}))
    got = detail["input"].get("name") if problem == "union_tag_invalid" else detail["input"]
    return f"--{key}: expected {expected}, got {shown(got)}"


def _unknown(kind: type[RunConfig], key: str) -> str:
    elsewhere = commands_with(key.split(".")[0])
    if elsewhere and COMMANDS[kind] not in elsewhere:
        return f"--{key}: a setting of {elsewhere[0]}, which this command does not have"
    return f"{key}: unknown setting{nearest(key, [*kind.model_fields, *SYNONYMS])}"


def _unknown_choice(key: str, choice: str) -> str:
    """A key that what a section has chosen by name does not have."""
    section, name = key.split(".", 1)
    choices = SECTIONS[section]
    others = [other for other, settings in choices.items() if name in settings.model_fields]
    if others:
        return f"--{key}: a setting of {' and '.join(others)}; --{section}.name is {choice}"
    known = [f"{section}.{field}" for field in choices[choice].model_fields]
    return f"{key}: unknown setting of {choice}{nearest(key, known)}"


def options(config: RunConfig, names: Iterable[str]) -> Iterator[str]:
    """The words of a command line for those of the named settings that are not at their defaults.

    Args:
        config: the settings.
        names: of fields; of one that is a choice with settings of its own, such as ``model``, these are given too.
    """
    default = type(config)(model=config.model)
    for name in names:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _choice(name, value)
        elif value is not None and value != getattr(default, name):
            yield from (f"--{name}", written(value))


def _choice(section: str, settings: BaseModel) -> Iterator[str]:
    values = dict(settings)
    if (name := values.pop("name")) != DEFAULT_CHOICES[section]:
        yield from (f"--{section}", name)
    for key, value in values.items():
        if value != type(settings).model_fields[key].default:
            yield from (f"--{section}.{key}", written(value))


def written(value: Any) -> str:
    """A value as a command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
