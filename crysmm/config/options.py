"""Settings as the options of a command line that gives them."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from crysmm.config.run import DEFAULT_CHOICES, RunConfig


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
