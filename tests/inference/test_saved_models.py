import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from crysmm.config import TrainingConfig
from crysmm.crystals.crystal import Crystal
from crysmm.data.batch import collate_crystals
from crysmm.data.scaler import TargetScaler
from crysmm.elements import elements_in
from crysmm.errors import InputError, ModelFolderError
from crysmm.inference.model_folder import read_description, reference_rows
from crysmm.inference.saved_models import load_members, load_model, save_model
from crysmm.models.networks import PropertyNetwork, build_network
from crysmm.training.transfer import copy_weights

CGCNN = {"name": "cgcnn", "node_features": 8, "fc_features": 8, "conv_layers": 1}
SPREAD = np.std([137.0, 168.0, 98.0, 42.0])  # of the targets of the small models, GPa
Save = Callable[..., PropertyNetwork]


@pytest.mark.parametrize("name", ["cgcnn", "crysxpp", "gatgnn", "alignn"])
def test_round_trip(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save, name: str) -> None:
    network = save_small_model(tmp_path, name).eval()
    model = load_model(tmp_path)
    batch = collate_crystals(list(crystals.values()), model.settings)
    with torch.no_grad():
        assert torch.equal(model.network(batch), network(batch))
    model.check_references()
    assert model.config.model.name == name
    assert model.description.target_names == ["K_VRH"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("settings", [{"classification_threshold": 100}, {"target_transform": "log10"}])
def test_references_of_classes_and_logarithms(tmp_path: Path, save_small_model: Save, settings: dict[str, Any]) -> None:
    save_small_model(tmp_path, **settings)
    model = load_model(tmp_path)
    model.check_references()
    assert len(model.description.references[0].prediction) == (2 if "classification_threshold" in settings else 1)


def test_graph_settings_are_kept(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path, "alignn", as_jarvis=True, use_canonize=False, cutoff=6.0)
    settings = load_model(tmp_path).settings
    assert (settings.as_jarvis, settings.use_canonize, settings.cutoff) == (True, False, 6.0)


def test_paths_of_the_run_stay_out(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path / "run", root_dir=tmp_path / "secret", output_dir=tmp_path / "run")
    assert str(tmp_path) not in (tmp_path / "run" / "model.json").read_text()


def test_a_model_trained_with_dgl_loads_without_it(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path)
    change_description(tmp_path, lambda content: content["config"].update(engine="dgl"))
    model = load_model(tmp_path)
    assert model.network.backbone.engine == "blocked"
    assert model.config.engine == "dgl"


def change_description(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def resize_a_weight(folder: Path, crystals: dict[str, Crystal]) -> None:
    """Weights of a wider network, with a checksum to match."""
    wide = folder / "wide"
    shutil.copytree(folder, wide)
    config = TrainingConfig(model={**CGCNN, "node_features": 12})
    scaler = TargetScaler.fit(np.array([[1.0], [2.0]]), [0, 1], config)
    save_model(
        wide, build_network(config, 1), config, scaler, target_names=["K"], elements=[], references=[crystals["Cu"]]
    )
    shutil.copy(wide / "model.safetensors", folder)
    change_description(folder, lambda content: content.update(weights_sha256=read_description(wide).weights_sha256))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (lambda folder: [path.unlink() for path in folder.iterdir()], "not a crysmm model folder"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no description": (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
    "a bit of the weights": (flip_a_bit, "model.safetensors is damaged"),
    "weights cut off": (lambda folder: (folder / "model.safetensors").write_bytes(b"PK"), "safetensors is damaged"),
    "description cut off": (lambda folder: (folder / "model.json").write_text('{"format": '), "model.json is damaged"),
    "another program's JSON": (lambda folder: (folder / "model.json").write_text("{}"), "not written by crysmm"),
    "a future format": (lambda folder: change_description(folder, lambda c: c.update(format_version=2)), "version 2"),
    "a format that is none": (
        lambda folder: change_description(folder, lambda c: c.update(format=["x"])),
        "not written",
    ),
    "versions of more than a word": (
        lambda folder: change_description(folder, lambda c: c["versions"].update(torch="2.13\ntouch evil #")),
        r"model.json is damaged .* versions\.torch: String should match pattern",
    ),
    "no references": (lambda folder: change_description(folder, lambda c: c.update(references=[])), "references: List"),
    "a reference that is no crystal": (
        lambda folder: change_description(folder, lambda c: c["references"][0].update(elements=["Xx"])),
        "model.json is damaged .* unknown element",
    ),
    "another graph": (
        lambda folder: change_description(folder, lambda c: c["graph"].update(atom_features="basic")),
        "graph does not agree with config",
    ),
    "a part left out": (lambda folder: change_description(folder, lambda c: c.pop("scaler")), "scaler: Field required"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(tmp_path: Path, save_small_model: Save, damage: str) -> None:
    save_small_model(tmp_path)
    harm, message = DAMAGES[damage]
    harm(tmp_path)
    with pytest.raises(ModelFolderError, match=message) as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_shapes_that_do_not_fit(tmp_path: Path, crystals: dict[str, Crystal], save_small_model: Save) -> None:
    save_small_model(tmp_path)
    resize_a_weight(tmp_path, crystals)
    with pytest.raises(ModelFolderError, match=r"is 24, expected 16"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("section", "changes", "problem"),
    [
        ("config", {"model": {**CGCNN, "conv_layers": 10**9}}, "less than or equal to 1000"),
        ("config", {"model": {**CGCNN, "node_features": 10**9}}, "less than or equal to 16384"),
        ("config", {"model": {**CGCNN, "node_features": 16384, "conv_layers": 500}}, "does not fit model.json"),
        ("scaler", {"n_targets": 10**9}, "scaler is not for 1 targets"),
    ],
)
def test_a_network_of_an_absurd_size_is_not_made(
    tmp_path: Path, save_small_model: Save, section: str, changes: dict[str, Any], problem: str
) -> None:
    save_small_model(tmp_path)
    change_description(tmp_path, lambda content: content[section].update(changes))
    with pytest.raises(ModelFolderError, match=problem):
        load_model(tmp_path)


def test_a_description_of_endless_brackets(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path)
    (tmp_path / "model.json").write_text("[" * 100_000)
    with pytest.raises(ModelFolderError, match=r"model\.json is damaged"):
        load_model(tmp_path)
    (tmp_path / "model.json").unlink()
    (tmp_path / "ensemble.json").write_text('{"members": ' + "[" * 100_000)
    with pytest.raises(ModelFolderError, match=r"ensemble\.json is damaged"):
        load_members(tmp_path)


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="is not a folder"):
        load_model(tmp_path / "nowhere")


def test_drift_of_the_references_is_refused(tmp_path: Path, save_small_model: Save) -> None:
    """A difference of 1e-3 deviations is told, one of 1e-6 is rounding."""
    save_small_model(tmp_path)
    change_description(tmp_path, lambda content: shift_prediction(content, 1e-6 * SPREAD))
    load_model(tmp_path).check_references()
    change_description(tmp_path, lambda content: shift_prediction(content, 1e-3 * SPREAD))
    with pytest.raises(ModelFolderError, match=r"by 0\.001 of the standard deviation"):
        load_model(tmp_path).check_references()


def test_predictions_of_another_width_are_refused(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path)
    change_description(tmp_path, lambda content: content["references"][0]["prediction"].append(1.0))
    with pytest.raises(ModelFolderError, match=r"model.json is damaged: .* numbers, expected 1; copy"):
        load_model(tmp_path).check_references()


def shift_prediction(content: dict[str, Any], amount: float) -> None:
    content["references"][0]["prediction"][0] += amount


def test_nothing_is_unpickled(tmp_path: Path, save_small_model: Save) -> None:
    """A pickle under the name of the weights, with its checksum, is refused as what it is."""
    import hashlib

    save_small_model(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    checksum = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    change_description(tmp_path, lambda content: content.update(weights_sha256=checksum))
    with pytest.raises(ModelFolderError, match="not a safetensors file"):
        load_model(tmp_path)


def test_weights_without_one_tensor(tmp_path: Path, save_small_model: Save) -> None:
    import hashlib

    network = save_small_model(tmp_path)
    weights = {name: tensor for name, tensor in network.state_dict().items() if name != "head.output.bias"}
    save_file(weights, tmp_path / "model.safetensors")
    checksum = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    change_description(tmp_path, lambda content: content.update(weights_sha256=checksum))
    with pytest.raises(ModelFolderError, match=r"head\.output\.bias is missing"):
        load_model(tmp_path)


def test_copy_into_another_head(tmp_path: Path, save_small_model: Save) -> None:
    source = save_small_model(tmp_path)
    config = TrainingConfig(model=CGCNN)
    torch.manual_seed(5)
    network = build_network(config, 3)
    head = network.head.output.weight.clone()
    report = copy_weights(network, "cgcnn", tmp_path)
    for name, tensor in source.backbone.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], tensor)
    assert torch.equal(network.head.output.weight, head)
    assert report.left_out == {
        "head.output.bias": "1 there, 3 here",
        "head.output.weight": "1 x 8 there, 3 x 8 here",
    }
    assert "left out head.output.bias (1 there, 3 here)" in report.text()
    assert "cgcnn, cutoff 8, 12 neighbors" in report.text()


def test_copy_into_another_backbone_is_refused(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path, "alignn")
    with pytest.raises(InputError, match="are those of alignn, and the backbone is cgcnn; give --model alignn"):
        copy_weights(build_network(TrainingConfig(model=CGCNN), 2), "cgcnn", tmp_path)


def test_a_few_weights_that_happen_to_fit_are_not_taken_over(tmp_path: Path, save_small_model: Save) -> None:
    """GATGNN's first layer has the name and the shape of CGCNN's."""
    source = save_small_model(tmp_path, "cgcnn")
    network = build_network(TrainingConfig(model={"name": "gatgnn", "node_features": 8}), 1)
    assert network.backbone.embedding.weight.shape == source.backbone.embedding.weight.shape
    with pytest.raises(InputError, match="are those of cgcnn, and the backbone is gatgnn"):
        copy_weights(network, "gatgnn", tmp_path)


def test_reference_rows_are_small_and_differ_in_size() -> None:
    n_atoms = np.array([40, 2, 1, 6, 7, 30, 5])
    assert reference_rows(range(7), n_atoms) == [2, 6, 3]
    assert reference_rows([0, 5], n_atoms) == [5]
    assert reference_rows([0, 1], n_atoms) == [1]


def test_elements_in_formulas() -> None:
    assert elements_in(["SrTiO3", "CsCl", "Si"]) == ["O", "Si", "Cl", "Ti", "Sr", "Cs"]


def test_folders_with_one_unit_are_read(tmp_path: Path, save_small_model: Save) -> None:
    save_small_model(tmp_path)
    assert load_model(tmp_path).description.units == ("GPa",)

    def as_before(content: dict[str, Any]) -> None:
        del content["units"]
        content["unit"] = "Mbar"

    change_description(tmp_path, as_before)
    assert load_model(tmp_path).description.units == ("Mbar",)
    change_description(tmp_path, lambda content: content.update(units=["a", "b"], unit=None))
    with pytest.raises(ModelFolderError):
        load_model(tmp_path)
