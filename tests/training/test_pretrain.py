"""Pre-training runs on the sample data, and what becomes of their encoders."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from crysmm.cli.main import main
from crysmm.config import PretrainingConfig
from crysmm.config.loading import make_config as make_checked
from crysmm.data.batch import collate_crystals
from crysmm.device import Machine
from crysmm.errors import CrysmmError, InputError, ModelFolderError
from crysmm.inference.model_files import WEIGHTS_FILE
from crysmm.inference.model_folder import read_description, read_weights
from crysmm.inference.saved_models import load_encoder, load_model
from crysmm.io.inputs import open_source
from crysmm.objectives.quality import EncoderQuality
from crysmm.processes import Processes
from crysmm.training.prepare import prepare_data
from crysmm.training.pretrain import pretrain
from crysmm.training.train import train
from crysmm.training.transfer import FrozenWeights, copy_weights

PRETRAINING = {
    "root_dir", "output_dir", "cache_dir", "limit", "n_val", "epochs", "batch_size", "model", "device", "precision",
    "progress", "jobs",
}  # fmt: skip

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"


@pytest.fixture
def make_pretraining(make_config, tmp_path):
    """A function that makes the settings of a pre-training run of seconds."""

    def make(**changes):
        settings = make_config().model_dump(include=PRETRAINING) | {"output_dir": tmp_path / "encoder", "epochs": 2}
        return PretrainingConfig(**(settings | changes))

    return make


@pytest.mark.parametrize("method", ["crysae", "crysgnn"])
def test_run_folder_holds_an_encoder_and_what_it_knows(make_pretraining, method, capsys):
    result = pretrain(make_pretraining(method=method))
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "README.md", "config.json", "history.csv", "history.png", "ids_train_val_test.json", "metrics.json",
        "model.json", "model.safetensors", "skipped.csv", "train.log",
    }  # fmt: skip
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics["monitored"] == "val_loss"
    assert 0 <= metrics["quality"]["connectivity_accuracy"] <= 1
    assert 0 <= metrics["quality"]["knn_purity"] <= 1
    assert "symmetry" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "crysgnn"},
        {"method": "crysae", "model": {"name": "gatgnn", "node_features": 8}, "neighbor_strategy": "k-nearest"},
    ],
)
def test_the_command_that_is_said_takes_over_the_whole_encoder(make_config, make_pretraining, settings, capsys):
    """Its backbone, sizes and graphs."""
    encoder = pretrain(make_pretraining(**{"model": {"name": "cgcnn", "node_features": 8}, "cutoff": 6.0} | settings))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fine-tune with: crysmm ")]
    common = make_config().model_dump(include=PRETRAINING - {"model"}, mode="json", exclude_none=True)
    others = [word for name, value in common.items() for word in (f"--{name}", str(value).lower())]
    assert main([*shlex.split(line)[3:], *others]) == 0
    description = read_description(encoder.folder)
    n_weights = sum(name.startswith("backbone.") for name in read_weights(encoder.folder, description))
    assert f": {n_weights} of " in capsys.readouterr().out
    assert read_description(make_config().output_dir).graph == description.graph


def test_it_is_said_how_many_cells_are_asked_by_sample(make_pretraining, capsys):
    config = make_pretraining(method={"name": "crysae", "max_pairs": 50})
    pretrain(config)
    sizes = [len(row.read().crystal) for row in open_source(config.root_dir, limit=config.limit).rows()]
    n_large = sum(size**2 > 50 for size in sizes)
    assert 0 < n_large < len(sizes)
    assert f"{n_large} crystals have more than 50 pairs of atoms" in capsys.readouterr().out


def test_encoders_are_judged_by_the_crystals_held_out(make_pretraining, monkeypatch):
    judged = []
    add = EncoderQuality.add
    monkeypatch.setattr(EncoderQuality, "add", lambda self, batch: judged.extend(batch.ids) or add(self, batch))
    folder = pretrain(make_pretraining()).folder
    assert judged == json.loads((folder / "ids_train_val_test.json").read_text())["id_val"]


def test_targets_are_not_needed(make_pretraining, crystals):
    records = [
        {"jid": name, "lattice_mat": crystal.lattice, "frac_coords": crystal.frac_coords, "elements": crystal.elements}
        for name, crystal in crystals.items()
    ]
    result = pretrain(make_pretraining(root_dir=None, limit=None, n_val=3), records)
    assert result.metrics["n_crystals"] == len(crystals)


def test_the_loss_falls(make_pretraining):
    pretrain(make_pretraining(epochs=6, method={"name": "crysae", "mask_ratio": 0.15, "distance_noise": 0.1}))
    table = np.genfromtxt(make_pretraining().output_dir / "history.csv", delimiter=",", names=True)
    assert table["val_loss"][-1] < 0.9 * table["val_loss"][0]
    parts = sum(table[f"val_{term}"] for term in ("features", "connectivity", "bond_lengths", "distances"))
    np.testing.assert_allclose(table["val_loss"], parts, rtol=1e-6)  # the weights are 1


def test_an_encoder_imitates_a_potential_and_then_needs_it_no_more(
    make_config, make_pretraining, toy, monkeypatch, capsys
):
    config = make_pretraining(epochs=20, learning_rate=0.03, method={"name": "imitation", "teacher": "toy"})
    made = pretrain(config)
    assert "teacher toy: 5 features per atom" in capsys.readouterr().out
    table = np.genfromtxt(made.folder / "history.csv", delimiter=",", names=True)
    assert table["train_loss"][-1] < 0.5 * table["train_loss"][0]
    assert 0 < made.metrics["quality"]["imitation_cosine"] < 1
    for module in ("toy_teacher", "chgnet", "sevenn"):
        monkeypatch.setitem(sys.modules, module, None)
    tuned = train(make_config(init_from=made.folder))
    assert np.isfinite(tuned.metrics["test"]["mae"])


def test_an_encoder_imitates_an_own_model_whose_path_is_not_written(make_config, make_pretraining):
    own = train(make_config(epochs=1)).folder
    made = pretrain(make_pretraining(method={"name": "imitation", "teacher": str(own)}))
    for name in ("model.json", "README.md"):
        assert str(own) not in (made.folder / name).read_text()
    assert json.loads((made.folder / "model.json").read_text())["config"]["method"]["teacher"] == own.name
    assert f"--method.teacher {own.name}" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("imitation", r"--method\.teacher: missing"),
        ({"name": "imitation", "teacher": "nobody"}, "nobody"),
        ({"name": "imitation", "teacher": "missing.parquet"}, "missing.parquet"),
    ],
)
def test_a_teacher_to_imitate_is_named_and_there(make_pretraining, method, expected):
    with pytest.raises(CrysmmError, match=expected):
        pretrain(make_checked(PretrainingConfig, make_pretraining().model_dump() | {"method": method}))


class StoppedError(Exception):
    """What stands for a crash."""


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_equals_uninterrupted(make_pretraining, tmp_path, monkeypatch, workers):
    config = make_pretraining(epochs=4, method={"name": "crysgnn", "mask_ratio": 0.2, "distance_noise": 0.1})
    whole = pretrain(config)
    broken = config.model_copy(update={"output_dir": tmp_path / "broken"})

    def crash_in_epoch_3(self, epoch):
        if epoch == 2:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(FrozenWeights, "begin_epoch", crash_in_epoch_3)
        with pytest.raises(StoppedError):
            pretrain(broken)
    assert not (broken.output_dir / "model.json").exists()
    pretrain(broken.model_copy(update={"resume": True, "num_workers": workers}))
    assert (broken.output_dir / WEIGHTS_FILE).read_bytes() == (whole.folder / WEIGHTS_FILE).read_bytes()


@pytest.fixture
def encoder(make_pretraining):
    """The folder of a pre-trained encoder."""
    return pretrain(make_pretraining()).folder


def test_encoder_gives_the_embeddings_it_was_saved_with(encoder, crystals):
    loaded = load_encoder(encoder)
    description = read_description(encoder)
    reference = description.references[-1]
    batch = collate_crystals([crystals["Cu"], reference.crystal], loaded.settings)
    with torch.no_grad():
        embedding = loaded.backbone(batch).graph[1]
    np.testing.assert_allclose(embedding, reference.prediction, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.backbone.parameters())
    assert not loaded.backbone.training


def test_encoder_of_a_property_model(make_config, encoder):
    folder = train(make_config()).folder
    loaded, model = load_encoder(folder), load_model(folder)
    for name, weight in model.network.backbone.state_dict().items():
        torch.testing.assert_close(loaded.backbone.state_dict()[name], weight, rtol=0, atol=0)
    assert loaded.weights_sha256 != load_encoder(encoder).weights_sha256


def test_encoder_whose_numbers_have_changed_is_refused(encoder):
    path = encoder / "model.json"
    content = json.loads(path.read_text())
    content["references"][0]["prediction"][0] += 0.1
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="are now predicted differently"):
        load_encoder(encoder)


def test_an_encoder_with_embeddings_of_another_width_is_refused(encoder):
    path = encoder / "model.json"
    content = json.loads(path.read_text())
    content["references"][0]["prediction"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="have 7 and 8 numbers, expected 8"):
        load_encoder(encoder)


def test_an_encoder_predicts_nothing_and_says_what_to_do(encoder, capsys, tmp_path):
    output = tmp_path / "predictions.csv"
    assert main(["predict", "--model", str(encoder), "--root_dir", str(SAMPLE_DATA), "--output", str(output)]) == 2
    assert "pre-trained encoder, which predicts no property: fine-tune it first" in capsys.readouterr().err


def test_fine_tuning_takes_the_backbone_and_leaves_the_decoders(make_config, encoder, capsys):
    train(make_config(init_from=encoder))
    printed = capsys.readouterr().out
    n_loaded = len(load_encoder(encoder).backbone.state_dict())
    assert f"weights from {encoder}: {n_loaded} of" in printed
    assert "left out decoders." in printed
    assert printed.count("left out head.output (only in the new network)") == 1


@pytest.mark.parametrize(("frozen", "stays"), [(1, False), (3, True)])
def test_frozen_weights_stay_for_so_many_epochs(make_config, encoder, frozen, stays):
    start = load_encoder(encoder).backbone.state_dict()
    folder = train(make_config(init_from=encoder, freeze_epochs=frozen, epochs=3)).folder
    history = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    assert len(set(history["train_loss"])) == 3  # the head has learned all the time
    if not stays and history["val_mae"].argmin() == 0:
        pytest.fail("the best epoch is the frozen one, so that nothing is seen of the others; take another seed")
    weights = read_weights(folder, read_description(folder))
    assert all(torch.equal(weights[f"backbone.{name}"], tensor) for name, tensor in start.items()) == stays


def test_freezing_needs_weights(make_config):
    with pytest.raises(ValueError, match="has no effect without --init_from"):
        make_config(freeze_epochs=2)


def test_a_network_of_another_width_takes_nothing(make_config, encoder):
    from crysmm.models.networks import build_network

    config = make_config(model={"name": "cgcnn", "node_features": 5})
    with pytest.raises(InputError, match="no weight of"):
        copy_weights(build_network(config, 1), "cgcnn", encoder)
    narrow = make_config(model={"name": "cgcnn", "node_features": 32})  # of this model, only the head fits
    with pytest.raises(InputError, match="no weight of the backbone of"):
        copy_weights(build_network(narrow, 1), "cgcnn", "jarvis-bulk-modulus")


@pytest.mark.parametrize("settings", [{"init_from": "nowhere"}, {"head": {"name": "distilled", "teacher": "nowhere"}}])
def test_a_model_that_is_not_there_is_told_before_anything_is_read(make_config, tmp_path, settings):
    with pytest.raises(ModelFolderError, match="nowhere is not a folder"):
        train(make_config(root_dir=tmp_path / "no_structures_either", **settings))


def test_moved_atoms_are_other_data(make_pretraining, crystals):
    def records(shift):
        return [
            {
                "jid": f"{name}-{copy}",
                "lattice_mat": crystal.lattice,
                "frac_coords": crystal.frac_coords + shift * (np.arange(len(crystal))[:, None] == 0),
                "elements": crystal.elements,
            }
            for name, crystal in crystals.items()
            for copy in range(2)
        ]

    config = make_pretraining(root_dir=None, limit=None, n_val=3)
    processes = Processes(config, Machine.of(config))
    processes.connect()
    still, moved = (prepare_data(config, records(shift), processes).fingerprint for shift in (0.0, 0.01))
    assert still == prepare_data(config, records(0.0), processes).fingerprint
    assert still != moved


def test_a_finished_pretraining_is_extended(make_pretraining, capsys):
    before = pretrain(make_pretraining()).metrics
    extended = pretrain(make_pretraining(epochs=3, resume=True)).metrics
    assert "extending the finished run from 2 to 3 epochs" in capsys.readouterr().out
    assert (before["epochs"], extended["epochs"]) == (2, 3)
    assert len((make_pretraining().output_dir / "history.csv").read_text().splitlines()) == 4
