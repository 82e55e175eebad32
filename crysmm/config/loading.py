"""From a JSON file and a command line to settings, with every problem said in a line."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crysmm.config.models import ALIGNNConfig, CGCNNConfig, GATGNNConfig
from crysmm.config.peers import SYNONYMS, translate, translate_model
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError

BACKBONES: dict[str, type[BaseModel]] = {"cgcnn": CGCNNConfig, "gatgnn": GATGNNConfig, "alignn": ALIGNNConfig}
EXPECTED = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
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
    "path_type": "a path",
    "tuple_type": "a list",
    "model_type": "settings in braces, the name among them",
    "model_attributes_type": "a name, or settings in braces",
    "string_pattern_mismatch": "auto, cpu, cuda or cuda:N",
}


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> tuple[TrainingConfig, list[str]]:
    """Settings from a file, with those of the command line put over them.

    Args:
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
    config = make_config(merge(settings, overrides))
    if not config.use_canonize and not config.as_jarvis:
        notes.append("use_canonize false has an effect with as_jarvis only")
    return config, notes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        InputError: There is no such file, or it is not JSON (with line and column), or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"--config: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"--config: {path} is not a text file; expected JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InputError(f"--config: {path} is not JSON, {place}: {error.msg}") from None
    if not isinstance(content, dict):
        raise InputError(f'--config: {path} holds a {type(content).__name__}; expected settings, {{"epochs": 50, ...}}')
    return content


def merge(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others put over them.

    Another backbone takes none of the first one's settings, and a count of crystals for a split replaces its share.
    """
    merged = {**settings, **overrides}
    before, after = settings.get("model"), overrides.get("model")
    before = {"name": before} if isinstance(before, str) else before
    if isinstance(before, dict) and isinstance(after, dict):
        name = before.get("name", CGCNNConfig().name)
        merged["model"] = {**before, **after} if after.get("name", name) == name else after
    for split in ("train", "val", "test"):
        for given, replaced in ((f"n_{split}", f"{split}_ratio"), (f"{split}_ratio", f"n_{split}")):
            if overrides.get(given) is not None and replaced not in overrides:
                merged.pop(replaced, None)
    return merged


def make_config(settings: Mapping[str, Any]) -> TrainingConfig:
    """Settings, validated.

    Raises:
        InputError: A line for each setting that cannot be used.
    """
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        lines = [_problem(detail) for detail in error.errors() if detail["type"] != "default_factory_not_called"]
    raise InputError("\n".join(lines))


def nearest(name: str, known: list[str]) -> str:
    """``; did you mean X?`` where a known name is close, else nothing."""
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _problem(detail: Any) -> str:
    location = [part for part in detail["loc"] if isinstance(part, str)]
    tagged = len(location) > 1 and location[0] == "model" and location[1] in BACKBONES
    backbone = location.pop(1) if tagged else None
    key, kind = ".".join(location), detail["type"]
    if kind == "extra_forbidden":
        return _unknown(key, backbone)
    if kind == "contradiction":
        return f"--{key}: {detail['msg']}"
    if kind == "union_tag_invalid":
        key = f"{key}.name"
    expected = EXPECTED.get(kind, detail["msg"].removeprefix("Input should be ")).format(**detail.get("ctx", {}))
    got = detail["input"].get("name") if kind == "union_tag_invalid" else detail["input"]
    return f"--{key}: expected {expected}, got {got!r}"


def _unknown(key: str, backbone: str | None) -> str:
    if backbone is None:
        return f"{key}: unknown setting{nearest(key, [*TrainingConfig.model_fields, *SYNONYMS])}"
    known = [f"model.{name}" for name in BACKBONES[backbone].model_fields]
    others = [name for name, model in BACKBONES.items() if key.removeprefix("model.") in model.model_fields]
    if others:
        return f"--{key}: a setting of {' and '.join(others)}; --model.name is {backbone}"
    return f"{key}: unknown setting of {backbone}{nearest(key, known)}"
