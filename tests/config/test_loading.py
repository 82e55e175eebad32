"""Files and command lines as settings, and the line a user reads where something is wrong."""

import json
import re
from pathlib import Path

import pytest

from crysmm.config import CGCNNConfig, CrysAEConfig, GATGNNConfig, PretrainingConfig, TrainingConfig, load_config
from crysmm.config.loading import options, override
from crysmm.errors import InputError


def written(folder: Path, settings: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def problems(path: Path | None, overrides: dict) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_config(TrainingConfig, path, overrides)
    return str(caught.value).splitlines()


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = written(tmp_path, {"epochs": 7, "batch_size": 3})
    config, notes = load_config(TrainingConfig, path, {"epochs": "9"})
    assert (config.epochs, config.batch_size, notes) == (9, 3, [])


def test_model_sections_are_merged_for_one_backbone(tmp_path: Path) -> None:
    path = written(tmp_path, {"model": {"name": "gatgnn", "heads": 2}})
    assert load_config(TrainingConfig, path, {"model": {"fc_layers": "1"}})[0].model.model_dump(
        include={"heads", "fc_layers"}
    ) == {
        "heads": 2,
        "fc_layers": 1,
    }


@pytest.mark.parametrize("section", ["gatgnn", {"name": "gatgnn"}])
def test_a_backbone_by_name_in_the_file_takes_settings_of_the_command_line(tmp_path: Path, section: object) -> None:
    assert (
        load_config(TrainingConfig, written(tmp_path, {"model": section}), {"model": {"heads": "2"}})[0].model.heads
        == 2
    )


def test_another_backbone_drops_the_file_s_section(tmp_path: Path) -> None:
    path = written(tmp_path, {"model": {"name": "gatgnn", "heads": 2}})
    config, _ = load_config(TrainingConfig, path, {"model": {"name": "alignn"}})
    assert config.model.name == "alignn"
    assert config.neighbor_strategy == "k-nearest"


def test_an_unnamed_section_is_the_default_backbone_s(tmp_path: Path) -> None:
    path = written(tmp_path, {"model": {"conv_layers": 5}})
    assert load_config(TrainingConfig, path, {"model": {"name": "cgcnn"}})[0].model.conv_layers == 5


@pytest.mark.parametrize(("given", "replaced"), [("n_val", "val_ratio"), ("val_ratio", "n_val")])
def test_a_count_replaces_the_file_s_ratio_and_the_other_way_round(tmp_path: Path, given: str, replaced: str) -> None:
    value = {"n_val": 5, "val_ratio": 0.2}
    config, _ = load_config(TrainingConfig, written(tmp_path, {replaced: value[replaced]}), {given: value[given]})
    assert dict(config)[given] == value[given]
    assert dict(config)[replaced] is None


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"epochs": 7}', encoding="utf-8-sig")
    assert load_config(TrainingConfig, path, {})[0].epochs == 7


def test_broken_json_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n  "epochs": 7,\n  "batch_size" 3\n}', encoding="utf-8")
    (line,) = problems(path, {})
    assert "line 3 column 16" in line
    assert str(path) in line


def test_yaml_is_read_as_json_is(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# settings\nepochs: 7\nmodel:\n  name: alignn  # deep\n  gcn_layers: 1\nlearning_rate: 4e-3\n")
    same = {"epochs": 7, "model": {"name": "alignn", "gcn_layers": 1}, "learning_rate": 0.004}
    assert load_config(TrainingConfig, path, {}) == load_config(TrainingConfig, written(tmp_path, same), {})


def test_a_key_of_a_merged_mapping_may_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: {<<: {name: gatgnn, heads: 4}, heads: 2}")
    assert load_config(TrainingConfig, path, {})[0].model.heads == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[1, 2]", "does not hold settings; expected JSON or YAML"),
        (b"- epochs: 3", "does not hold settings"),
        (b"epochs = 3", "does not hold settings; expected JSON or YAML"),
        (b"", "is empty; expected JSON or YAML"),
        (b"epochs: 3\n  model: [", "line 2 column 8"),
        (b"epochs: 3\n\tlimit: 2", "config.json is neither JSON nor YAML, line 2 column 1"),
        (b"x: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b"epohs: 3", "did you mean epochs?"),
        (b"1: 3", "1: unknown setting"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "No such file"),
        (b'{"epochs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "cannot be read: maximum recursion depth"),
        (b'{"epochs": ' + b"9" * 5000 + b"}", "cannot be read: Exceeds the limit"),
        (rb'{"target_key": "\ud800"}', r"holds '\ud800', half of a character"),
        (b'{"epochs": 3, "limit": 2, "epochs": 4}', "the key 'epochs' twice"),
        (b'{"model": {"name": "gatgnn", "heads": 2, "heads": 4}}', "the key 'heads' twice"),
        (b"epochs: 3\nlimit: 2\nepochs: 4", "the key 'epochs' twice"),
        (b"model: {name: gatgnn, heads: 2, 'heads': 4}", "the key 'heads' twice"),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    (line,) = problems(path, {})
    assert text in line
    assert line.count("--config") <= 1


@pytest.mark.parametrize("value", ["a" * 10_000, list(range(1000)), {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}])
def test_a_long_or_deep_value_is_shown_in_part(tmp_path: Path, value: object) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"criterion": value, "model": {"name": "alignn", "zero_inflated": value}}))
    for line in problems(path, {}):
        assert len(line) < 300


def test_a_folder_is_no_config_file(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, {})
    assert "directory" in line


def test_one_line_a_problem() -> None:
    lines = problems(
        None, {"epochs": "abc", "batch_size": "0", "optimizer": "adam", "device": "gpu", "strict": "maybe"}
    )
    assert sorted(lines) == [
        "--batch_size: expected at least 1, got '0'",
        "--device: expected auto, cpu, cuda or cuda:N, got 'gpu'",
        "--epochs: expected a whole number, got 'abc'",
        "--optimizer: expected 'adamw' or 'sgd', got 'adam'",
        "--strict: expected true or false, got 'maybe'",
    ]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"epohs": 3}, "epohs: unknown setting; did you mean epochs?"),
        ({"color": 3}, "color: unknown setting"),
        (
            {"model.conv_layers": 3},
            'model.conv_layers: written as on a command line; in a file write {"model": {"conv_layers": ...}}',
        ),
        ({"epochs": True}, "--epochs: expected a value other than true and false, got True"),
        ({"val_ratio": False}, "--val_ratio: expected a value other than true and false, got False"),
        (
            {"model": {"name": "cgcnn", "conv_layers": True}},
            "--model.conv_layers: expected a value other than true and false, got True",
        ),
        ({"target_key": True}, "--target_key: expected a value other than true and false, got True"),
        ({"output_dir": ""}, "--output_dir: expected a path, got ''"),
        ({"cache_dir": "a\0b"}, "--cache_dir: expected a path, got 'a\\x00b'"),
        (
            {"model": {"name": "gatgnn", "haeds": 2}},
            "model.haeds: unknown setting of gatgnn; did you mean model.heads?",
        ),
        ({"model": {"heads": 2}}, "--model.heads: a setting of gatgnn; --model.name is cgcnn"),
        ({"model": {"name": "cgcn"}}, "--model.name: expected 'cgcnn', 'crysxpp', 'gatgnn', 'alignn', got 'cgcn'"),
        ({"model": {"name": "gatgnn", "heads": 0}}, "--model.heads: expected at least 1, got 0"),
        ({"milestones": ["x"]}, "--milestones: expected a whole number, got 'x'"),
        ({"epochs": 1.5}, "--epochs: expected a whole number, got 1.5"),
        ({"learning_rate": "nan"}, "--learning_rate: expected a finite number, got 'nan'"),
        (
            {"head": {"name": "vanila"}},
            "--head.name: expected 'vanilla', 'distilled', 'multimodal', 'features', got 'vanila'",
        ),
        ({"n_val": 3, "val_ratio": 0.1}, "--n_val: gives the same split as --val_ratio; give one of the two"),
        ({"root_dir": 4}, "--root_dir: expected a path, got 4"),
        ({"target_key": 4}, "--target_key: expected text, got 4"),
        ({"milestones": 5}, "--milestones: expected a list, got 5"),
        ({"model": 3}, "--model: expected a name, or settings in braces, got 3"),
        ({"head": 3}, "--head: expected a name, or settings in braces, got 3"),
        ({"target": "a", "target_key": "b"}, "target and target_key are one setting; give one of the two"),
    ],
)
def test_what_is_said_of_a_setting(tmp_path: Path, settings: dict, line: str) -> None:
    assert problems(written(tmp_path, settings), {}) == [line]


def test_a_setting_without_effect_is_noted(tmp_path: Path) -> None:
    _, notes = load_config(TrainingConfig, written(tmp_path, {"use_canonize": False}), {})
    assert len(notes) == 1
    assert "as_jarvis" in notes[0]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"method": {"name": ["crysgnn"]}},
            "--method.name: expected 'crysae', 'crysgnn', 'decoys', 'imitation', got ['crysgnn']",
        ),
        ({"method": "crysgnn", "model": {"name": {}}}, "--model.name: expected 'cgcnn', "),
        (
            {"method": {"max_pairs": 100}},
            "--method.max_pairs: a setting of crysae and crysgnn; --method.name is decoys",
        ),
    ],
)
def test_what_is_said_of_a_setting_of_pretraining(tmp_path: Path, settings: dict, line: str) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        load_config(PretrainingConfig, written(tmp_path, settings), {})


def test_settings_override_others_as_options_do() -> None:
    config = TrainingConfig(model={"name": "alignn", "gcn_layers": 1}, n_val=5, epochs=7)
    changed = override(TrainingConfig, config, {"epochs": 9, "val_ratio": 0.2, "model": {"alignn_layers": 1}})
    expected = {"model": {"name": "alignn", "gcn_layers": 1, "alignn_layers": 1}, "val_ratio": 0.2, "epochs": 9}
    assert changed == TrainingConfig(**expected)
    assert override(TrainingConfig, config, {"model": "cgcnn"}).model == TrainingConfig().model
    assert override(TrainingConfig, config, {}) is config
    assert override(TrainingConfig, config.given(), {"epochs": 9}) == override(TrainingConfig, config, {"epochs": 9})
    assert override(TrainingConfig, None, {"target_key": ["a", "b"]}) == TrainingConfig(target_key="a,b")
    with pytest.raises(
        InputError, match="the settings are a str; expected a TrainingConfig or a dict; single settings"
    ):
        override(TrainingConfig, "settings.json", {})
    with pytest.raises(InputError, match="epohs: unknown setting; did you mean epochs"):
        override(TrainingConfig, config, {"epohs": 3})


def test_an_object_in_a_dict_keeps_what_was_given() -> None:
    wide = CGCNNConfig(node_features=128)
    changed = override(TrainingConfig, {"model": wide}, {"model": {"conv_layers": 2}})
    assert changed.model == CGCNNConfig(node_features=128, conv_layers=2)


def test_another_choice_drops_the_settings_of_the_first() -> None:
    """Drop them as those of another backbone, and those of a random split with a file of ids."""
    steps = {"scheduler": "multistep", "milestones": [3, 5], "gamma": 0.5, "optimizer": "sgd", "momentum": 0.5}
    assert override(TrainingConfig, steps, {"scheduler": "onecycle", "optimizer": "adamw"}) == TrainingConfig()
    assert override(TrainingConfig, steps, {"gamma": 0.2}).milestones == (3, 5)
    with pytest.raises(InputError, match="--milestones: has no effect with --scheduler none"):
        override(TrainingConfig, steps, {"scheduler": "none", "milestones": [4]})
    ordered = {"keep_data_order": True, "n_val": 5}
    assert override(TrainingConfig, ordered, {"ids_file": "ids.json"}) == TrainingConfig(ids_file="ids.json")


def test_a_section_given_as_an_object_keeps_its_choice() -> None:
    """Keep its name, which nobody set: it is a default of its class."""
    assert override(TrainingConfig, TrainingConfig(model=GATGNNConfig()), {"epochs": 5}).model == GATGNNConfig()
    assert override(PretrainingConfig, PretrainingConfig(method=CrysAEConfig()), {"epochs": 5}).method == CrysAEConfig()


def test_the_name_of_the_choice_that_is_made_already_changes_nothing() -> None:
    config = TrainingConfig(model={"name": "alignn", "hidden_features": 64})
    assert override(TrainingConfig, config, {"model": "alignn"}).model == config.model


def test_the_depth_that_a_method_decides_goes_with_it() -> None:
    assert override(PretrainingConfig, PretrainingConfig(method="crysgnn"), {"epochs": 5}).model.conv_layers == 5
    assert override(PretrainingConfig, PretrainingConfig(method="crysgnn"), {"method": "crysae"}).model.conv_layers == 3
    for depth in (4, 5):
        chosen = PretrainingConfig(method="crysgnn", model={"conv_layers": depth})
        assert override(PretrainingConfig, chosen, {"method": "crysae"}).model.conv_layers == depth
    reused = PretrainingConfig(method="decoys", model=PretrainingConfig(method="crysgnn").model)
    assert override(PretrainingConfig, reused, {"epochs": 5}).model.conv_layers == 5
    given = PretrainingConfig(method="crysgnn", model=CGCNNConfig(node_features=32))
    assert (
        given.model
        == override(PretrainingConfig, given, {"epochs": 5}).model
        == CGCNNConfig(node_features=32, conv_layers=5)
    )


def test_options_give_what_differs_from_the_defaults_of_the_method() -> None:
    """Name the depth where the method is not named, as in a command that fine-tunes."""
    for layers, with_method, alone in ((5, [], ["--model.conv_layers", "5"]), (3, ["--model.conv_layers", "3"], [])):
        config = PretrainingConfig(method="crysgnn", model={"name": "cgcnn", "conv_layers": layers})
        assert list(options(config, ("model", "method"))) == [*with_method, "--method", "crysgnn"]
        assert list(options(config, ("model",))) == alone
    config = PretrainingConfig(method={"name": "imitation", "teacher": "chgnet"}, output_dir=Path("-x"))
    expected = ["--method", "imitation", "--method.teacher", "chgnet", "--output_dir=-x"]
    assert list(options(config, ("method", "output_dir"))) == expected


def test_paths_in_the_home_are_found(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TrainingConfig(output_dir="~/runs/a", head={"name": "distilled", "teacher": "~/teacher"}, target_key="~")
    assert config.output_dir == tmp_path / "runs" / "a"
    assert config.teacher == str(tmp_path / "teacher")
    assert config.target_key == "~"
