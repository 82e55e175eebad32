"""Settings shared by training and pre-training: input, model, graphs, split, training loop and machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from crysmm.config.base import Settings
from crysmm.config.graph import (
    AsJarvis,
    AtomFeatureSet,
    Cutoff,
    GraphSettings,
    MaxNeighbors,
    NeighborStrategy,
    TripletCutoff,
    UseCanonize,
)
from crysmm.config.models import CGCNNConfig, ModelConfig

Engine = Literal["blocked", "dgl"]
FileFormat = Literal["poscar", "cif", "xyz", "pdb", "json", "vasprun", "outcar"]
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
"""Sections of settings that start with a choice by name, and the default choice of each."""
ONLY_WITH = {
    "momentum": ("optimizer", "sgd"),
    "warmup_fraction": ("scheduler", "onecycle"),
    "milestones": ("scheduler", "multistep"),
    "gamma": ("scheduler", "multistep"),
}
"""Settings of one choice alone, by the setting that makes it."""
DEFAULT_RATIO = 0.1
DEVICES = r"^(auto|cpu|cuda(:\d+)?)$"


def ratio_unless_given(split: str, ratio: float) -> Callable[[dict[str, Any]], float | None]:
    """Return a default factory: ``ratio``, or None if a count or a file of ids decides the split."""
    return lambda settings: ratio if settings[f"n_{split}"] is None and settings["ids_file"] is None else None


def given_in(section: Any) -> dict[str, Any]:
    """Return the settings that were given in a section, with the name of its choice."""
    return {"name": section.name, **section.model_dump(exclude_unset=True)}


class RunConfig(Settings):
    """Settings shared by training and pre-training, under ALIGNN's names where ALIGNN has the setting.

    Instances are frozen, unknown names are refused, and defaults that depend on other settings are filled in.

    Raises:
        pydantic.ValidationError: A value is out of range, or two settings contradict each other.
            ``crysmm.config.load_config`` turns it into an ``InputError`` with one line per problem.
    """

    # Input and output
    root_dir: Path | None = Field(
        None,
        description="Folder with structures and id_prop.csv, or one file of many (.jsonl, .json, .xyz, .csv, ...).",
    )
    output_dir: Path | None = Field(None, description="Folder to write the run to; it must not hold another run.")
    file_format: FileFormat | None = Field(
        None, description="Format of the structure files; by default detected for each file."
    )
    id_key: str | None = Field(
        None,
        validation_alias=AliasChoices("id_key", "id_tag"),
        description="Key of the ids in the rows of a JSON file; by default jid, id or material_id.",
    )
    limit: int | None = Field(None, ge=1, description="Read only this many rows, from the beginning.")
    strict: bool = Field(False, description="Stop at the first row that cannot be read, instead of skipping it.")
    cache_dir: Path | None = Field(
        None, description="Folder for stored graphs; by default crysmm in the user's cache folder."
    )
    jobs: int | None = Field(
        None, ge=1, description="Number of processes that read structures; by default one per core, one up to 500 rows."
    )

    # Model
    model: ModelConfig = Field(CGCNNConfig(), description="Backbone, chosen by model.name, and its settings.")
    init_from: Path | None = Field(
        None, description="Model folder, or name of a shipped model, whose weights training starts from (fine-tuning)."
    )

    # Graph
    neighbor_strategy: NeighborStrategy = Field(
        default_factory=lambda settings: DEFAULT_STRATEGY[settings["model"].name]
    )
    cutoff: Cutoff = 8.0
    max_neighbors: MaxNeighbors = 12
    atom_features: AtomFeatureSet = "cgcnn"
    as_jarvis: AsJarvis = False
    use_canonize: UseCanonize = True
    triplet_cutoff: TripletCutoff = None

    # Split
    random_seed: int = Field(
        123, ge=0, lt=2**32, description="Seed of the split, the initial weights and the order of the rows."
    )
    ids_file: Path | None = Field(
        None, description="File ids_train_val_test.json that lists the ids in each split; replaces a random split."
    )
    split_strategy: Literal["random", "composition"] = Field(
        "random",
        description="Split the rows independently (random), or keep all rows of a formula in one split (composition).",
    )
    keep_data_order: bool = Field(False, description="Split in the order of the rows instead of shuffling them first.")
    n_train: Annotated[int, Field(ge=1)] | None = Field(None, description="Number of crystals in the training split.")
    n_val: Count | None = Field(None, description="Number of crystals in the validation split.")
    n_test: Count | None = Field(None, description="Number of crystals in the test split.")
    train_ratio: Ratio | None = Field(
        None, description="Fraction of crystals in the training split; by default all that the other splits leave."
    )
    val_ratio: Ratio | None = Field(
        default_factory=ratio_unless_given("val", DEFAULT_RATIO),
        description="Fraction of crystals in the validation split (0.1).",
    )
    test_ratio: Ratio | None = Field(
        default_factory=ratio_unless_given("test", DEFAULT_RATIO),
        description="Fraction of crystals in the test split (0.1).",
    )

    # Training
    epochs: int = Field(100, ge=1, le=1_000_000, description="Number of passes over the training split.")
    batch_size: int = Field(64, ge=1, description="Number of crystals per training step, over all devices together.")
    max_triplets: int | None = Field(
        None,
        ge=1,
        description="Maximum number of bond pairs (edges of the line graph) in a batch, counting symmetry-equivalent "
        "ones; a batch that would exceed it holds fewer crystals.",
    )
    learning_rate: float = Field(
        default_factory=lambda settings: DEFAULT_LEARNING_RATE[settings["model"].name],
        gt=0,
        allow_inf_nan=False,
        description="Maximum learning rate: by default 4e-3 for cgcnn and crysxpp, 1e-3 for the other backbones.",
    )
    weight_decay: float = Field(1e-5, ge=0, allow_inf_nan=False, description="Weight decay of the optimizer.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="Optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    scheduler: Literal["onecycle", "multistep", "none"] = Field("onecycle", description="Learning rate schedule.")
    warmup_fraction: float = Field(
        0.3, ge=0, lt=1, description="Fraction of the run during which onecycle raises the learning rate."
    )
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (100,), description="Epochs after which multistep multiplies the learning rate by gamma."
    )
    gamma: float = Field(0.1, gt=0, le=1, description="Factor by which multistep multiplies the learning rate.")
    n_early_stopping: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation score."
    )
    max_hours: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Stop after this many hours and finish as after the last epoch."
    )

    # Machine
    device: str = Field("auto", pattern=DEVICES, description="Device to compute on: auto, cpu, cuda or cuda:N.")
    devices: int = Field(1, ge=1, description="Number of devices (on a CPU: processes) per machine.")
    num_nodes: int = Field(1, ge=1, description="Number of machines, where neither torchrun nor srun sets it.")
    precision: Precision = Field(
        "auto",
        description="Arithmetic during training: 32 bits, bf16, or bf16 if the hardware multiplies it natively (auto).",
    )
    engine: Engine = Field(
        "blocked",
        description="Implementation of message passing; both give the same numbers up to rounding, and dgl computes "
        "every one of symmetry-equivalent atoms.",
    )
    num_workers: int = Field(
        0, ge=0, description="Number of processes that prepare batches; 0 prepares them in the training process."
    )
    pin_memory: bool = Field(False, description="Copy batches to a GPU from pinned memory.")
    progress: bool = Field(True, description="Show progress bars.")
    resume: bool = Field(False, description="Continue the run in output_dir from its last complete epoch.")
    overwrite: bool = Field(False, description="Replace the run in output_dir.")

    def given(self) -> dict[str, Any]:
        """Return the settings that were given, from which others can be made; defaults may depend on these."""
        given = self.model_dump(exclude_unset=True)
        for section in DEFAULT_CHOICES.keys() & given.keys():
            given[section] = given_in(getattr(self, section))
        return given

    def graph_settings(self) -> GraphSettings:
        """Return the settings that decide the graphs."""
        return GraphSettings(**self.model_dump(include=set(GraphSettings.model_fields)))

    @property
    def network(self) -> str:
        """Name of the backbone."""
        return self.model.name

    @property
    def has_graph_network(self) -> bool:
        """False if something else takes the place of the graph network."""
        return True

    @property
    def teacher(self) -> str | None:
        """Name or place of the teacher that the network imitates, or None."""
        return None

    def models_needed(self) -> list[Path | str]:
        """Return the models that a run starts from and is distilled from, as folders or names."""
        return [name for name in (self.init_from, self.teacher) if name is not None]

    @property
    def has_several_deltas(self) -> bool:
        """True if networks are trained with several weights of the labels, of which the best is kept."""
        return False

    @property
    def merges_equivalent(self) -> bool:
        """True if symmetry-equivalent atoms are computed once."""
        return False  # Pre-training hides single atoms, which breaks the symmetry.

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, settings: Any) -> Any:
        """Drop nulls, which mean the default, and complete sections that are a mere name or have none."""
        if not isinstance(settings, dict):
            return settings
        given = {key: value for key, value in settings.items() if value is not None}
        for section, default in DEFAULT_CHOICES.items():
            if isinstance(given.get(section), str):
                given[section] = {"name": given[section]}
            if isinstance(given.get(section), dict):
                given[section] = {"name": default, **given[section]}
        return given

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("contradiction", "{text}", {"text": text}),
                loc=tuple(key.split(".")),
                input=None,
            )
            for key, text in self._contradictions()
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Yield settings that contradict each other: the key to blame, and the problem with it."""
        counts = {"train": self.n_train, "val": self.n_val, "test": self.n_test}
        ratios = {"train": self.train_ratio, "val": self.val_ratio, "test": self.test_ratio}
        for split, count in counts.items():
            if count is not None and ratios[split] is not None:
                yield f"n_{split}", f"gives the same split as --{split}_ratio; give one of the two"
            if self.ids_file is not None and (count is not None or ratios[split] is not None):
                key = f"n_{split}" if count is not None else f"{split}_ratio"
                yield key, "has no effect with --ids_file, which lists the ids in each split"
        total = sum(ratio for ratio in ratios.values() if ratio is not None)
        if total > 1 + 1e-9:  # 0.8 + 0.1 + 0.1 is not exactly 1 in binary
            yield "train_ratio", f"adds up to {total:g} with --val_ratio and --test_ratio; expected at most 1"
        if self.split_strategy == "composition" and self.ids_file is not None:
            yield "split_strategy", "composition contradicts --ids_file; give one of the two"
        if self.split_strategy == "composition" and self.keep_data_order:
            yield "keep_data_order", "contradicts --split_strategy composition, which orders rows by formula"
        if self.keep_data_order and self.ids_file is not None:
            yield "keep_data_order", "has no effect with --ids_file, which lists the ids in each split"
        for key, (choice, name) in ONLY_WITH.items():
            if getattr(self, key) != type(self).model_fields[key].default and getattr(self, choice) != name:
                yield key, f"has no effect with --{choice} {getattr(self, choice)}; it is a setting of {name}"
        if list(self.milestones) != sorted(set(self.milestones)):
            yield "milestones", f"must increase, got {','.join(map(str, self.milestones))}"
        if ":" in self.device and self.devices > 1:
            yield "devices", f"is {self.devices}, but --device {self.device} names one device; use --device cuda"
        if self.engine == "dgl" and self.precision == "bf16":
            yield "precision", "bf16 needs --engine blocked; dgl computes in 32 bits"
        if self.resume and self.overwrite:
            yield "overwrite", "contradicts --resume; give one of the two"
