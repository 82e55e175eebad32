"""Base of all settings: unknown names are refused with the nearest known one."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from crysmm.errors import nearest

UNKNOWN = "extra_forbidden"  # pydantic's type of error for an unknown name


class Settings(BaseModel):
    """Frozen settings, of which only the known names can be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_names(cls, settings: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Name the nearest known setting in the errors of unknown ones."""
        try:
            return validate(settings)
        except ValidationError as error:
            found = error.errors()
        details = []
        for detail in found:
            text, name = detail["msg"], detail["loc"][-1]
            if detail["type"] == UNKNOWN and len(detail["loc"]) == 1:  # those of a section are named already
                text = f"unknown setting{nearest(str(name), list(cls.model_fields))}"
            context = {**detail.get("ctx", {}), "text": text}
            kind = PydanticCustomError(detail["type"], "{text}", context)
            details.append(InitErrorDetails(type=kind, loc=detail["loc"], input=detail["input"]))
        raise ValidationError.from_exception_data(cls.__name__, details)
