"""The backbone of the page, put into a copy of the package: it passes the contract and trains through the command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import crysmm

PAGE = Path(__file__).parents[2] / "docs" / "adding_a_backbone.md"


def edit(file: Path, diff: str) -> None:
    """Apply hunks, parted by ``@@``: lines with a minus or a blank must stand in the file once, together."""
    text = file.read_text()
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in "- ")
        after = "".join(line[1:] for line in lines if line[0] in "+ ")
        assert text.count(before) == 1, f"{file}: stands there {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    file.write_text(text)


@pytest.fixture(scope="module")
def package(tmp_path_factory, blocks_of):
    """A folder with the package as it is after the page."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(Path(crysmm.__file__).parent, folder / "crysmm", ignore=shutil.ignore_patterns("__pycache__"))
    for block in blocks_of(PAGE):
        if block.title is None:
            continue
        file = folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        if block.language == "diff":
            edit(file, block.text)
        else:
            assert not file.exists()
            file.write_text(block.text)
    return folder


BOTH = """
import sys
import pytest
from crysmm.cli.main import main

sys.exit(pytest.main(sys.argv[1:2]) or main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def printed(package, home):
    """Output of the page's test and its first command, for one epoch, in one Python, which takes long to start."""
    data, cache = home / "examples" / "sample_data", home / "cache"
    train = ["train", "--root_dir", data, "--output_dir", "run", "--cache_dir", cache, "--model", "schnet"]
    ran = subprocess.run(
        [sys.executable, "-c", BOTH, "tests/models/test_schnet.py", *map(str, train), "--epochs", "1"],
        env=os.environ | {"PYTHONPATH": str(package)},
        cwd=package,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_contract_holds(printed):
    assert "1 passed" in printed


def test_it_trains(package, printed):
    assert "schnet with" in printed
    assert (package / "run" / "model.safetensors").is_file()
