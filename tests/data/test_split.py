import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crysmm.config import TrainingConfig
from crysmm.data.split import Split, make_split
from crysmm.errors import InputError

IDS = [f"JVASP-{number}" for number in range(50)]
FORMULAS = [f"formula {number}" for number in range(50)]


def split_of(n_rows: int, **settings: Any) -> Split:
    ids = [f"crystal {row}" for row in range(n_rows)]
    return make_split(TrainingConfig(**settings), ids, ids)


def test_random_split_is_alignns_to_the_letter() -> None:
    """The rule of ALIGNN's get_id_train_val_test, with its defaults, written out; 57 makes every ratio round."""
    ids = list(range(57))
    random.Random(123).shuffle(ids)
    split = split_of(57)
    assert split.train == ids[: int((1 - 0.1 - 0.1) * 57)] == ids[:45]
    assert split.val == ids[-(5 + 5) : -5]
    assert split.test == ids[-5:]


def test_seed_decides_the_split() -> None:
    assert split_of(50) == split_of(50)
    assert split_of(50) != split_of(50, random_seed=7)


def test_keep_data_order_takes_rows_as_they_stand() -> None:
    split = split_of(20, keep_data_order=True)
    assert split == Split(list(range(16)), [16, 17], [18, 19])


def test_counts_and_no_test() -> None:
    split = split_of(20, keep_data_order=True, n_train=10, n_val=3, n_test=0)
    assert split == Split(list(range(10)), [17, 18, 19], [])


def test_train_is_what_counts_leave() -> None:
    split = split_of(20, keep_data_order=True, n_val=3, n_test=2)
    assert (len(split.train), len(split.val), len(split.test)) == (15, 3, 2)


def test_small_train_ratio_leaves_rows_out() -> None:
    split = split_of(100, train_ratio=0.05, val_ratio=0.1, test_ratio=0.5)
    assert (len(split.train), len(split.val), len(split.test)) == (5, 10, 50)


@pytest.mark.parametrize(
    ("n_rows", "settings", "message"),
    [
        (50, {"n_train": 40, "n_val": 10, "n_test": 10}, "50 readable, requested 40 .* 10 .* and 10"),
        (50, {"n_val": 40, "n_test": 20}, "50 readable"),
        (5, {}, "would be left for validation and testing: 5 crystals readable"),
        (0, {}, "for training and validation and testing: 0 crystals"),
        (20, {"n_val": 0, "n_test": 2}, "no crystal would be left for validation"),
        (20, {"train_ratio": 0.0}, "no crystal would be left for training"),
    ],
)
def test_impossible_split_states_the_numbers(n_rows: int, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_of(n_rows, **settings)


@given(n_rows=st.integers(10, 300), seed=st.integers(0, 1000), val=st.floats(0.1, 0.4), test=st.floats(0.1, 0.4))
def test_random_splits_never_overlap(n_rows: int, seed: int, val: float, test: float) -> None:
    split = split_of(n_rows, random_seed=seed, val_ratio=val, test_ratio=test)
    rows = split.train + split.val + split.test
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(n_rows))


@given(formulas=st.lists(st.integers(0, 30), min_size=80, max_size=200), seed=st.integers(0, 100))
def test_composition_split_shares_no_formula(formulas: list[int], seed: int) -> None:
    names = [f"A{number}" for number in formulas]
    config = TrainingConfig(split_strategy="composition", random_seed=seed)
    try:
        split = make_split(config, names, names)
    except InputError:  # one formula may be most of the data
        assert Counter(formulas).most_common(1)[0][1] > 0.1 * len(formulas)
        return
    groups = [{names[row] for row in rows} for rows in (split.train, split.val, split.test)]
    assert sum(map(len, groups)) == len(set.union(*groups))
    rows = split.train + split.val + split.test
    assert len(set(rows)) == len(rows)


def test_composition_split_meets_the_counts_and_mixes_polymorphs() -> None:
    """40 formulas with four polymorphs each among 240 others: the counts come out, and tests hold polymorphs too."""
    formulas = [f"A{number % 40}B" for number in range(160)] + [f"C{number}" for number in range(240)]
    config = TrainingConfig(split_strategy="composition")
    split = make_split(config, formulas, formulas)
    assert (len(split.train), len(split.val), len(split.test)) == (320, 40, 40)
    for rows in (split.train, split.val, split.test):
        share = sum(row < 160 for row in rows) / len(rows)
        assert 0.15 < share < 0.65  # 0.4 of all
    assert split == make_split(config, formulas, formulas)
    assert split != make_split(TrainingConfig(split_strategy="composition", random_seed=1), formulas, formulas)


def test_composition_split_of_one_formula_is_refused() -> None:
    with pytest.raises(InputError, match="20 crystals have 1 formulas"):
        make_split(TrainingConfig(split_strategy="composition"), IDS[:20], ["SiO2"] * 20)


def write_ids(folder: Path, **lists: list[str]) -> Path:
    path = folder / "ids_train_val_test.json"
    path.write_text(json.dumps({"id_train": IDS[:3], "id_val": IDS[5:6], "id_test": [], **lists}))
    return path


def test_ids_file_round_trip(tmp_path: Path) -> None:
    path = write_ids(tmp_path, id_test=["JVASP-9", "JVASP-8"])
    split = make_split(TrainingConfig(ids_file=path), IDS, FORMULAS)
    assert split == Split([0, 1, 2], [5], [9, 8])
    assert split.to_ids(IDS) == json.loads(path.read_text())


def test_ids_file_without_test_ids(tmp_path: Path) -> None:
    assert make_split(TrainingConfig(ids_file=write_ids(tmp_path)), IDS, FORMULAS).test == []


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"id_val": ["JVASP-5", "JVASP-99", "mp-1"]}, r"no readable row of the data has \(2\): JVASP-99, mp-1"),
        ({"id_val": ["JVASP-5", "JVASP-2"]}, r"more than once \(1\): JVASP-2"),
        ({"id_train": []}, "0 ids for training"),
        ({"id_test": "JVASP-1"}, "three lists"),
    ],
)
def test_ids_file_that_does_not_fit(tmp_path: Path, lists: dict[str, Any], message: str) -> None:
    config = TrainingConfig(ids_file=write_ids(tmp_path, **lists))
    with pytest.raises(InputError, match=message):
        make_split(config, IDS, FORMULAS)


def test_ids_that_several_rows_have(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"several rows of the data have \(1\): JVASP-1"):
        make_split(TrainingConfig(ids_file=write_ids(tmp_path)), [*IDS, "JVASP-1"], [*FORMULAS, "Si"])


def test_ids_file_says_why_its_rows_cannot_be_read(tmp_path: Path) -> None:
    config = TrainingConfig(ids_file=write_ids(tmp_path, id_val=["JVASP-5", "JVASP-99", "mp-1"]))
    with pytest.raises(InputError, match=r"JVASP-99 \(the file is empty\), mp-1; correct"):
        make_split(config, IDS, FORMULAS, {"JVASP-99": "the file is empty", "JVASP-98": "no"})


def test_ids_file_with_other_endings(tmp_path: Path) -> None:
    """``JVASP-1`` in the file and ``JVASP-1.vasp`` in the data is a frequent mistake, which the message names."""
    config = TrainingConfig(ids_file=write_ids(tmp_path))
    with pytest.raises(InputError, match=r"the data's ids have another ending: JVASP-0\.vasp, JVASP-1\.vasp"):
        make_split(config, [f"{name}.vasp" for name in IDS], FORMULAS)
    with pytest.raises(InputError) as refused:
        make_split(config, [f"JVASP.{name}" for name in range(50)], FORMULAS)
    assert "ending" not in str(refused.value)


def test_ids_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    with pytest.raises(InputError, match="cannot be read"):
        make_split(TrainingConfig(ids_file=path), IDS, FORMULAS)
    for text in ("id_train", "[" * 100_000, '{"id_train": [1], "id_val": [2], "id_test": [], "id_train": [3]}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is not JSON"):
            make_split(TrainingConfig(ids_file=path), IDS, FORMULAS)
