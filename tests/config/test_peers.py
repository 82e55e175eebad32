"""Config files of ALIGNN (2023 to 2026) and of CrysMMNet."""

import json
from pathlib import Path

import pytest

from crysmm.config import ALIGNNConfig, TrainingConfig, load_config
from crysmm.errors import InputError

SHARED = {
    "version": "112bbedebdaecf59fb18e11c929080fb2f358246",
    "dataset": "user_data",
    "target": "target",
    "atom_features": "cgcnn",
    "neighbor_strategy": "k-nearest",
    "id_tag": "jid",
    "random_seed": 321,
    "classification_threshold": None,
    "n_train": None,
    "n_val": None,
    "n_test": None,
    "train_ratio": 0.8,
    "val_ratio": 0.1,
    "test_ratio": 0.1,
    "target_multiplication_factor": None,
    "epochs": 3,
    "batch_size": 2,
    "weight_decay": 1e-05,
    "learning_rate": 0.001,
    "filename": "sample",
    "warmup_steps": 2000,
    "criterion": "mse",
    "optimizer": "adamw",
    "scheduler": "onecycle",
    "pin_memory": False,
    "save_dataloader": False,
    "write_checkpoint": True,
    "write_predictions": True,
    "store_outputs": True,
    "progress": True,
    "log_tensorboard": False,
    "standard_scalar_and_pca": False,
    "use_canonize": True,
    "num_workers": 0,
    "cutoff": 8.0,
    "max_neighbors": 12,
    "keep_data_order": True,
    "n_early_stopping": None,
    "output_dir": "temp",
}
MODEL = {
    "name": "alignn",
    "alignn_layers": 3,
    "gcn_layers": 2,
    "atom_input_features": 92,
    "edge_input_features": 80,
    "triplet_input_features": 40,
    "embedding_features": 64,
    "hidden_features": 128,
    "output_features": 1,
    "link": "identity",
    "zero_inflated": False,
    "classification": False,
}
ATOMWISE = {**MODEL, "name": "alignn_atomwise", "calculate_gradient": False, "gradwise_weight": 1.0, "lg_on_fly": True}


def load(folder: Path, settings: dict, overrides: dict | None = None) -> tuple[TrainingConfig, str]:
    path = folder / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    config, notes = load_config(TrainingConfig, path, overrides or {})
    return config, "\n".join(notes)


def test_alignn_s_keys_keep_their_meaning(tmp_path: Path) -> None:
    config, notes = load(tmp_path, {**SHARED, "model": MODEL})
    assert (config.target_key, config.id_key, config.random_seed) == ("target", "jid", 321)
    assert (config.epochs, config.batch_size, config.learning_rate, config.weight_decay) == (3, 2, 1e-3, 1e-5)
    assert (config.criterion, config.keep_data_order, config.standardize_target) == ("mse", True, False)
    assert config.model == ALIGNNConfig(atom_input_features=92, alignn_layers=3, gcn_layers=2, hidden_features=128)
    assert "left out" not in notes


def test_one_line_names_every_key_without_a_meaning(tmp_path: Path) -> None:
    _, notes = load(tmp_path, {**SHARED, "model": ATOMWISE})
    (line,) = [line for line in notes.splitlines() if "no effect here" in line]
    for key in ("version", "warmup_steps", "filename", "model.calculate_gradient", "model.lg_on_fly"):
        assert f" {key}" in line
    assert "epochs" not in line


def test_crysmmnet_s_counts_without_ratios(tmp_path: Path) -> None:
    ratios = {"train_ratio": None, "val_ratio": None, "test_ratio": None}
    config, _ = load(tmp_path, {**SHARED, **ratios, "n_train": 40, "n_val": 5, "n_test": 5, "model": MODEL})
    assert (config.n_train, config.n_val, config.n_test, config.train_ratio) == (40, 5, 5, None)


def test_counts_win_over_ratios_as_in_alignn(tmp_path: Path) -> None:
    config, _ = load(tmp_path, {**SHARED, "n_train": 40, "n_val": 5, "model": MODEL})
    assert (config.n_train, config.train_ratio, config.n_val, config.val_ratio) == (40, None, 5, None)


def test_left_out_keys_with_another_default_are_named_in_one_line(tmp_path: Path) -> None:
    settings = {"version": "NA", "dataset": "user_data", "epochs": 5, "model": {"name": "alignn"}}
    config, notes = load(tmp_path, settings, {"batch_size": "4", "learning_rate": "0.01"})
    (line,) = [line for line in notes.splitlines() if "left out" in line]
    for key in ("keep_data_order", "criterion", "weight_decay", "cutoff", "standardize_target"):
        assert f" {key} (theirs: " in line
    assert "epochs" not in line
    assert "learning_rate" not in line
    assert config.criterion == "l1"


def test_our_own_files_are_not_commented_on(tmp_path: Path) -> None:
    assert load(tmp_path, json.loads(TrainingConfig(epochs=3).model_dump_json()))[1] == ""


@pytest.mark.parametrize("name", ["alignn_atomwise", "alignn_atomwise_pure", "alignn_layernorm"])
def test_later_names_are_alignn_with_layer_norm(tmp_path: Path, name: str) -> None:
    config, _ = load(tmp_path, {**SHARED, "model": {**ATOMWISE, "name": name}})
    assert config.model == ALIGNNConfig(
        atom_input_features=92, alignn_layers=3, gcn_layers=2, hidden_features=128, norm="layer"
    )


def test_a_later_name_on_the_command_line() -> None:
    config, _ = load_config(TrainingConfig, None, {"model": {"name": "alignn_atomwise", "gcn_layers": "1"}})
    assert config.model == ALIGNNConfig(gcn_layers=1, norm="layer")


def test_a_plain_atomwise_section_loads_and_tells_its_other_widths(tmp_path: Path) -> None:
    config, notes = load(tmp_path, {"model": {"name": "alignn_atomwise"}})
    assert config.model == ALIGNNConfig(norm="layer")
    assert "model.hidden_features (theirs: 64)" in notes


@pytest.mark.parametrize(
    "weights",
    [
        {"calculate_gradient": True},
        {"gradwise_weight": 1.0},
        {"calculate_gradient": True, "gradwise_weight": 0, "stresswise_weight": 0.1},
    ],
)
def test_forces_are_refused(tmp_path: Path, weights: dict) -> None:
    with pytest.raises(InputError, match="forces and stresses are not learned here"):
        load(tmp_path, {"model": {"name": "alignn_atomwise", **weights}})


@pytest.mark.parametrize(
    "weights",
    [{"calculate_gradient": True, "gradwise_weight": 0}, {"calculate_gradient": False, "gradwise_weight": 1.0}],
)
def test_properties_alone_are_not_refused(tmp_path: Path, weights: dict) -> None:
    assert load(tmp_path, {"model": {"name": "alignn_atomwise", **weights}})[0].model.name == "alignn"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"criterion": "poisson"}, "criterion: 'poisson'"),
        ({"criterion": "zig"}, "criterion: 'zig'"),
        ({"neighbor_strategy": "voronoi"}, "neighbor_strategy: 'voronoi'"),
        ({"dtype": "float64"}, "dtype: 'float64'"),
        ({"model": {**ATOMWISE, "atomwise_weight": 1.0}}, "model.atomwise_weight"),
        ({"model": {**MODEL, "extra_features": 3}}, "model.extra_features"),
        ({"model": {**MODEL, "zero_inflated": True}}, "model.zero_inflated"),
        (
            {"model": {**MODEL, "name": "icgcnn"}},
            "--model.name: expected 'cgcnn', 'crysxpp', 'gatgnn', 'alignn', got 'icgcnn'",
        ),
        ({"warmup_step": 3}, "warmup_step: unknown setting"),
    ],
)
def test_what_is_not_offered_is_refused(tmp_path: Path, change: dict, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, {**SHARED, "model": MODEL, **change})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "max_neighbors", "ours"),
    [
        ("radius_graph", 12, "radius"),
        ("radius_graph_jarvis", 12, "radius"),
        ("pure_torch", 12, "k-nearest"),
        ("pure_torch", None, "radius"),
    ],
)
def test_neighbor_strategies_of_later_releases(tmp_path: Path, theirs: str, max_neighbors: int, ours: str) -> None:
    settings = {**SHARED, "neighbor_strategy": theirs, "max_neighbors": max_neighbors, "model": ATOMWISE}
    config, notes = load(tmp_path, settings)
    assert config.neighbor_strategy == ours
    assert f"neighbor_strategy {theirs} is read as {ours}" in notes


@pytest.mark.parametrize(("use_amp", "precision"), [(True, "bf16"), (False, "32")])
def test_mixed_precision(tmp_path: Path, use_amp: bool, precision: str) -> None:
    assert load(tmp_path, {**SHARED, "use_amp": use_amp, "model": MODEL})[0].precision == precision


def test_cgcnn_of_early_alignn(tmp_path: Path) -> None:
    model = {"name": "cgcnn", "conv_layers": 3, "atom_input_features": 92, "edge_features": 16, "node_features": 32}
    model |= {"fc_layers": 1, "fc_features": 64, "output_features": 1, "link": "identity", "zero_inflated": False}
    settings = {key: value for key, value in SHARED.items() if key != "neighbor_strategy"}
    config, notes = load(tmp_path, {**settings, "model": model})
    assert config.model.model_dump(include={"name", "edge_features", "node_features", "fc_features"}) == {
        "name": "cgcnn",
        "edge_features": 16,
        "node_features": 32,
        "fc_features": 64,
    }
    assert "neighbor_strategy (theirs: k-nearest)" in notes
