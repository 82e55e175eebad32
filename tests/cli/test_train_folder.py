"""``train_folder.py`` with the flags of ALIGNN's and CrysMMNet's scripts."""

import json
from pathlib import Path

import pytest

from crysmm.cli.train_folder import main
from crysmm.config import TrainingConfig


def test_alignn_s_line(trained: list[TrainingConfig], tmp_path: Path) -> None:
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps({"epochs": 3, "keep_data_order": True, "model": {"name": "alignn_atomwise"}}))
    argv = ["--root_dir", "samples", "--config", str(config_file), "--output_dir=temp", "--file_format", "poscar"]
    argv += ["--epochs", "5", "--batch_size", "4", "--target_key", "energy", "--id_key", "jid"]
    argv += ["--classification_threshold", "0.01", "--device", "cpu"]
    assert main(argv) == 0
    (config,) = trained
    assert (config.root_dir, config.output_dir, config.file_format) == (Path("samples"), Path("temp"), "poscar")
    assert (config.epochs, config.batch_size, config.target_key, config.id_key) == (5, 4, "energy", "jid")
    assert (config.classification_threshold, config.device, config.keep_data_order) == (0.01, "cpu", True)
    assert config.model.name == "alignn"


def test_crysmmnet_s_line(trained: list[TrainingConfig], capsys: pytest.CaptureFixture[str]) -> None:
    argv = "--root_dir data --dataset MP --property bulk --n_train 40 --n_val 5 --n_test 5 --resume 0"
    assert main([*argv.split(), "--keep_data_order", "False"]) == 0
    (config,) = trained
    assert (config.target_key, config.n_train, config.n_val, config.n_test) == ("bulk", 40, 5, 5)
    assert (config.resume, config.keep_data_order) == (False, False)
    assert "--dataset" in capsys.readouterr().err


def test_folders_left_out(trained: list[TrainingConfig]) -> None:
    assert main([]) == 0
    assert (trained[0].root_dir, trained[0].output_dir) == (Path(), Path("crysmm_run"))


def test_flags_without_a_meaning_are_named_in_one_line(
    trained: list[TrainingConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = "--force_key forces --atomwise_key charges --stresswise_key stresses --additional_output_key dos"
    assert main(argv.split()) == 0
    (line,) = capsys.readouterr().err.splitlines()
    for flag in argv.split()[::2]:
        assert flag in line


def test_restart_from_a_model_folder(trained: list[TrainingConfig], tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    assert main(["--restart_model_path", str(tmp_path)]) == 0
    assert trained[0].init_from == tmp_path


def test_restart_from_a_peer_s_weights(
    trained: list[TrainingConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--restart_model_path", str(tmp_path / "best_model.pt")]) == 2
    assert "not a model folder of this package" in capsys.readouterr().err
    assert trained == []


def test_help_says_where_it_writes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "crysmm_run" in capsys.readouterr().out


def test_ids_on_the_line_replace_the_split_of_the_file(trained: list[TrainingConfig], tmp_path: Path) -> None:
    """ALIGNN's config files always say ratios."""
    config_file = tmp_path / "config.json"
    ratios = {"train_ratio": 0.8, "val_ratio": 0.1, "test_ratio": 0.1, "n_val": None}
    config_file.write_text(json.dumps({"epochs": 3, **ratios, "split_strategy": "composition"}))
    assert main(["--config", str(config_file), "--ids_file", "ids.json"]) == 0
    assert (trained[0].ids_file, trained[0].train_ratio, trained[0].val_ratio) == (Path("ids.json"), None, None)
    assert main(["--config", str(config_file), "--ids_file", "ids.json", "--n_val", "3"]) == 2


def test_files_of_peers_that_mean_nothing_are_named(
    trained: list[TrainingConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("atom_init.json", "ids_train_val_test.json"):
        (tmp_path / name).write_text("{}")
    assert main(["--root_dir", str(tmp_path)]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert "atom_init.json is not read: the element features are those of --atom_features cgcnn" in first
    ids = tmp_path / "ids_train_val_test.json"
    assert second.endswith(f"{ids} is not used: give --ids_file {ids} to use its split")
    assert main(["--root_dir", str(tmp_path), "--ids_file", str(ids)]) == 0
    assert "is not used" not in capsys.readouterr().err
