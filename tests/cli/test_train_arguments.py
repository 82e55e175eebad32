"""``crysmm train``: every setting an option, and nothing but the command line and the file decides."""

import json
import re
from pathlib import Path

import pytest

from crysmm.cli.main import main
from crysmm.config import GATGNNConfig, TrainingConfig
from crysmm.config.run import ONLY_WITH

FOLDERS = ["--root_dir", "structures", "--output_dir", "run"]


def settings(trained: list[TrainingConfig], *argv: str) -> TrainingConfig:
    assert main(["train", *FOLDERS, *argv]) == 0
    return trained[-1]


def other_value(name: str, default: object) -> tuple[str, object]:
    """A value that is not the default, as typed and as it must arrive."""
    chosen = {
        "file_format": "cif", "neighbor_strategy": "radius", "atom_features": "basic", "target_transform": "log10",
        "split_strategy": "composition", "optimizer": "sgd", "scheduler": "multistep", "criterion": "mse",
        "device": "cuda:0", "precision": "32", "engine": "dgl",
    }  # fmt: skip
    annotation = str(TrainingConfig.model_fields[name].annotation)
    if name in chosen:
        return chosen[name], chosen[name]
    if name == "milestones":
        return "10,20", (10, 20)
    if name == "unit":
        return "GPa", ("GPa",)
    if name == "target_weights":
        return "1,0.5", (1, 0.5)
    if isinstance(default, bool):
        return str(not default).lower(), not default
    if "float" in annotation:
        return "0.75", 0.75
    if "int" in annotation:
        return "17", 17
    return ("some/path", Path("some/path")) if "Path" in annotation else ("text", "text")


@pytest.mark.parametrize(
    "name", [name for name in TrainingConfig.model_fields if name not in ("model", "head", "root_dir", "output_dir")]
)
def test_every_setting_is_an_option(trained: list[TrainingConfig], name: str) -> None:
    typed, expected = other_value(name, dict(TrainingConfig())[name])
    needs = {
        "as_jarvis": ["--model", "alignn"],
        "freeze_epochs": ["--init_from", "a/model"],
        **{key: [f"--{choice}", value] for key, (choice, value) in ONLY_WITH.items()},
    }
    config = settings(trained, f"--{name}", typed, *needs.get(name, []))
    assert dict(config)[name] == expected
    assert dict(config)[name] != dict(TrainingConfig())[name]


def test_the_documented_line(trained: list[TrainingConfig]) -> None:
    config = settings(trained, *["--epochs", "50", "--model.name", "gatgnn", "--model.heads", "4", "--limit", "500"])
    assert (config.epochs, config.limit, config.model) == (50, 500, GATGNNConfig(heads=4))
    assert (config.root_dir, config.output_dir) == (Path("structures"), Path("run"))


def test_model_alone_is_its_name(trained: list[TrainingConfig]) -> None:
    assert settings(trained, "--model", "gatgnn", "--model.heads", "2").model == GATGNNConfig(heads=2)


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        ([], False),
        (["--strict"], True),
        (["--strict", "true"], True),
        (["--strict=false"], False),
        (["--strict", "0"], False),
    ],
)
def test_switches_stand_alone_or_take_a_value(trained: list[TrainingConfig], argv: list[str], value: bool) -> None:
    assert settings(trained, *argv, "--epochs", "3").strict is value


def test_hyphens_are_underscores_in_options_alone(trained: list[TrainingConfig]) -> None:
    config = settings(
        trained, "--target-key=band-gap", "--batch-size", "3", "--id-key", "my-id", "--model.conv-layers=2"
    )
    assert (config.target_key, config.batch_size, config.id_key) == ("band-gap", 3, "my-id")
    assert config.model.conv_layers == 2


def test_help_begins_with_the_settings_that_most_need(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    options = re.findall(r"^  (--[\w.]+)", text, flags=re.MULTILINE)
    first = ["--print_config", "--config", "--root_dir", "--output_dir", "--model.name", "--init_from", "--epochs"]
    assert options[: len(first)] == first
    assert options.index("--device") < options.index("--cutoff") < options.index("--model.link")


def test_aliases(trained: list[TrainingConfig]) -> None:
    config = settings(trained, "--target", "gap", "--id_tag", "material_id")
    assert (config.target_key, config.id_key) == ("gap", "material_id")


@pytest.mark.parametrize("option", ["--config", "--config_name"])
def test_the_command_line_wins_over_the_file(trained: list[TrainingConfig], tmp_path: Path, option: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"epochs": 7, "batch_size": 3, "model": {"name": "alignn", "gcn_layers": 1}}))
    config = settings(trained, option, str(path), "--epochs", "9", "--model", "cgcnn")
    assert (config.epochs, config.batch_size, config.model.name) == (9, 3, "cgcnn")


def test_a_number_of_features_is_not_passed_over(trained: list[TrainingConfig]) -> None:
    assert settings(trained, "--model.atom_input_features", "5").model.atom_input_features == 5


def test_none_takes_a_value_of_the_file_back(trained: list[TrainingConfig], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"limit": 7}))
    assert settings(trained, "--config", str(path), "--limit", "None").limit is None


def test_text_that_looks_like_json_stays_text(trained: list[TrainingConfig]) -> None:
    config = settings(trained, "--target_key", "a,b", "--id_key", "[1, 2]", "--cache_dir", 'a b,"c')
    assert (config.target_key, config.id_key, config.cache_dir) == ("a,b", "[1, 2]", Path('a b,"c'))


def test_the_environment_changes_nothing(trained: list[TrainingConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = settings(trained)
    for name in TrainingConfig.model_fields:
        for variable in (name, name.upper(), f"CRYSMM_{name.upper()}", f"jv_{name}", f"{name}__name"):
            monkeypatch.setenv(variable, "7")
    assert settings(trained) == plain


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--epohs", "3"], "unknown argument --epohs; did you mean --epochs?"),
        (["--epo", "3"], "unknown argument --epo"),
        (["--lr", "3"], "unknown argument --lr; did you mean --learning_rate?"),
        (["--seed", "3"], "unknown argument --seed; did you mean --random_seed?"),
        (["--xyzzy", "3"], "unknown argument --xyzzy (see"),
        (["--model.haeds=3"], "unknown argument --model.haeds; did you mean --model.heads?"),
        (["--milestones", "10", "20"], "unknown argument 20"),
        (["--epochs"], "expected one argument"),
    ],
)
def test_wrong_options(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["train", *argv])
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert text in shown
    assert len(shown.splitlines()) <= 2


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--epochs", "abc"], "--epochs: expected a whole number, got 'abc'"),
        (["--model", "gat"], "--model.name: expected 'cgcnn', 'crysxpp', 'gatgnn', 'alignn', got 'gat'"),
        (["--milestones", "[1"], "the command line cannot be read"),
        (["--config", "nowhere.json"], "--config: nowhere.json cannot be read: No such file or directory"),
    ],
)
def test_wrong_values(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *FOLDERS, *argv]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"crysmm: error: {line}")
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("missing", ["--root_dir", "--output_dir"])
def test_both_folders_are_needed(
    trained: list[TrainingConfig], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    position = FOLDERS.index(missing)
    assert main(["train", *FOLDERS[:position], *FOLDERS[position + 2 :]]) == 2
    assert f"{missing}: missing" in capsys.readouterr().err
    assert trained == []


@pytest.mark.parametrize("language", [[], ["json"]])
@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--model", "alignn", "--model.alignn_layers", "1", "--learning_rate", "1e-5", "--target_key", "yes"],
        ["--head", "distilled", "--head.teacher", "a b/c", "--head.delta", "0.1,rising", "--ids_file", "ids.json"],
        ["--n_val", "3", "--n_test", "0", "--id_key", "007", "--scheduler", "multistep", "--milestones", "1,2"],
    ],
)
def test_printed_settings_are_read(
    trained: list[TrainingConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    language: list[str],
) -> None:
    assert main(["train", *FOLDERS, *argv, "--print_config", *language]) == 0
    path = tmp_path / "settings.txt"
    path.write_text(capsys.readouterr().out)
    assert main(["train", "--config", str(path)]) == 0
    assert trained[-1] == settings(trained, *argv)


def test_print_config_shows_what_would_be_used(
    trained: list[TrainingConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--print_config", "--model", "alignn", "--epochs", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert trained == []
    assert 'neighbor_strategy: "k-nearest"' in lines
    assert "learning_rate: 0.001" in lines
    assert '  name: "alignn"' in lines
    position = lines.index("epochs: 7")
    assert lines[position - 1] == f"# {TrainingConfig.model_fields['epochs'].description}"
    shown = {line.split(":")[0] for line in lines if not line.startswith(("#", " "))}
    assert shown == set(TrainingConfig.model_fields)


def test_help_shows_defaults_and_who_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--epochs N Number of passes over the training split. (100)" in shown
    assert "(cgcnn: 1, crysxpp: 1, gatgnn: 2)" in shown
    assert "factory" not in shown
