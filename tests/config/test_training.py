"""The settings by themselves: defaults that depend on others, contradictions, and the way through JSON and back."""

import pytest
from pydantic import ValidationError

from crysmm.config import (
    CGCNNConfig,
    CrysAEConfig,
    CrysGNNConfig,
    GATGNNConfig,
    GraphSettings,
    PretrainingConfig,
    TrainingConfig,
)


@pytest.mark.parametrize(
    ("model", "strategy", "learning_rate"),
    [("cgcnn", "cgcnn", 4e-3), ("crysxpp", "cgcnn", 4e-3), ("gatgnn", "cgcnn", 1e-3), ("alignn", "k-nearest", 1e-3)],
)
def test_defaults_of_a_backbone(model: str, strategy: str, learning_rate: float) -> None:
    config = TrainingConfig(model={"name": model})
    assert (config.neighbor_strategy, config.learning_rate) == (strategy, learning_rate)


def test_a_given_value_wins_over_the_backbone_s() -> None:
    config = TrainingConfig(model={"name": "alignn"}, neighbor_strategy="radius", learning_rate=0.5)
    assert (config.neighbor_strategy, config.learning_rate) == ("radius", 0.5)


def test_documented_defaults() -> None:
    config = TrainingConfig()
    assert config.model.name == "cgcnn"
    assert (config.cutoff, config.max_neighbors, config.atom_features) == (8, 12, "cgcnn")
    assert (config.epochs, config.batch_size, config.weight_decay, config.random_seed) == (100, 64, 1e-5, 123)
    assert (config.optimizer, config.scheduler, config.criterion) == ("adamw", "onecycle", "l1")
    assert (config.train_ratio, config.val_ratio, config.test_ratio) == (None, 0.1, 0.1)
    assert config.keep_data_order is False
    assert config.standardize_target is True


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_train": 40, "n_val": 5, "n_test": 5},
        {"ids_file": "ids_train_val_test.json", "model": {"name": "gatgnn", "heads": 2}},
        {"scheduler": "multistep", "milestones": [3, 5], "precision": 32, "target": "gap", "id_tag": "material_id"},
    ],
)
def test_json_and_back(settings: dict) -> None:
    config = TrainingConfig(**settings)
    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


def test_null_means_the_default() -> None:
    nulls = {"learning_rate": None, "val_ratio": None, "neighbor_strategy": None, "random_seed": None}
    assert TrainingConfig(**nulls) == TrainingConfig()


def test_counts_leave_no_ratio_behind() -> None:
    config = TrainingConfig(n_val=5)
    assert (config.val_ratio, config.test_ratio) == (None, 0.1)


@pytest.mark.parametrize("model", ["gatgnn", {"name": "gatgnn"}])
def test_backbone_by_name(model: object) -> None:
    assert TrainingConfig(model=model).model.name == "gatgnn"


def test_backbone_settings_without_a_name_are_the_default_backbone_s() -> None:
    assert TrainingConfig(model={"conv_layers": 5}).model.conv_layers == 5


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainingConfig().epochs = 3  # type: ignore[misc]


def test_graph_settings_are_the_run_s() -> None:
    settings = {"neighbor_strategy": "k-nearest", "cutoff": 5, "max_neighbors": 7, "atom_features": "basic"}
    expected = GraphSettings(**settings, as_jarvis=True, use_canonize=False)
    assert TrainingConfig(**settings, as_jarvis=True, use_canonize=False).graph_settings() == expected


@pytest.mark.parametrize(
    ("settings", "classes"),
    [({}, False), ({"model": {"classification": True}}, True), ({"classification_threshold": 0.0}, True)],
)
def test_classification_is_asked_for_in_two_ways(settings: dict, classes: bool) -> None:
    assert TrainingConfig(**settings).is_classification is classes


@pytest.mark.parametrize(
    ("settings", "key", "text"),
    [
        ({"n_val": 5, "val_ratio": 0.2}, "n_val", "--val_ratio"),
        ({"n_train": 5, "train_ratio": 0.2}, "n_train", "--train_ratio"),
        ({"train_ratio": 0.9}, "train_ratio", "adds up to 1.1"),
        ({"ids_file": "ids.json", "n_test": 3}, "n_test", "--ids_file"),
        ({"ids_file": "ids.json", "val_ratio": 0.3}, "val_ratio", "--ids_file"),
        ({"ids_file": "ids.json", "split_strategy": "composition"}, "split_strategy", "--ids_file"),
        ({"keep_data_order": True, "split_strategy": "composition"}, "keep_data_order", "composition"),
        ({"as_jarvis": True}, "as_jarvis", "k-nearest"),
        ({"classification_threshold": 1.0, "target_transform": "log10"}, "target_transform", "classes"),
        ({"classification_threshold": 1.0, "model": {"link": "log"}}, "model.link", "classes"),
        ({"target_transform": "log10", "model": {"link": "logit"}}, "model.link", "--target_transform"),
        ({"target_multiplication_factor": 0}, "target_multiplication_factor", "0"),
        ({"target_weights": [1, 2], "classification_threshold": 1}, "target_weights", "no effect on classes"),
        ({"keep_data_order": True, "ids_file": "ids.json"}, "keep_data_order", "--ids_file"),
        ({"target_min": 0, "classification_threshold": 1}, "target_min", "no effect on classes"),
        ({"scheduler": "multistep", "milestones": [20, 10]}, "milestones", "20,10"),
        ({"milestones": [10, 20]}, "milestones", "no effect with --scheduler onecycle; it is a setting of multistep"),
        ({"gamma": 0.5}, "gamma", "no effect with --scheduler onecycle"),
        ({"warmup_fraction": 1.0}, "warmup_fraction", "less than 1"),
        ({"scheduler": "none", "warmup_fraction": 0.1}, "warmup_fraction", "it is a setting of onecycle"),
        ({"momentum": 0.5}, "momentum", "no effect with --optimizer adamw; it is a setting of sgd"),
        ({"device": "cuda:1", "devices": 2}, "devices", "--device cuda:1"),
        ({"engine": "dgl", "precision": "bf16"}, "precision", "--engine blocked"),
        ({"resume": True, "overwrite": True}, "overwrite", "--resume"),
    ],
)
def test_contradictions_name_both_settings(settings: dict, key: str, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingConfig(**settings)
    (problem,) = (each for each in caught.value.errors() if each["type"] != "default_factory_not_called")
    assert ".".join(problem["loc"]) == key
    assert text in problem["msg"]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_of_targets_are_positive(weight: float) -> None:
    with pytest.raises(ValidationError, match="target_weights"):
        TrainingConfig(target_weights=[1, weight])


def test_a_time_limit_is_finite() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        TrainingConfig(max_hours=float("inf"))


def test_every_setting_has_a_sentence() -> None:
    for name, field in TrainingConfig.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", ")")), name


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({"method": "crysgnn"}, 5),
        ({}, 3),
        ({"method": "crysgnn", "model": "gatgnn"}, 5),
        ({"method": "crysgnn", "model": {"conv_layers": 2}}, 2),
        ({"method": {"name": "crysae"}}, 3),
        ({"method": CrysGNNConfig()}, 5),
        ({"method": CrysGNNConfig(), "model": CGCNNConfig()}, 5),
        ({"method": CrysGNNConfig(), "model": CGCNNConfig(conv_layers=3)}, 3),
    ],
)
def test_pretraining_has_its_method_s_depth(settings: dict, layers: int) -> None:
    assert PretrainingConfig(**settings).model.conv_layers == layers


def test_defaults_of_the_methods_are_the_published_ones() -> None:
    method = CrysGNNConfig()
    assert method.temperature == 0.07
    assert method.feature_weight == method.connectivity_weight == 0.25
    assert method.space_group_weight == method.crystal_system_weight == 0.25
    for kind in (method, CrysAEConfig()):
        assert kind.mask_ratio == kind.distance_noise == 0


def test_pretraining_of_alignn_has_no_such_depth() -> None:
    assert PretrainingConfig(method="crysgnn", model="alignn").model.alignn_layers == 4


@pytest.mark.parametrize("model", [{"link": "log"}, {"classification": True}])
def test_pretraining_has_no_target(model: dict) -> None:
    with pytest.raises(ValidationError, match="has no effect without a target"):
        PretrainingConfig(model=model)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TrainingConfig(epohs=3), "unknown setting; did you mean epochs?"),
        (lambda: TrainingConfig(lr=3), "unknown setting; did you mean learning_rate?"),
        (lambda: TrainingConfig(xyzzy=3), "unknown setting ["),
        (lambda: TrainingConfig(model={"name": "gatgnn", "haeds": 3}), "unknown setting; did you mean heads?"),
        (lambda: GATGNNConfig(haeds=3), "unknown setting; did you mean heads?"),
        (lambda: GraphSettings(cutof=3), "unknown setting; did you mean cutoff?"),
        (lambda: PretrainingConfig(epohs=3), "unknown setting; did you mean epochs?"),
        (lambda: TrainingConfig(epohs=3, batch_size=0), "greater than or equal to 1"),
    ],
)
def test_an_unknown_name_gets_the_nearest_in_python(make, text: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make()
    assert text in str(refused.value)
