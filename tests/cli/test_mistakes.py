"""Mistakes that are found without torch, whose import takes seconds, are told before it."""

import subprocess
import sys
from pathlib import Path

import crysmm

ROOT = Path(crysmm.__file__).parents[1]
DATA = ROOT / "examples" / "sample_data"
CRYSTAL = DATA / "mp-149.vasp"
BENCHMARK = "AI-SinglePropertyPrediction-bulk_modulus_kv-dft_3d-test-mae"
HELD = f"--benchmark {BENCHMARK} --benchmark_file run/values.json"
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
    f"predict --model cgcnn-formation-energy --files {CRYSTAL} --keep 'the best'": "keep: 'the best' is no rule",
    f"explain --model nowhere --files {CRYSTAL} --output_dir new": "nowhere is not a folder",
    f"explain --model nowhere --files {CRYSTAL} --output_dir run": "--output_dir: run holds a run",
    f"train --root_dir {DATA} --output_dir new --head multimodal --head.descriptions no.csv": "no.csv is not a file",
    f"compare --root_dir {DATA} --output_dir new --arms plian": "unknown arm plian; did you mean plain?",
    "compare --root_dir nowhere --output_dir new": "nowhere does not exist",
    f"compare --root_dir {DATA} --output_dir run": "run holds other files (config.json, values.json)",
    f"compare --root_dir {DATA} --output_dir new --device cuda": "--device: cuda is not available",
    f"compare --root_dir {DATA} --output_dir new --arms plain a:zero_shot=nowhere": "nowhere is not a folder",
    f"compare --root_dir {DATA} --output_dir new --arms plain a:init_from=nowhere": "nowhere is not a folder",
    f"compare --root_dir {DATA} --output_dir new --arms plain a:epochs=no": "arm a: --epochs: expected a whole number",
    "convert nowhere --from cgcnn --output_dir new": "nowhere is not a file",
    f"convert {CRYSTAL} --from alignn --output_dir new": "--config: missing; alignn needs the config.json",
    f"convert {CRYSTAL} --from cgcnn --output_dir run": "--output_dir: run is not empty",
    f"leaderboard --benchmark {BENCHMARK} --benchmark_file no.zip --root_dir {DATA} --output_dir new": "no.zip",
    f"leaderboard {HELD} --root_dir nowhere --output_dir new": "nowhere does not exist",
    f"leaderboard {HELD} --root_dir {DATA} --output_dir new --device cuda": "--device: cuda is not available",
    f"leaderboard {HELD} --run nowhere --output_dir new": "nowhere is not the folder of a run",
    f"matbench --task jdft2 --root_dir {DATA} --output_dir new": "--task: jdft2 is unknown; did you mean",
    f"embed --model chgnett --root_dir {DATA} --output new.parquet": "did you mean chgnet?",
    f"train --root_dir {DATA} --output_dir new --head features --head.embeddings mace": "a potential (chgnet, ",
    f"predict --model jarvs --files {CRYSTAL}": "did you mean jarvis",
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
    (folder / "run" / "values.json").write_text(
        '{"train": {"a": 1.0, "b": 2.0}, "val": {"c": 3.0}, "test": {"d": 4.0}}'
    )
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
