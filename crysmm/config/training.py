"""Settings of a training run, on structures with target values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from crysmm.config.models import FeaturesConfig, HeadConfig, MultimodalConfig, TeacherConfig, VanillaConfig
from crysmm.config.run import RunConfig

Criterion = Literal["l1", "mse", "huber"]
TargetTransform = Literal["none", "log10"]

LONGEST_UNIT = 40  # characters


def _split_units(units: Any) -> Any:
    """Split units separated by commas; those that cannot stand in a line are refused."""
    found = units.split(",") if isinstance(units, str) else units
    if not isinstance(found, list | tuple) or not all(isinstance(unit, str) for unit in found):
        return units  # refused by its type
    found = [unit.strip() for unit in found]
    wrong = next((unit for unit in found if not 0 < len(unit) <= LONGEST_UNIT or not unit.isprintable()), None)
    if wrong is not None or not found:
        text = "expected a unit such as GPa for each target, and 1 where there is no dimension, got {units}"
        raise PydanticCustomError("contradiction", text, {"units": repr(units)[:100]})
    return found


def _join_keys(keys: Any) -> Any:
    """Join a list of names with commas."""
    is_list = isinstance(keys, list | tuple) and keys and all(isinstance(key, str) and "," not in key for key in keys)
    return ",".join(keys) if is_list else keys


Units = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_units)]
Weights = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
    NoDecode,  # nan is no JSON
    BeforeValidator(lambda weights: weights.split(",") if isinstance(weights, str) else weights),
]


class TrainingConfig(RunConfig):
    """Settings of ``crysmm train``."""

    # Target
    target_key: Annotated[str | None, BeforeValidator(_join_keys)] = Field(
        None,
        validation_alias=AliasChoices("target_key", "target"),
        description="Property to predict: a key in the rows of a JSON file, or a column name in the header of "
        "id_prop.csv; several comma-separated properties are trained on together, and a row may lack some.",
    )
    target_transform: TargetTransform = Field(
        "none",
        description="Train on the target itself (none) or on its log10, for which targets of 0 or less are bad rows.",
    )
    standardize_target: bool = Field(
        True,
        description="Subtract the training split's mean from the target, and divide by its standard deviation.",
    )
    target_min: Annotated[float, Field(allow_inf_nan=False)] | Literal["auto", "none"] = Field(
        "auto",
        description="Smallest possible value of the targets, where intervals end, unless the prediction is below it. "
        "auto: 0 if no training target is negative; none: intervals have no such end.",
    )
    target_multiplication_factor: float | None = Field(
        None, allow_inf_nan=False, description="Factor to multiply every target by as it is read (a change of unit)."
    )
    unit: Units | None = Field(
        None,
        description="Unit of the target, such as GPa, or 1 if it has no dimension; of several targets, comma-separated "
        "in their order. By default that of columns known from JARVIS, Matbench and Materials Project. It is shown "
        "with every number and changes none.",
    )
    target_weights: Weights | None = Field(
        None,
        description="Weights of several targets in the loss, one per target in their order; only ratios matter. By "
        "default all weigh the same.",
    )
    classification_threshold: float | None = Field(
        None, allow_inf_nan=False, description="Predict two classes: targets above this threshold are 1, the others 0."
    )

    # Objective
    head: HeadConfig = Field(VanillaConfig(), description="Head on top of the backbone, and its settings.")
    criterion: Criterion = Field("l1", description="Loss function for regression.")
    ensemble: int = Field(
        1,
        ge=1,
        le=100,
        description="Number of networks to train on one split, with successive seeds; the mean of their predictions "
        "is the prediction.",
    )
    freeze_epochs: int = Field(
        0,
        ge=0,
        description="Number of first epochs in which the backbone weights loaded by init_from stay fixed.",
    )

    @property
    def is_classification(self) -> bool:
        """True if classes are predicted, through ``model.classification`` or a threshold."""
        return self.model.classification or self.classification_threshold is not None

    @property
    def network(self) -> str:
        """Name of the backbone, or of the regression that takes its place."""
        return super().network if self.has_graph_network else "gaussian-process"

    @property
    def has_graph_network(self) -> bool:
        """False if a Gaussian process on features takes the place of the network."""
        return not isinstance(self.head, FeaturesConfig)

    @property
    def distillation(self) -> TeacherConfig | None:
        """Settings of the head if it has a teacher, else None."""
        return self.head if isinstance(self.head, TeacherConfig) and self.head.teacher is not None else None

    @property
    def has_several_deltas(self) -> bool:
        """True if networks are trained with several weights of the labels, of which the best is kept."""
        return self.distillation is not None and len(self.distillation.delta) > 1

    @property
    def teacher(self) -> str | None:
        """Name or place of the teacher that the network imitates, or None."""
        return None if self.distillation is None else self.distillation.teacher

    @property
    def potential(self) -> str | None:
        """Name of the potential whose features the head reads, or file of them, or None."""
        return self.head.embeddings if isinstance(self.head, MultimodalConfig | FeaturesConfig) else None

    def models_needed(self) -> list[Path | str]:
        """Return the models that a run starts from, is distilled from and reads features of, as folders or names."""
        return [*super().models_needed(), *([] if self.potential is None else [self.potential])]

    @property
    def merges_equivalent(self) -> bool:
        """True if symmetry-equivalent atoms are computed once; DGL's graphs have no multiplicities."""
        return self.engine == "blocked" and self.model.merges_equivalent

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        yield from super()._contradictions()
        link = self.model.link
        of_values = {
            "target_transform": self.target_transform != "none",
            "target_min": self.target_min != "auto",
            "target_weights": self.target_weights is not None,
            "unit": self.unit is not None,
            "model.link": link != "identity",
        }
        for key in [key for key, is_set in of_values.items() if is_set and self.is_classification]:
            yield key, "has no effect on classes; leave it out"
        if self.target_transform == "log10" and link != "identity":
            yield "model.link", f"{link} contradicts --target_transform log10; give one of the two"
        if self.target_multiplication_factor == 0:
            yield "target_multiplication_factor", "0 would make every target 0"
        if self.freeze_epochs and self.init_from is None:
            yield "freeze_epochs", "has no effect without --init_from, whose weights it freezes"
        if not self.has_graph_network:
            unused = {
                "model.link": link != "identity",
                "model.classification": self.model.classification,
                "classification_threshold": self.classification_threshold is not None,
                "standardize_target": not self.standardize_target,
                "target_weights": self.target_weights is not None,
                "ensemble": self.ensemble > 1,
                "init_from": self.init_from is not None,
            }
            for key in [key for key, is_set in unused.items() if is_set]:
                yield key, "cannot be used with --head features, which fits a Gaussian process to each target"
