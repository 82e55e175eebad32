"""Labels by a network for crystals that have none."""

import json
import random

import pytest

from benchmarks.predicted_labels import with_predicted_labels
from benchmarks.study import read_rows
from crysmm.inference.predictor import load


def test_the_network_labels_what_has_no_label_and_is_trained_on(crystals, save_small_model, tmp_path):
    elements = {"Si", "Na", "Cl"}
    known = [crystal for crystal in crystals.values() if set(crystal.elements) <= elements]
    rows = [
        {
            "id": str(number),
            "atoms": known[number % len(known)].to_jarvis().to_dict(),
            **({"K": 7.0} if number < 10 else {}),
        }
        for number in range(14)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    save_small_model(tmp_path / "model", "cgcnn")
    options = with_predicted_labels(data, "K", tmp_path / "model", tmp_path / "labels")
    table = read_rows(tmp_path / "labels" / "K.jsonl")
    split = json.loads((tmp_path / "labels" / "K_ids.json").read_text())
    assert options[::2] == ["--root_dir", "--target_key", "--ids_file"]
    assert [row["K"] for row in table[:10]] == [7.0] * 10
    expected = load(tmp_path / "model").predict([row["atoms"] for row in rows[10:]])[:, 0]
    assert [row["K"] for row in table[10:]] == pytest.approx(list(expected))
    order = list(map(str, range(10)))
    random.Random(123).shuffle(order)  # the split of the leaderboard: 80/10/10
    assert (split["id_train"][:8], split["id_val"], split["id_test"]) == (order[:8], order[8:9], order[9:])
    assert {*split["id_train"], *split["id_val"], *split["id_test"]} == set(map(str, range(14)))
