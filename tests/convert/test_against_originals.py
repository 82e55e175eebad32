"""Converted models predict what the originals do; see data/README.md."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from crysmm.convert.conversion import convert
from crysmm.inference.predictor import load
from crysmm.inference.saved_models import load_model

from .conftest import DATA, Original, read_crystals

MODELS = sorted(path.stem for path in DATA.glob("*.json"))
CLOSE = 1e-4


def compare(original: Original, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What a converted model predicts, and what the original does."""
    crystals = read_crystals()
    found = load(folder, device="cpu").predict(list(crystals.values()))
    return found, np.array([original.predictions[name] for name in crystals])


@pytest.mark.parametrize("original", MODELS, indirect=True, ids=MODELS)
def test_predictions_are_the_originals(original: Original, tmp_path: Path) -> None:
    convert(original.code, original.checkpoint, original.config, tmp_path / "model")
    found, expected = compare(original, tmp_path / "model")
    assert expected.std(axis=0).min() > 20 * CLOSE  # so that a difference would show
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("original", "key", "value"),
    [
        ("tiny-alignn_atomwise_pure", "three_body_cutoff", None),
        ("tiny-alignn_atomwise_pure", "max_neighbors", 11),
        ("tiny-alignn_atomwise_pure", "neighbor_strategy", "k-nearest"),
        ("tiny-alignn_atomwise_pure-radius", "cutoff", 4.5),
        ("tiny-alignn", "max_neighbors", 11),
        ("tiny-alignn-log", "use_canonize", True),
    ],
    indirect=["original"],
)
def test_graphs_matter(original: Original, tmp_path: Path, key: str, value: object) -> None:
    assert original.config is not None
    settings = json.loads(original.config.read_text())
    original.config.write_text(json.dumps({**settings, key: value}))
    convert(original.code, original.checkpoint, original.config, tmp_path / "model")
    found, expected = compare(original, tmp_path / "model")
    assert np.abs(found - expected).max() > 5 * CLOSE


@pytest.mark.parametrize("original", ["tiny-alignn_atomwise-penalty"], indirect=True)
@pytest.mark.parametrize(
    "change", [{"use_penalty": False}, {"energy_mult_natoms": True}, {"penalty_factor": 0.1}, {"penalty_threshold": 2}]
)
def test_penalty_for_short_bonds_matters(original: Original, tmp_path: Path, change: dict[str, object]) -> None:
    assert original.config is not None
    settings = json.loads(original.config.read_text())
    settings["model"] |= change
    original.config.write_text(json.dumps(settings))
    convert(original.code, original.checkpoint, original.config, tmp_path / "model")
    found, expected = compare(original, tmp_path / "model")
    assert np.abs(found - expected).max() > 5 * CLOSE


@pytest.mark.parametrize("original", ["tiny-alignn"], indirect=True)
@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_weights_stand_alone_or_under_a_key_and_may_come_from_several_devices(
    original: Original, tmp_path: Path, key: str | None
) -> None:
    weights = {f"module.{name}": value for name, value in torch.load(original.checkpoint).items()}
    torch.save(weights if key is None else {key: weights, "optimizer": {}}, original.checkpoint)
    convert(original.code, original.checkpoint, original.config, tmp_path / "model")
    found, expected = compare(original, tmp_path / "model")
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("original", ["tiny-cgcnn"], indirect=True)
def test_the_folder_says_what_is_known(original: Original, tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"target_key": "gap", "cutoff": 8, "max_neighbors": 12}')
    convert("cgcnn", original.checkpoint, settings, tmp_path / "model")
    description = load_model(tmp_path / "model").description
    assert description.elements is None
    assert description.target_names == ["gap"]
    assert description.converted_from is not None
    assert (description.converted_from.code, description.converted_from.file) == ("cgcnn", "checkpoint.pt")
    assert (description.scaler.mean, description.scaler.std) == ((-1.5,), (4.0,))


@pytest.mark.parametrize("original", ["tiny-alignn"], indirect=True)
def test_several_outputs_have_a_name_each(original: Original, tmp_path: Path) -> None:
    conversion = convert("alignn", original.checkpoint, original.config, tmp_path / "model")
    assert load_model(tmp_path / "model").description.target_names == ["target_0", "target_1"]
    assert conversion.notes == []


@pytest.mark.parametrize("original", ["tiny-alignn-classes"], indirect=True)
def test_classes_keep_their_threshold(original: Original, tmp_path: Path) -> None:
    convert("alignn", original.checkpoint, original.config, tmp_path / "model")
    scaler = load_model(tmp_path / "model").scaler
    assert (scaler.classes, scaler.threshold) == ((0.0, 1.0), 0.1)
