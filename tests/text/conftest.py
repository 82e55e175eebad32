"""Real crystals, and describers that misbehave."""

import os
import textwrap
from pathlib import Path

import pytest

from crysmm.io.inputs import open_source
from crysmm.text.describers import end_processes

CHECKOUT = Path(__file__).parents[2]
SAMPLE_DATA = CHECKOUT / "examples" / "sample_data"


@pytest.fixture(scope="session")
def sample():
    """Return twenty sample crystals by id."""
    rows = list(open_source(SAMPLE_DATA, needs_targets=False).rows())
    return {row.id: row.read().crystal for row in rows[:: len(rows) // 20][:20]}


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Replace a describer in all processes started from now on."""

    def replace(name, body):
        folder = tmp_path / "foreign"
        folder.mkdir(exist_ok=True)
        code = f"""
            from crysmm.text import describers
            class Foreign:
                def describe(self, crystal):
                    {body}
            describers.DESCRIBERS["{name}"] = Foreign
        """
        with (folder / "sitecustomize.py").open("a") as file:
            file.write(textwrap.dedent(code))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(CHECKOUT)]))
        end_processes()

    yield replace
    end_processes()
