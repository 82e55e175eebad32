"""Nothing is unpickled that may be from elsewhere: in the package, the data preparation and the examples."""

import ast
import os
from pathlib import Path

import pytest
import torch

from crysmm.errors import InputError
from crysmm.runs.run_writer import read_checkpoint

CHECKOUT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("crysmm", "data_prep", "examples") for path in (CHECKOUT / folder).rglob("*.py"))
RUN_CODE = {"dill", "cloudpickle", "marshal", "shelve"}  # modules whose loading runs what the file says
UNPICKLES = {"load", "loads", "Unpickler"}
MUST_SAY = {"torch.load": ("weights_only", True)}  # calls that must have an argument, and its value
MUST_NOT_SAY = ("allow_pickle", "trust_remote_code")  # arguments that must not be true


def dotted(node: ast.expr) -> str:
    """``torch.load`` of a call's function; empty for what has no such name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(text: str) -> list[str]:
    """What in a Python file could run the code of a file it reads."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in RUN_CODE]
        elif isinstance(node, ast.ImportFrom):
            names = {name.name for name in node.names}
            strange = node.module in RUN_CODE or (
                node.module in ("pickle", "joblib", "torch", "numpy") and names & UNPICKLES
            )
            found += [f"from {node.module}"] if strange else []
        elif isinstance(node, ast.Call):
            found += faults_of_call(dotted(node.func), {word.arg: word.value for word in node.keywords if word.arg})
    return found


def faults_of_call(name: str, arguments: dict[str, ast.expr]) -> list[str]:
    if name in ("eval", "exec") or name in {
        f"{module}.{call}" for module in ("pickle", "joblib") for call in UNPICKLES
    }:
        return [name]
    required = MUST_SAY.get(name, ("weights_only", True) if "ckpt_path" in arguments else None)
    if required is not None and not is_constant(arguments.get(required[0]), required[1]):
        return [f"{name} without {required[0]}={required[1]}"]
    return [word for word in MUST_NOT_SAY if word in arguments and not is_constant(arguments[word], False)]


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=chosen)",
        "trainer.fit(m, ckpt_path=p)",
        "import pickle\npickle.loads(b)",
        "pickle.Unpickler(f).load()",
        "from pickle import load",
        "from torch import load",
        "import dill",
        "joblib.load(p)",
        "np.load(p, allow_pickle=True)",
        "AutoModel.from_pretrained(n, trust_remote_code=True)",
        "eval(text)",
    ],
)
def test_it_is_seen(text):
    assert faults(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_no_file_unpickles(path):
    assert not faults(path.read_text(encoding="utf-8"))


class Intruder:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_exchanged_in_a_run_folder_is_not_run(tmp_path):
    torch.save({"data": "", "history": {}, "trainer": Intruder(tmp_path / "run")}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "run").exists()
