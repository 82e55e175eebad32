"""The command itself: help without waiting, errors without tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import crysmm
from crysmm.cli.main import COMMANDS, SPINS, guarded, main, run_command
from crysmm.errors import InputError


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("train", "predict", "check", "doctor"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"crysmm {crysmm.__version__}\n"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr()
    assert all(command in shown.out for command in COMMANDS)
    assert shown.err == ""


def test_another_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["trian", "--epochs", "3"])
    assert left.value.code == 2
    expected = "crysmm: error: unknown command trian; did you mean train? (see crysmm --help)\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("words", ["explain --model m --files x --output_dir", "runs", "predict --model m --root_dir"])
def test_an_empty_path_is_not_the_current_folder(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words.split(), ""])
    assert left.value.code == 2
    assert "expected a path, got ''" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("predict --model m --rootdir folder", "unknown argument --rootdir; did you mean --root_dir?"),
        ("embed --modl=m", "unknown argument --modl; did you mean --model?"),
        ("explain --epochs 3", "--epochs is a setting of crysmm train and crysmm pretrain"),
    ],
)
def test_a_misspelled_option_is_reported_before_a_missing_one(
    words: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(words.split())
    assert left.value.code == 2
    assert shown in capsys.readouterr().err


def complete(script: Path, *words: str) -> set[str]:
    """Return the words that bash offers for the last word."""
    line = f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_crysmm"
    ran = subprocess.run(
        ["bash", "-c", f'{line}; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_completion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert complete(script, "crysmm", "p") == {"predict", "pretrain"}
    assert complete(script, "crysmm", "train", "--learn") == {"--learning_rate"}
    assert complete(script, "crysmm", "train", "--model", '""') == {"cgcnn", "crysxpp", "gatgnn", "alignn"}
    assert complete(script, "crysmm", "train", "--strict", "t") == {"true"}
    assert complete(script, "crysmm", "train", "--target_min", '""') == {"auto", "none"}
    assert complete(script, "crysmm", "predict", "--file_format", "p") == {"poscar", "pdb"}


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"]])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        "import sys\n"
        "from crysmm.cli.main import main\n"
        "try:\n"
        f"    main({argv})\n"
        "except SystemExit:\n"
        "    print([name for name in ('torch', 'numpy', 'lightning_fabric', 'dgl', 'jarvis') if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(crysmm.__file__).parents[1]
    )
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


def test_python_m(tmp_path: Path) -> None:
    root = Path(crysmm.__file__).parents[1]
    command = [sys.executable, "-m", "crysmm", "train", "--root_dir", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert ran.returncode == 2
    assert ran.stderr.startswith("crysmm: error: --output_dir: missing")
    assert "Traceback" not in ran.stderr


def test_bad_input_is_said_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise InputError("first\nsecond")

    assert guarded(run) == 2
    assert capsys.readouterr().err == "crysmm: error: first\n               second\n"


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise KeyboardInterrupt

    assert guarded(run) == 130
    assert "Ctrl-C" in capsys.readouterr().err


def test_ctrl_c_while_a_command_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "command_that_is_interrupted.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_command("command_that_is_interrupted", "crysmm", "Do nothing.", []) == 130
    assert capsys.readouterr().err == "crysmm: stopped by Ctrl-C\n"


def test_what_the_system_refuses_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: len((tmp_path / "nothing").read_text())) == 2
    assert capsys.readouterr().err == f"crysmm: error: {tmp_path / 'nothing'}: No such file or directory\n"


def test_output_that_nobody_reads(tmp_path: Path) -> None:
    code = "from crysmm.cli.main import guarded\nimport sys\nsys.exit(guarded(lambda: print('x' * 10**6) or 0))"
    ran = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert ran.stdout is not None
    assert ran.stderr is not None
    ran.stdout.close()
    assert ran.stderr.read() == "crysmm: stopped, as its output is no longer read\n"
    assert ran.wait() == 141


def test_a_programming_error_keeps_its_traceback() -> None:
    def run() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(run)


def test_a_setting_of_another_command_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["pretrain", "--root_dir", "a", "--output_dir", "b", "--target_key", "gap"])
    assert left.value.code == 2
    expected = "crysmm pretrain: error: --target_key is a setting of crysmm train, which this command does not have"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("own", [None, "7"])
def test_threads_spin_shortly_unless_the_user_says_how_long(own: str | None, tmp_path: Path) -> None:
    """The number is in the environment before torch, and with it GNU OpenMP, is loaded."""
    output = str(tmp_path / "predictions.csv")
    code = (
        "import os, sys\n"
        "from crysmm.cli import main\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print('spins', os.environ.get('GOMP_SPINCOUNT'))\n"
        "            sys.exit()\n"
        "sys.meta_path.insert(0, Finder())\n"
        "main.main(['predict', '--model', 'cgcnn-formation-energy', "
        f"'--files', {__file__!r}, '--output', {output!r}])\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environ | ({"GOMP_SPINCOUNT": own} if own else {}),
    )
    assert f"spins {own or SPINS}" in ran.stdout, ran.stderr
