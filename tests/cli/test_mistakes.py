"""Mistakes that are found without torch, whose import takes seconds, are told before it."""

import subprocess
import sys
from pathlib import Path

import crysmm

ROOT = Path(crysmm.__file__).parents[1]
DATA = ROOT / "examples" / "sample_data"
CRYSTAL = DATA / "mp-149.vasp"
MISTAKES = {
    f"train --root_dir {DATA} --output_dir run": "output_dir run holds a run (config.json); continue it with --resume",
    f"train --root_dir {DATA} --output_dir new --device cuda": "--device: cuda is not available",
    "train --root_dir nowhere --output_dir new": "nowhere does not exist",
    f"train --root_dir {DATA} --output_dir new --target_key gap": "has no column of numbers 'gap' (target_key)",
    f"train --root_dir {DATA} --output_dir new --unit GPa,eV": "--unit: 2 given (GPa,eV); expected 1",
    f"train --root_dir {DATA} --output_dir new --init_from nowhere": "nowhere is not a folder; expected model.json",
    f"pretrain --root_dir {DATA} --output_dir run": "output_dir run holds a run",
    "check --root_dir nowhere": "nowhere does not exist",
    f"predict --model nowhere --files {CRYSTAL}": "nowhere is not a folder",
    "predict --model cgcnn-formation-energy --root_dir nowhere": "nowhere does not exist",
    f"predict --model cgcnn-formation-energy --files {CRYSTAL} --output run": "run is a folder",
    f"predict --model cgcnn-formation-energy --files {CRYSTAL} --device cuda": "--device: cuda is not available",
    "predict --model cgcnn-formation-energy --files no.cif": "no.cif: no such file",
    f"explain --model nowhere --files {CRYSTAL} --output_dir new": "nowhere is not a folder",
    f"explain --model nowhere --files {CRYSTAL} --output_dir run": "--output_dir: run holds a run",
    "runs nowhere": "nowhere is not a folder",
    f"runs {DATA}": "holds no run of crysmm train",
    "audit --model nowhere": "nowhere is not the folder of a run",
    "app --model nowhere": "nowhere is not a folder",
    "describe --root_dir nowhere": "nowhere does not exist",
}
WITHOUT_EXTRAS = {
    f"explain --model nowhere --files {CRYSTAL} --output_dir new": "pip install 'crysmm[explain]'",
    "app": "pip install 'crysmm[app]'",
}
CODE = """
import importlib.metadata, shlex, sys
from crysmm.cli.main import main

version = importlib.metadata.version
importlib.metadata.version = lambda name: "2.13.0+cpu" if name == "torch" else version(name)
for package in {blocked}:
    sys.modules[package] = None  # importing it fails
for command in {commands}:
    print(main(shlex.split(command)), file=sys.stderr)
"""


def told(folder: Path, commands: list[str], blocked: list[str]) -> list[str]:
    """Return the output for each command, ending with its exit code, of a process that cannot import some packages."""
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text("{}")
    code = CODE.format(commands=commands, blocked=blocked)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["run"]
    return ran.stderr.split("\n2\n")


def test_before_torch(tmp_path: Path) -> None:
    *found, rest = told(tmp_path, list(MISTAKES), ["torch"])
    assert rest == ""
    for command, expected, shown in zip(MISTAKES, MISTAKES.values(), found, strict=True):
        assert shown.startswith("crysmm: error: "), command
        assert expected in shown, command


def test_missing_extras_before_torch(tmp_path: Path) -> None:
    *found, rest = told(tmp_path, list(WITHOUT_EXTRAS), ["torch", "captum", "gradio"])
    assert rest == ""
    for expected, shown in zip(WITHOUT_EXTRAS.values(), found, strict=True):
        assert expected in shown
