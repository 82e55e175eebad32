"""Labels by a network for crystals whose labels are not used."""

import json
import random

import pytest

from benchmarks.predicted_labels import with_predicted_labels
from benchmarks.study import read_rows
from crysmm.inference.predictor import load


@pytest.mark.parametrize(("percent", "n_labeled"), [(80, 8), (30, 3)])
def test_the_network_labels_what_is_not_labeled_and_is_trained_on(
    percent, n_labeled, crystals, save_small_model, tmp_path
):
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
    options = with_predicted_labels(data, "K", percent, tmp_path / "model", tmp_path / "labels")
    split = json.loads((tmp_path / "labels" / "ids.json").read_text())
    assert options[::2] == ["--root_dir", "--target_key", "--ids_file"]
    order = list(map(str, range(10)))
    random.Random(123).shuffle(order)  # the split of the leaderboard: 80/10/10
    assert split.pop("id_val") == order[8:9]
    assert split.pop("id_test") == order[9:]
    known = {*order[:n_labeled], *order[8:]}
    hidden = order[n_labeled:8]  # labeled, but for a smaller part of the rows; else those without a label
    unlabeled = [row for row in rows if (row["id"] in hidden if hidden else "K" not in row)]
    assert split == {"id_train": [*order[:n_labeled], *(row["id"] for row in unlabeled)]}
    labels = {row["id"]: row["K"] for row in read_rows(tmp_path / "labels" / "table.jsonl")}
    predicted = load(tmp_path / "model").predict([row["atoms"] for row in unlabeled])[:, 0]
    expected = {row["id"]: value for row, value in zip(unlabeled, predicted, strict=True)}
    assert labels == pytest.approx(dict.fromkeys(known, 7.0) | expected)
