"""The settings of the objective's head: what is trained on top of a backbone, chosen by ``head.name``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

Projection = Literal["auto", "linear", "none"]


def _as_tuple(value: Any) -> Any:
    """One number, or text with several, as a file or a command line has it."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, int | float) else value


def _different(deltas: tuple[float, ...]) -> tuple[float, ...]:
    if not deltas:
        raise PydanticCustomError("contradiction", "is empty; give a number from 0 to 1, or several")
    named = [f"{delta:g}" for delta in deltas]  # in the folders of their runs
    if len(set(named)) < len(named):
        raise PydanticCustomError("contradiction", "holds a number twice: {deltas}", {"deltas": ",".join(named)})
    return deltas


Deltas = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)], ...],
    NoDecode,  # the command line's text is not JSON: ".5" is a number
    BeforeValidator(_as_tuple),
    AfterValidator(_different),
]


class VanillaConfig(BaseModel):
    """The backbone's own output layer, trained on the labels alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["vanilla"] = Field("vanilla", description="Which head.")


class TaughtConfig(BaseModel):
    """What every head that learns from a teacher has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: str = Field(
        min_length=1,
        description="Model whose atom embeddings the student's are to resemble: the folder of a pre-training run or of "
        "a trained model, or the name of a shipped one.",
    )
    delta: Deltas = Field(
        (0.5,),
        description="Weight of the labels' loss, from 0 to 1; the teacher's has the rest. Of several, "
        "comma-separated, the one best on the validation split is kept.",
    )
    projection: Projection = Field(
        "auto",
        description="Linear layer from the student's embeddings to the teacher's width: where they differ (auto), "
        "always (linear) or never (none).",
    )


class DistilledConfig(TaughtConfig):
    """The backbone's own output layer, trained on the labels and on a teacher's atom embeddings (CrysGNN)."""

    name: Literal["distilled"] = Field("distilled", description="Which head.")


HeadConfig = Annotated[VanillaConfig | DistilledConfig, Field(discriminator="name")]
