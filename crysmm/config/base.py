"""Base of all settings: unknown names are refused with the nearest known one."""

from collections.abc import Iterator, Mapping
from os.path import expanduser
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from crysmm.errors import nearest

UNKNOWN = "extra_forbidden"  # pydantic's type of error for an unknown name


class Settings(BaseModel):
    """Frozen settings, of which only the known names can be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _improve_errors(cls, settings: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Name the nearest known setting in the errors of unknown ones, and add errors that pydantic does not raise."""
        details = []
        if isinstance(settings, Mapping):  # shells leave the ~ of --output_dir=~/runs as it is
            settings = {key: expanduser(value) if _is_of_home(value) else value for key, value in settings.items()}
            details = list(cls._refuse_stand_ins(settings))
        refused, found = {detail["loc"] for detail in details}, []
        try:
            valid = validate(settings)
            if not details:
                return valid
        except ValidationError as error:
            found = [detail for detail in error.errors() if detail["loc"][:1] not in refused]
        for detail in found:
            text, name = detail["msg"], detail["loc"][-1]
            if detail["type"] == UNKNOWN and len(detail["loc"]) == 1:  # those of a section are named already
                text = f"unknown setting{nearest(str(name), list(cls.model_fields))}"
            context = {**detail.get("ctx", {}), "text": text}
            kind = PydanticCustomError(detail["type"], "{text}", context)
            details.append(InitErrorDetails(type=kind, loc=detail["loc"], input=detail["input"]))
        raise ValidationError.from_exception_data(cls.__name__, details)

    @classmethod
    def _refuse_stand_ins(cls, settings: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield errors for booleans given as numbers, and for empty paths or ones with NUL, which are never valid."""
        for name, value in settings.items():
            field = cls.model_fields.get(name)
            kinds = () if field is None else (field.annotation, *get_args(field.annotation))
            if kinds and isinstance(value, bool) and bool not in kinds:
                kind = PydanticCustomError("switch", "true and false are no values of this setting")
                yield InitErrorDetails(type=kind, loc=(name,), input=value)
            if Path in kinds and isinstance(value, str | Path) and (value == "" or "\0" in str(value)):
                kind = PydanticCustomError("path_type", "no path")
                yield InitErrorDetails(type=kind, loc=(name,), input=value)


def _is_of_home(value: Any) -> bool:
    return isinstance(value, str | Path) and str(value).startswith("~/")
