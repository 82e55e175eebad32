"""What every run has settings for, whatever it learns: its input, model, graphs, split, training loop and machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from crysmm.config.graph import (
    AsJarvis,
    AtomFeatures,
    Cutoff,
    GraphSettings,
    MaxNeighbors,
    NeighborStrategy,
    TripletCutoff,
    UseCanonize,
)
from crysmm.config.models import CGCNNConfig, ModelConfig

FileFormat = Literal["poscar", "cif", "xyz", "pdb"]
Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Precision = Annotated[Literal["auto", "32", "bf16"], BeforeValidator(lambda value: "32" if value == 32 else value)]

DEFAULT_STRATEGY: dict[str, NeighborStrategy] = {
    "cgcnn": "cgcnn",
    "crysxpp": "cgcnn",
    "gatgnn": "cgcnn",
    "alignn": "k-nearest",
}
DEFAULT_LEARNING_RATE = {"cgcnn": 4e-3, "crysxpp": 4e-3, "gatgnn": 1e-3, "alignn": 1e-3}
DEFAULT_CHOICES = {"model": "cgcnn", "head": "vanilla", "method": "decoys"}
"""Sections that are a choice by name with settings of its own, and the choice where none is given."""
DEFAULT_RATIO = 0.1
DEVICES = r"^(auto|cpu|cuda(:\d+)?)$"


def _default_strategy(settings: dict[str, Any]) -> NeighborStrategy:
    return DEFAULT_STRATEGY[settings["model"].name]


def _default_learning_rate(settings: dict[str, Any]) -> float:
    return DEFAULT_LEARNING_RATE[settings["model"].name]


def _default_val_ratio(settings: dict[str, Any]) -> float | None:
    return DEFAULT_RATIO if settings["n_val"] is None and settings["ids_file"] is None else None


def _default_test_ratio(settings: dict[str, Any]) -> float | None:
    return DEFAULT_RATIO if settings["n_test"] is None and settings["ids_file"] is None else None


class RunConfig(BaseModel):
    """The settings that training and pre-training share, under ALIGNN's names where ALIGNN has one.

    Frozen, unknown names refused, every default that depends on another filled in.

    Raises:
        pydantic.ValidationError: A value is out of range, or two settings contradict each other.
            `crysmm.config.load_config` turns it into an `InputError` of one line a problem.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Input and output
    root_dir: Path | None = Field(
        None, description="Folder with structures and id_prop.csv, or one .json, .json.zip, .jsonl or .jsonl.gz file."
    )
    output_dir: Path | None = Field(None, description="Folder the run is written to; it must not hold another run.")
    file_format: FileFormat | None = Field(
        None, description="Format of the structure files; by default told from each file."
    )
    id_key: str | None = Field(
        None,
        validation_alias=AliasChoices("id_key", "id_tag"),
        description="Key of the ids in the rows of a JSON file; by default jid, else id.",
    )
    limit: int | None = Field(None, ge=1, description="Read only the first so many rows.")
    strict: bool = Field(False, description="Stop at the first row that cannot be read, instead of skipping it.")
    cache_dir: Path | None = Field(
        None, description="Folder for stored graphs; by default crysmm in the user's cache folder."
    )
    jobs: int | None = Field(
        None, ge=1, description="Processes that read structures; by default one a core, for up to 500 rows one."
    )

    # Model
    model: ModelConfig = Field(CGCNNConfig(), description="The backbone, chosen by model.name, and its settings.")
    init_from: Path | None = Field(
        None, description="Model folder, or the name of a shipped model, to start the weights from (fine-tuning)."
    )

    # Graph
    neighbor_strategy: NeighborStrategy = Field(default_factory=_default_strategy)
    cutoff: Cutoff = 8.0
    max_neighbors: MaxNeighbors = 12
    atom_features: AtomFeatures = "cgcnn"
    as_jarvis: AsJarvis = False
    use_canonize: UseCanonize = True
    triplet_cutoff: TripletCutoff = None

    # Split
    random_seed: int = Field(123, ge=0, lt=2**32, description="Seed of the split, the weights and the order of rows.")
    ids_file: Path | None = Field(None, description="An ids_train_val_test.json that says which id is in which split.")
    split_strategy: Literal["random", "composition"] = Field(
        "random", description="Split row by row (random), or so that no formula is in two splits (composition)."
    )
    keep_data_order: bool = Field(False, description="Split in the order of the rows instead of shuffling them first.")
    n_train: Annotated[int, Field(ge=1)] | None = Field(None, description="Crystals in the training split.")
    n_val: Count | None = Field(None, description="Crystals in the validation split.")
    n_test: Count | None = Field(None, description="Crystals in the test split.")
    train_ratio: Ratio | None = Field(None, description="Share of the training split; by default what is left.")
    val_ratio: Ratio | None = Field(
        default_factory=_default_val_ratio, description="Share of the validation split (0.1)."
    )
    test_ratio: Ratio | None = Field(default_factory=_default_test_ratio, description="Share of the test split (0.1).")

    # Training
    epochs: int = Field(100, ge=1, le=1_000_000, description="Times the training split is gone through.")
    batch_size: int = Field(64, ge=1, description="Crystals a step, over all devices together.")
    max_triplets: int | None = Field(
        None,
        ge=1,
        description="Most bond pairs (edges of the line graph, alike or not) in a batch; it holds fewer crystals then.",
    )
    learning_rate: float = Field(
        default_factory=_default_learning_rate,
        gt=0,
        allow_inf_nan=False,
        description="Largest step size: by default 4e-3 for cgcnn and crysxpp, 1e-3 for the other backbones.",
    )
    weight_decay: float = Field(1e-5, ge=0, allow_inf_nan=False, description="Decay of the weights.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="How weights follow their gradients.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    scheduler: Literal["onecycle", "multistep", "none"] = Field("onecycle", description="Course of the learning rate.")
    warmup_fraction: float = Field(0.3, ge=0, le=1, description="Share of the run in which onecycle rises.")
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (100,), description="Epochs after which multistep multiplies the learning rate by gamma."
    )
    gamma: float = Field(0.1, gt=0, le=1, description="Factor of multistep.")
    n_early_stopping: int | None = Field(
        None, ge=1, description="Stop after so many epochs without a better validation score."
    )
    max_hours: float | None = Field(None, gt=0, description="Stop after so many hours, as at the last epoch.")

    # Machine
    device: str = Field("auto", pattern=DEVICES, description="auto, cpu, cuda or cuda:N.")
    devices: int = Field(1, ge=1, description="Devices (on a CPU: processes) a machine.")
    num_nodes: int = Field(1, ge=1, description="Machines.")
    precision: Precision = Field(
        "auto", description="Arithmetic of training: 32 bits, bf16, or bf16 where the processor multiplies it (auto)."
    )
    engine: Literal["blocked", "dgl"] = Field("blocked", description="What passes messages; both give equal numbers.")
    num_workers: int = Field(0, ge=0, description="Processes that make batches; 0 makes them in the training process.")
    pin_memory: bool = Field(False, description="Copy batches to a GPU from pinned memory.")
    progress: bool = Field(True, description="Show progress bars.")
    resume: bool = Field(False, description="Continue the run in output_dir from its last whole epoch.")
    overwrite: bool = Field(False, description="Replace the run in output_dir.")

    def graph_settings(self) -> GraphSettings:
        """The part of the settings that decides the graphs."""
        return GraphSettings(
            neighbor_strategy=self.neighbor_strategy,
            cutoff=self.cutoff,
            max_neighbors=self.max_neighbors,
            atom_features=self.atom_features,
            as_jarvis=self.as_jarvis,
            use_canonize=self.use_canonize,
            triplet_cutoff=self.triplet_cutoff,
        )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, settings: Any) -> Any:
        """Null means the default; a choice may be given by its name alone, its settings without a name."""
        if not isinstance(settings, dict):
            return settings
        given = {key: value for key, value in settings.items() if value is not None}
        for section, default in DEFAULT_CHOICES.items():
            if isinstance(given.get(section), str):
                given[section] = {"name": given[section]}
            if isinstance(given.get(section), dict):
                given[section] = {"name": default, **given[section]}
        return cls._default_sizes(given)

    @classmethod
    def _default_sizes(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The settings given, with those of the backbone that depend on what is learned."""
        return given

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValidationError.from_exception_data(
                type(self).__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("contradiction", "{text}", {"text": text}),
                        loc=tuple(key.split(".")),
                        input=None,
                    )
                    for key, text in problems
                ],
            )
        return self

    def merges(self, device_type: str) -> bool:
        """Whether of atoms that are alike one is computed for all; pre-training tells them apart by hiding some."""
        return False

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Settings that contradict each other: the key to blame, and what is wrong with it."""
        yield from self._split_problems()
        yield from self._machine_problems()

    def _split_problems(self) -> Iterator[tuple[str, str]]:
        counts = {"train": self.n_train, "val": self.n_val, "test": self.n_test}
        ratios = {"train": self.train_ratio, "val": self.val_ratio, "test": self.test_ratio}
        for split, count in counts.items():
            if count is not None and ratios[split] is not None:
                yield f"n_{split}", f"gives the same split as --{split}_ratio; give one of the two"
            if self.ids_file is not None and (count is not None or ratios[split] is not None):
                key = f"n_{split}" if count is not None else f"{split}_ratio"
                yield key, "has no meaning with --ids_file, which says which id is in which split"
        total = sum(ratio for ratio in ratios.values() if ratio is not None)
        if total > 1 + 1e-9:
            yield "train_ratio", f"with --val_ratio and --test_ratio it adds up to {total:g}; at most 1 is possible"
        if self.split_strategy == "composition" and self.ids_file is not None:
            yield "split_strategy", "composition contradicts --ids_file; give one of the two"
        if self.split_strategy == "composition" and self.keep_data_order:
            yield "keep_data_order", "contradicts --split_strategy composition, which orders rows by formula"

    def _machine_problems(self) -> Iterator[tuple[str, str]]:
        if list(self.milestones) != sorted(set(self.milestones)):
            yield "milestones", f"must rise, got {','.join(map(str, self.milestones))}"
        if ":" in self.device and self.devices > 1:
            yield "devices", f"is {self.devices}, but --device {self.device} names one; use --device cuda"
        if self.engine == "dgl" and self.precision == "bf16":
            yield "precision", "bf16 needs --engine blocked; dgl computes in 32 bits"
        if self.resume and self.overwrite:
            yield "overwrite", "contradicts --resume; give one of the two"
