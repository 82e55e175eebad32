"""The study of JARVIS-DFT: its splits, its table, and predictions side by side."""

import csv
import gzip
import json
import random

import pytest

from benchmarks.jarvis_dft import HELD_OUT, add_predictions, curves_by_property, held_out_ids, table
from benchmarks.predicted_labels import official_split
from benchmarks.several import rows_for_pretraining


def test_the_official_split_is_that_of_the_leaderboard():
    """Shuffle with seed 123, then divide 80/10/10, a property that every third row lacks; also with fewer labeled."""
    rows = [{"id": str(row), **({"gap": 1.0} if row % 3 else {})} for row in range(100)]
    having = [row["id"] for row in rows if "gap" in row]
    random.Random(123).shuffle(having)
    full = {"id_train": having[:52], "id_val": having[-12:-6], "id_test": having[-6:]}
    assert official_split(rows, "gap") == full
    assert official_split(rows, "gap", 5) == full | {"id_train": having[:3]}


def test_pretraining_sees_no_held_out_crystal_and_no_duplicate_of_one(tmp_path):
    rows = []
    for number in range(60):
        row = {"id": str(number), "lattice_mat": [[4 + 0.03 * number, 0, 0], [0, 5, 0], [0, 0, 6]], "elements": ["Fe"],
               "frac_coords": [[0, 0, 0]], "formation_energy_peratom": 0, "optb88vdw_bandgap": 0,
               "optb88vdw_total_energy": 0, "ehull": 0}  # fmt: skip
        if number < 40:
            row |= dict.fromkeys(HELD_OUT, 1.0)
        rows.append(row)
    split = official_split(rows, "mbj_bandgap")
    held_out = {*split["id_val"], *split["id_test"]}
    one = rows[int(split["id_test"][0])]
    rows[50]["lattice_mat"] = [[2 * x for x in one["lattice_mat"][0]], [0, 5, 0], [0, 0, 6]]
    rows[50] |= {"elements": ["Fe", "Fe"], "frac_coords": [[0.1, 0, 0], [0.6, 0, 0]]}  # its supercell, shifted
    del rows[51]["ehull"]
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(json.dumps(row) for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.several.N_VALIDATION", 5)
        ids = rows_for_pretraining(path, held_out_ids(path))
    left = {str(row) for row in range(60)} - held_out - {"50", "51"}
    assert {*ids["id_train"], *ids["id_val"]} == left
    assert len(ids["id_val"]) == 5


def test_arms_are_put_beside_each_other(tmp_path):
    path = tmp_path / "gap.csv"
    add_predictions(path, "plain", [{"id": "a", "target": "1.0", "prediction": "1.25"}])
    add_predictions(path, "from several", [{"id": "a", "target": "1.0", "prediction": "0.75"}])
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"id": "a", "target": "1.0", "plain": "1.25", "from several": "0.75"}]
    with pytest.raises(ValueError, match="other test crystals"):
        add_predictions(path, "gatgnn", [{"id": "b", "target": "1.0", "prediction": "0.75"}])


def test_the_table_has_a_row_per_property():
    row = {"arm": "plain", "property": "slme", "n_test": "906", "test_mae": "5.1234", "standard_error": "0.2345"}
    assert table([row]).splitlines()[-1] == "| slme, % | 906 | 5.12 ± 0.2 |"


def test_curves_have_the_chosen_arms_with_several_sizes():
    full = {"arm": "plain", "property": "slme", "n_train": "7248", "test_mae": "4.5", "seed": "123"}
    fewer = full | {"n_train": "90", "test_mae": "7.5"}
    alone = full | {"arm": "from several"}
    others = [full | {"arm": "gatgnn", "n_train": size} for size in ("90", "453")]
    expected = {"slme: test MAE, %": {"plain": {7248: {123: 4.5}, 90: {123: 7.5}}}}
    assert curves_by_property([full, alone, fewer, *others]) == expected
