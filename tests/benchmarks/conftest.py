"""The studies, made small."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import few_labels, study
from crysmm.cli.main import main
from crysmm.io.inputs import open_source

CHECKOUT = Path(__file__).parents[2]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"
SMALL = ["--model.conv_layers", "1", "--model.node_features", "8", "--epochs", "2", "--device", "cpu", "--jobs", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty of the sample crystals in one file."""
    path = tmp_path_factory.mktemp("data") / "crystals.jsonl"
    with path.open("w") as file:
        for row in open_source(SAMPLE_DATA, limit=40).rows():
            record = row.read()
            arrays = {
                "lattice_mat": record.crystal.lattice.tolist(),
                "frac_coords": record.crystal.frac_coords.tolist(),
            }
            line = {"id": record.id, "elements": record.crystal.elements, "K": record.targets[0], **arrays}
            file.write(json.dumps(line) + "\n")
    return path


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A small protocol, its runs in this process; the folders of the runs made."""
    monkeypatch.setattr(few_labels, "END_OF_TRAINING", 20)
    monkeypatch.setattr(few_labels, "END_OF_VALIDATION", 30)
    monkeypatch.setattr(study, "RECIPE", SMALL)
    monkeypatch.setattr(study, "PRETRAINING", SMALL)
    monkeypatch.setattr(study, "SHIPPED", {})
    monkeypatch.setattr(study, "ENCODERS", {"decoys": ["--method", "decoys", "--limit", "30"]})
    calls = []

    def call(command, output, jobs):
        if not (output / "metrics.json").exists():
            calls.append(output.relative_to(tmp_path).as_posix())
            cache = ["--cache_dir", str(tmp_path / "cache"), "--progress", "false"]
            assert main([*command, "--output_dir", str(output), *cache]) == 0

    monkeypatch.setattr(study, "call", call)
    return calls


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """The script on so many labels, from its command line."""

    def run(script, *options):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, options), "--work", str(tmp_path)])
        script.main()

    return run
