"""Real crystals, and describers that misbehave."""

import textwrap
from pathlib import Path

import pytest

from crysmm.io.inputs import open_source
from crysmm.text.describers import end_processes

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture(scope="session")
def sample():
    """Twenty sample crystals by id."""
    rows = list(open_source(SAMPLE_DATA, needs_targets=False).rows())
    return {row.id: row.read().crystal for row in rows[:: len(rows) // 20][:20]}


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Replaces a describer in all processes that are started from here on."""

    def replace(module, kind, body):
        folder = tmp_path / "foreign"
        folder.mkdir(exist_ok=True)
        code = f"""
            import sys, types
            module = types.ModuleType("crysmm.text.{module}")
            class {kind}:
                def describe(self, crystal):
                    {body}
            module.{kind} = {kind}
            sys.modules["crysmm.text.{module}"] = module
        """
        with (folder / "sitecustomize.py").open("a") as file:
            file.write(textwrap.dedent(code))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        end_processes()

    yield replace
    end_processes()
