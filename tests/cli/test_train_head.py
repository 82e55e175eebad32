"""``--head``: a teacher and the weight of its loss, from the command line and from a file."""

import json
from pathlib import Path

import pytest

from crysmm.cli.main import main
from crysmm.config import DistilledConfig, TrainingConfig, VanillaConfig

FOLDERS = ["--root_dir", "structures", "--output_dir", "run"]
TAUGHT = ["--head", "distilled", "--head.teacher", "teacher"]


def head(trained: list[TrainingConfig], *argv: str) -> VanillaConfig | DistilledConfig:
    assert main(["train", *FOLDERS, *argv]) == 0
    return trained[-1].head


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["train", *FOLDERS, *argv]) == 2
    return capsys.readouterr().err


def test_head_alone_is_its_name(trained: list[TrainingConfig]) -> None:
    assert head(trained) == head(trained, "--head", "vanilla") == VanillaConfig()
    assert head(trained, *TAUGHT) == DistilledConfig(teacher="teacher", delta=(0.5,), projection="auto")
    assert head(trained, "--head.name", "distilled", "--head.teacher", "a", "--head.projection", "none") == (
        DistilledConfig(teacher="a", projection="none")
    )


@pytest.mark.parametrize(
    ("typed", "deltas"),
    [
        ("0.2", (0.2,)),
        (".2", (0.2,)),
        ("1", (1.0,)),
        ("0.2,0.5,.8", (0.2, 0.5, 0.8)),
        ("0", (0.0,)),
        ("rising", ("rising",)),
        ("0.2,rising", (0.2, "rising")),
    ],
)
def test_one_delta_or_several(trained: list[TrainingConfig], typed: str, deltas: tuple[object, ...]) -> None:
    assert head(trained, *TAUGHT, "--head.delta", typed).delta == deltas


@pytest.mark.parametrize("delta", [0.2, [0.2], "0.2"])
def test_delta_of_a_file(trained: list[TrainingConfig], tmp_path: Path, delta: object) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"head": {"name": "distilled", "teacher": "a", "delta": delta}}))
    assert head(trained, "--config", str(file)).delta == (0.2,)
    assert head(trained, "--config", str(file), "--head.teacher", "b") == DistilledConfig(teacher="b", delta=0.2)
    assert head(trained, "--config", str(file), "--head", "vanilla") == VanillaConfig()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--head.teacher", "a"], "--head.teacher: a setting of distilled and multimodal; --head.name is vanilla"),
        (["--head.delta", "0.5"], "--head.delta: a setting of distilled and multimodal; --head.name is vanilla"),
        (["--head", "distilled"], "--head.teacher: missing; distilled needs it (Model whose atom embeddings"),
        (["--head", "distilled", "--head.teacher", ""], "--head.teacher: expected text, got ''"),
        ([*TAUGHT, "--head.delta", "1.2"], "--head.delta: expected at most 1.0, got '1.2'"),
        ([*TAUGHT, "--head.delta", "0.5,-1"], "--head.delta: expected at least 0.0, got '-1'"),
        ([*TAUGHT, "--head.delta", "0.5,half"], "--head.delta: expected a number from 0 to 1, or rising, got 'half'"),
        ([*TAUGHT, "--head.delta", "nan"], "--head.delta: expected a finite number, got 'nan'"),
        ([*TAUGHT, "--head.delta", "rising,.5,rising"], "--head.delta: holds a value twice: rising,0.5,rising"),
        ([*TAUGHT, "--head.delta", "0.5,.5"], "--head.delta: holds a value twice: 0.5,0.5"),
    ],
)
def test_a_setting_that_cannot_be_used(capsys: pytest.CaptureFixture[str], argv: list[str], line: str) -> None:
    assert line in refusal(capsys, *argv)


@pytest.mark.parametrize(("delta", "line"), [([], "--head.delta: is empty"), (None, "--head.delta: expected a list")])
def test_delta_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path, delta: object, line: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"head": {"name": "distilled", "teacher": "a", "delta": delta}}))
    assert line in refusal(capsys, "--config", str(file))


def test_help_says_which_head_has_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "or a file of crysmm embed. (distilled, multimodal)" in shown
    assert "is kept. (distilled: 0.5, multimodal: 0.5)" in shown
    assert "Head to train. (vanilla)" in shown
