"""Labels by a network for crystals whose labels are not used."""

import json
import random
from pathlib import Path

import pytest
from pymatgen.core import Structure

import crysmm
from benchmarks.predicted_labels import with_predicted_labels
from benchmarks.study import read_rows

SAMPLE_DATA = Path(__file__).parents[2] / "examples" / "sample_data"
N_LABELED, N_ROWS = 10, 14


@pytest.mark.parametrize(("percent", "n_trained"), [(80, 8), (30, 3)])
def test_the_network_labels_what_is_not_labeled_and_is_trained_on(percent, n_trained, tmp_path):
    structures = [Structure.from_file(path) for path in sorted(SAMPLE_DATA.glob("*.vasp"))[:N_ROWS]]
    rows = [
        {"id": str(number), "structure": structure.as_dict(), **({"K": 7.0 + number} if number < N_LABELED else {})}
        for number, structure in enumerate(structures)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    small = {"conv_layers": 1, "node_features": 8, "fc_features": 8}
    settings = {"epochs": 1, "model": small, "device": "cpu", "jobs": 1, "progress": False, "cache_dir": tmp_path}
    crysmm.train(root_dir=data, target_key="K", train_ratio=percent / 100, output_dir=tmp_path / "run", **settings)
    options = with_predicted_labels(data, "K", percent, tmp_path / "run", tmp_path / "labels")
    assert options[::2] == ["--root_dir", "--target_key", "--ids_file"]
    split = json.loads(Path(options[-1]).read_text())
    order = list(map(str, range(N_LABELED)))
    random.Random(123).shuffle(order)  # the split of the leaderboard: 80/10/10
    assert split.pop("id_val") == order[8:9]
    assert split.pop("id_test") == order[9:]
    known = {*order[:n_trained], *order[8:]}
    hidden = order[n_trained:8]  # labeled, but for a smaller part of the rows; else those without a label
    unlabeled = [row for row in rows if (row["id"] in hidden if hidden else "K" not in row)]
    assert split == {"id_train": [*order[:n_trained], *(row["id"] for row in unlabeled)]}
    labels = {row["id"]: row["K"] for row in read_rows(Path(options[1]))}
    predicted = crysmm.load(tmp_path / "run", "cpu").predict([row["structure"] for row in unlabeled])[:, 0]
    expected = {row["id"]: value for row, value in zip(unlabeled, predicted, strict=True)}
    assert labels == pytest.approx({name: 7.0 + int(name) for name in known} | expected)
