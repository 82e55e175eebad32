"""``crysmm check``: the report goes to the screen, its verdict becomes the exit code."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from crysmm.cli.main import main
from crysmm.config import TrainingConfig


@dataclass
class Report:
    config: TrainingConfig
    clean: bool

    def text(self) -> str:
        return f"read {self.config.root_dir} for {self.config.target_key}"


@pytest.mark.parametrize(("clean", "code"), [(True, 0), (False, 1)])
def test_exit_code(clean: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check = ModuleType("crysmm.audit.check")
    check.check_input = lambda config: Report(config, clean)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crysmm.audit.check", check)
    monkeypatch.setattr("crysmm.io.inputs.open_input", lambda config, records: None)
    assert main(["check", "--root_dir", "here", "--target_key", "gap"]) == code
    assert capsys.readouterr().out == "read here for gap\n"


def test_a_folder_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 2
    assert "--root_dir: missing" in capsys.readouterr().err
