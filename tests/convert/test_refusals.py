"""What cannot be converted is refused, with what is wrong and nothing written."""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from crysmm.convert.checkpoint import read_foreign_checkpoint
from crysmm.convert.conversion import convert
from crysmm.errors import InputError

from .conftest import Original

Change = Callable[[dict[str, Any]], object]


def change_checkpoint(original: Original, change: Change) -> None:
    content = torch.load(original.checkpoint)
    change(content)
    torch.save(content, original.checkpoint)


def change_config(original: Original, change: Change) -> None:
    assert original.config is not None
    content = json.loads(original.config.read_text())
    change(content)
    original.config.write_text(json.dumps(content))


def refused(original: Original, tmp_path: Path, message: str, code: str | None = None) -> None:
    with pytest.raises(InputError, match=message):
        convert(code or original.code, original.checkpoint, original.config, tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_whole_objects_are_not_unpickled(tmp_path: Path, zipped: bool) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"module.pth holds objects of the class torch.nn.modules.linear.Linear, .*state_dict"
    ):
        read_foreign_checkpoint(tmp_path / "module.pth")
    torch.save({"state_dict": {"a": torch.ones(2)}, "args": Marker(tmp_path / "run")}, tmp_path / "code.pth")
    with pytest.raises(InputError, match="holds objects of the class"):
        read_foreign_checkpoint(tmp_path / "code.pth")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_arguments_and_numbers_of_numpy_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": {"a": torch.ones(2)}, "args": argparse.Namespace(n_h=1), "best": np.float64(0.5)}
    torch.save(content, tmp_path / "all.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = read_foreign_checkpoint(tmp_path / "all.pth")
    assert torch.equal(checkpoint.weights["a"], torch.ones(2))
    assert not isinstance(checkpoint.others["args"], argparse.Namespace)
    assert not isinstance(checkpoint.others["best"], np.generic)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or not a checkpoint"),
        (b"PK\x03\x04 cut off", "damaged or not a checkpoint"),
        (b"weights", "damaged or not a checkpoint"),
        (pickle.dumps({"a": 1}), "damaged or not a checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_foreign_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_off_or_changed_is_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": {"a": torch.ones(30, 100), "b": torch.ones(2)}, "args": argparse.Namespace(n_h=1)}
    torch.save(content, tmp_path / "whole", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "whole").read_bytes()
    random = np.random.default_rng(0)
    n_refused = 0
    for length in random.integers(len(whole), size=50):
        changed = bytearray(whole)
        changed[length] ^= 1 << random.integers(8)
        for damaged in (whole[:length], bytes(changed)):
            (tmp_path / "file").write_bytes(damaged)
            try:
                read_foreign_checkpoint(tmp_path / "file")
            except InputError:
                n_refused += 1
    assert n_refused >= 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list"),
        ({"epoch": 3, "optimizer": {}}, "no weights by name.*it holds epoch, optimizer"),
        ({"state_dict": {}}, "no weights by name"),
    ],
)
def test_checkpoints_without_weights(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "file")
    with pytest.raises(InputError, match=message):
        read_foreign_checkpoint(tmp_path / "file")


UNREAD: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "sparse": (lambda: torch.eye(6).to_sparse(), "a is torch.sparse_coo"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(6), 0.1, 0, torch.qint8), "a is torch.qint8"),
    "without values": (lambda: torch.ones(6, device="meta"), "a is meta, without values"),
    "complex": (lambda: torch.ones(6, dtype=torch.complex64), "a is torch.complex64"),
    "beyond the file": (lambda: torch.ones(1).expand(10**6), "a is larger than what is stored of it"),
    "truth values": (lambda: torch.ones(6, dtype=torch.bool), "a is torch.bool"),
    "of tensors": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "a is nested"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, which quantised and nested tensors are new or old to
@pytest.mark.parametrize("kind", UNREAD)
def test_weights_that_are_no_plain_numbers(tmp_path: Path, kind: str) -> None:
    make, message = UNREAD[kind]
    torch.save({"state_dict": {"a": make(), "b": torch.ones(2)}}, tmp_path / "file")
    with pytest.raises(InputError, match=rf"{message}; expected .*float32"):
        read_foreign_checkpoint(tmp_path / "file")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt cannot be read: No such file"):
        read_foreign_checkpoint(tmp_path / "none.pt")


OF_CGCNN: dict[str, tuple[Change, str]] = {
    "a weight missing": (
        lambda c: c["state_dict"].pop("convs.1.bn2.weight"),
        r"missing in the checkpoint: convs\.1\.bn2\.weight",
    ),
    "a weight too many": (
        lambda c: c["state_dict"].update({"extra.weight": torch.ones(1)}),
        r"but not in the network: extra\.weight",
    ),
    "one layer of another width": (
        lambda c: c["state_dict"].update({"convs.1.bn1.bias": torch.ones(5)}),
        r"convs\.1\.bn1\.bias is 5 in the checkpoint, expected 12",
    ),
    "other atom features": (
        lambda c: c["state_dict"].update({"embedding.weight": torch.ones(6, 91)}),
        r"embedding\.weight is 6 x 91 in the checkpoint, expected 6 x 92",
    ),
    "the first layer missing": (lambda c: c["state_dict"].pop("embedding.weight"), r"embedding\.weight is missing"),
    "a weight that is no number": (
        lambda c: c["state_dict"]["fc_out.weight"].fill_(float("nan")),
        r"not finite in fc_out\.weight",
    ),
    "a weight beyond 32 bits": (
        lambda c: c["state_dict"].update({"fc_out.bias": torch.tensor([1e300], dtype=torch.double)}),
        r"not finite in fc_out\.bias",
    ),
    "weights that lead beyond numbers": (
        lambda c: c["state_dict"]["convs.1.bn2.running_var"].fill_(-1),
        "is not written: the predictions for .* are not finite",
    ),
    "no normalizer": (lambda c: c.pop("normalizer"), "no normalizer with mean"),
    "a normalizer that is none": (
        lambda c: c["normalizer"].update(std=torch.tensor(float("nan"))),
        r"normalizer's std is tensor\(nan\); expected a number above zero",
    ),
    "a normalizer of integers beyond numbers": (
        lambda c: c["normalizer"].update(mean=10**400),
        "normalizer's mean is 10{10,}.*; expected a finite number",
    ),
    "a complex normalizer": (
        lambda c: c["normalizer"].update(mean=torch.tensor(1 + 1j)),
        "normalizer's mean is .*; expected a finite number",
    ),
    "a normalizer without values": (
        lambda c: c["normalizer"].update(std=torch.ones((), device="meta")),
        "normalizer's std is .*; expected a number above zero",
    ),
    "targets without a spread": (
        lambda c: c["normalizer"].update(std=0),
        "normalizer's std is 0; expected a number above zero",
    ),
    "a negative spread": (
        lambda c: c["normalizer"].update(std=torch.tensor(-2.0)),
        r"normalizer's std is tensor\(-2.\); expected a number above zero",
    ),
    "no outputs": (lambda c: c["state_dict"].update({"fc_out.weight": torch.ones(0, 5)}), "has 0 outputs"),
    "a layer of a number beyond all": (
        lambda c: c["state_dict"].update({f"convs.{'9' * 5000}.bn1.bias": torch.ones(1)}),
        r"but not in the network: convs\.9{400,500}\.\.\.",
    ),
    "three outputs": (lambda c: c["state_dict"].update({"fc_out.weight": torch.ones(3, 5)}), "has 3 outputs"),
}


@pytest.mark.parametrize("original", ["tiny-cgcnn"], indirect=True)
@pytest.mark.parametrize("problem", OF_CGCNN)
def test_cgcnn(original: Original, tmp_path: Path, problem: str) -> None:
    change, message = OF_CGCNN[problem]
    change_checkpoint(original, change)
    refused(original, tmp_path, message)


@pytest.mark.parametrize("original", ["tiny-cgcnn"], indirect=True)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoff": 6.0}, "41 Gaussians, and a cutoff of 6 Angstrom has 31"),
        ({"cutoff": "far"}, "--cutoff: expected a number, got 'far'"),
        ({"epochs": 3}, "epochs: not a setting of this conversion"),
    ],
)
def test_settings_of_cgcnn(original: Original, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    config = tmp_path / "settings.json"
    config.write_text(json.dumps(settings))
    refused(original._replace(config=config), tmp_path, message)


@pytest.mark.parametrize("original", ["tiny-cgcnn", "tiny-alignn"], indirect=True)
def test_checkpoints_of_other_code(original: Original, tmp_path: Path) -> None:
    for code in {"cgcnn", "crysxpp", "crysgnn"} - {original.code}:
        refused(original._replace(config=None), tmp_path, "missing|not in the network", code)


OF_ALIGNN: dict[str, tuple[Change, str]] = {
    "another model": (lambda c: c["model"].update(name="ealignn_atomwise"), "model.name is 'ealignn_atomwise'"),
    "a list of models": (lambda c: c["model"].update(name=["alignn"]), r"model.name is \['alignn'\]"),
    "a name for a model": (lambda c: c.update(model={"alignn": 1}), "model.name is None"),
    "no model": (lambda c: c.pop("model"), "model.name is None"),
    "another size": (
        lambda c: c["model"].update(hidden_features=256),
        "model.hidden_features is 256 in --config and 6 in the checkpoint",
    ),
    "a graph of DGL alone": (
        lambda c: c.update(neighbor_strategy="radius_graph"),
        "'radius_graph': these graphs are not supported",
    ),
    "no cutoff": (lambda c: c.pop("three_body_cutoff"), "three_body_cutoff missing"),
    "outputs scaled": (lambda c: c.update(standard_scalar_and_pca=True), "sc.pkl"),
    "forces": (lambda c: c["model"].update(calculate_gradient=True, gradwise_weight=1), "forces"),
    "more inputs": (lambda c: c["model"].update(extra_features=2), "model.extra_features is 2"),
    "a target that is no name": (lambda c: c.update(target=[1]), "--target_key: expected text"),
    "one output for classes": (lambda c: c["model"].update(classification=True), "one output, and classes"),
    "a threshold alone": (lambda c: c.update(classification_threshold=1), "expected both or neither"),
    "other atom features": (lambda c: c.update(atom_features="basic"), "atom_input_features is 92"),
    "a link that is none": (lambda c: c["model"].update(link="square"), "--model.link: expected"),
}


@pytest.mark.parametrize("original", ["tiny-alignn_atomwise_pure"], indirect=True)
@pytest.mark.parametrize("problem", OF_ALIGNN)
def test_alignn(original: Original, tmp_path: Path, problem: str) -> None:
    change, message = OF_ALIGNN[problem]
    change_config(original, change)
    refused(original, tmp_path, message)


@pytest.mark.parametrize("original", ["tiny-alignn"], indirect=True)
def test_other_gaussians(original: Original, tmp_path: Path) -> None:
    change_checkpoint(original, lambda c: c["edge_embedding.0.centers"].mul_(0.5))
    refused(original, tmp_path, r"edge_embedding\.0\.centers: expected centers evenly spaced from 0 to 8")


@pytest.mark.parametrize("original", ["tiny-alignn"], indirect=True)
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_gaussians_that_are_no_row(original: Original, tmp_path: Path, shape: tuple[int, ...]) -> None:
    change_checkpoint(original, lambda c: c.update({"edge_embedding.0.centers": torch.ones(shape)}))
    refused(original, tmp_path, r"edge_embedding\.0\.centers: expected centers evenly spaced from 0 to 8")


@pytest.mark.parametrize("original", ["tiny-alignn_atomwise"], indirect=True)
@pytest.mark.parametrize("threshold", ["1", None, [1], True, 10**400, float("nan")])
def test_a_penalty_below_no_length(original: Original, tmp_path: Path, threshold: object) -> None:
    change_config(
        original, lambda c: c["model"].update(use_penalty=True, energy_mult_natoms=False, penalty_threshold=threshold)
    )
    refused(original, tmp_path, "model.penalty_threshold is .*; expected a number, in Angstrom")


@pytest.mark.parametrize("original", ["tiny-alignn_atomwise"], indirect=True)
def test_a_penalty_without_a_factor(original: Original, tmp_path: Path) -> None:
    change_config(original, lambda c: c["model"].update(energy_mult_natoms=False, penalty_factor="0.1"))
    refused(original, tmp_path, r"model.penalty_factor is '0.1'; expected a number$")


@pytest.mark.parametrize("original", ["tiny-alignn"], indirect=True)
def test_alignn_needs_its_config(original: Original, tmp_path: Path) -> None:
    refused(original._replace(config=None), tmp_path, "--config: missing; alignn needs")


@pytest.mark.parametrize("original", ["tiny-cgcnn"], indirect=True)
def test_a_folder_in_use(original: Original, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="used is not empty"):
        convert("cgcnn", original.checkpoint, None, tmp_path / "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]
