"""Splits into training, validation and test crystals: random, by composition, or from a file of ids."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from crysmm.config.run import RunConfig
from crysmm.data.duplicates import rows_by_formula
from crysmm.errors import InputError, count, first_of
from crysmm.keys import load_json

SPLIT_KEYS = ("id_train", "id_val", "id_test")
PURPOSES = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True)
class Split:
    """Row indices of each split, in the order in which results are written."""

    train: list[int]
    val: list[int]
    test: list[int]

    def rows(self, name: str) -> list[int]:
        """Return the rows of ``train``, ``val`` or ``test``."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def to_ids(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the content of ``ids_train_val_test.json``: the ids of each split under ALIGNN's keys."""
        rows = (self.train, self.val, self.test)
        return {key: [ids[row] for row in split] for key, split in zip(SPLIT_KEYS, rows, strict=True)}


def make_split(
    config: RunConfig, ids: Sequence[str], formulas: Sequence[str], reasons: Mapping[str, str] | None = None
) -> Split:
    """Split the readable rows.

    Args:
        config: Split settings.
        ids: Ids, one per row.
        formulas: Reduced formulas, one per row; used by the split by composition.
        reasons: Why rows are not readable, by id; reported for those that a file of ids names.

    Raises:
        InputError: There are fewer rows than requested, a split would be empty, or the file of ids does not fit the
            data.
    """
    if config.ids_file is not None:
        return split_by_file(config.ids_file, ids, reasons)
    counts = _counts(config, len(ids))
    if config.split_strategy == "composition":
        return _split_by_composition(counts, formulas, config.random_seed)
    order = list(range(len(ids)))
    if not config.keep_data_order:
        random.Random(config.random_seed).shuffle(order)
    # as in ALIGNN: training rows from the front, test rows from the back, validation rows before those
    end_of_val = len(order) - counts["test"]
    return Split(
        train=order[: counts["train"]],
        val=order[end_of_val - counts["val"] : end_of_val],
        test=order[end_of_val:],
    )


def _counts(config: RunConfig, n_rows: int) -> Counter[str]:
    """Return the number of rows in each split, ratios rounded as in ALIGNN: ``int(ratio * n_rows)``.

    Raises:
        InputError: There are fewer rows than requested, or a split would be empty.
    """
    val_ratio, test_ratio = config.val_ratio or 0.0, config.test_ratio or 0.0
    n_val = config.n_val if config.n_val is not None else int(val_ratio * n_rows)
    n_test = config.n_test if config.n_test is not None else int(test_ratio * n_rows)
    if config.n_train is not None:
        n_train = config.n_train
    elif config.train_ratio is not None:
        n_train = int(config.train_ratio * n_rows)
    elif config.n_val is None and config.n_test is None:
        n_train = int((1 - val_ratio - test_ratio) * n_rows)
    else:
        n_train = n_rows - n_val - n_test
    counts = Counter(train=n_train, val=n_val, test=n_test)
    asked = f"{counts['val']} for validation and {counts['test']} for testing"
    asked = f"{counts['train']} for training, {asked}" if counts["train"] >= 0 else asked
    if counts["train"] < 0 or counts.total() > n_rows:
        raise InputError(
            f"the split needs more crystals than there are: {n_rows} readable, requested {asked}; "
            "lower n_train, n_val, n_test or the ratios, or add data"
        )
    test_is_wanted = config.n_test != 0 if config.n_test is not None else test_ratio > 0
    wanted = ("train", "val", "test") if test_is_wanted else ("train", "val")
    empty = [PURPOSES[name] for name in wanted if counts[name] == 0]
    if empty:
        raise InputError(
            f"no crystal would be left for {' and '.join(empty)}: {count(n_rows, 'crystal')} readable, of which the "
            f"split takes {asked}; give n_train, n_val and n_test, or add data (n_test 0 leaves out the test)"
        )
    return counts


def _split_by_composition(counts: Counter[str], formulas: Sequence[str], seed: int) -> Split:
    """Assign whole formulas, the most frequent first, with probabilities proportional to the room left.

    If every formula occurred once, this would be a random split with exactly the requested counts. A formula that
    fits nowhere goes where most room is left if that brings the count closer, and is left out otherwise.
    """
    rows_of = rows_by_formula(formulas, range(len(formulas)))
    chance = random.Random(seed)
    groups = [rows_of[formula] for formula in sorted(rows_of)]
    chance.shuffle(groups)
    groups.sort(key=len, reverse=True)
    split = Split([], [], [])
    dealt = {"train": split.train, "val": split.val, "test": split.test}
    for group in groups:
        room = {name: counts[name] - len(rows) for name, rows in dealt.items()}
        fitting = [name for name in room if room[name] >= len(group)]
        if fitting:
            name = chance.choices(fitting, [room[name] for name in fitting])[0]
        else:
            name = max(room, key=lambda candidate: room[candidate])
            if len(group) >= 2 * room[name]:
                continue
        dealt[name].extend(group)
    empty = [name for name, rows in dealt.items() if counts[name] and not rows]
    if empty:
        raise InputError(
            f"no formula is rare enough for the {' and the '.join(empty)} split: {len(formulas)} crystals have "
            f"{len(groups)} formulas, the most frequent {len(groups[0])} times, and {counts['train']}, "
            f"{counts['val']} and {counts['test']} crystals were requested; use split_strategy random or add data"
        )
    return split


def split_by_file(path: Path, ids: Sequence[str], reasons: Mapping[str, str] | None = None) -> Split:
    """Read the split in an ``ids_train_val_test.json``.

    Args:
        path: Path of the file.
        ids: Ids, one per row.
        reasons: Why other rows are not readable, by id.

    Raises:
        InputError: The file cannot be read or does not fit the rows.
    """
    wanted, reasons = read_ids(path), reasons or {}
    listed = Counter(name for names in wanted.values() for name in names)
    n_rows = Counter(ids)
    for problem, found in (
        ("ids given more than once", [name for name in listed if listed[name] > 1]),
        ("ids that no readable row of the data has", [name for name in listed if not n_rows[name]]),
        ("ids that several rows of the data have", [name for name in listed if n_rows[name] > 1]),
    ):
        if found:
            named = first_of([f"{name} ({reasons[name]})" if name in reasons else name for name in sorted(found)])
            raise InputError(
                f"the ids_file {path} cannot be used: it holds {problem} ({len(found)}): {named}"
                f"{_other_ending(found, ids)}; correct the file"
            )
    row_of = {name: row for row, name in enumerate(ids)}
    train, val, test = ([row_of[name] for name in wanted[key]] for key in SPLIT_KEYS)
    if not train or not val:
        raise InputError(
            f"{path} leaves a split empty: {len(train)} ids for training and {len(val)} for validation; "
            "give at least one of each"
        )
    return Split(train, val, test)


def _other_ending(names: Sequence[str], ids: Sequence[str]) -> str:
    """Return a remark if rows have ids that differ from the unknown ``names`` in their endings alone, or nothing."""
    row_of = {PurePath(name).stem: name for name in ids}
    found = [row_of.get(PurePath(name).stem, name) for name in names]
    if len(row_of) < len(ids) or any(name == other for name, other in zip(names, found, strict=True)):
        return ""
    return f"; the data's ids have another ending: {first_of(found)}"


def read_ids(path: Path) -> dict[str, list[str]]:
    """Read the ids under each of ``SPLIT_KEYS`` from an ``ids_train_val_test.json``.

    Raises:
        InputError: The file cannot be read or does not hold the three lists.
    """
    expected = 'expected {"id_train": [...], "id_val": [...], "id_test": [...]}'
    try:
        content: Any = load_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"the ids_file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the ids_file {path} is not JSON ({error}); {expected}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in SPLIT_KEYS):
        raise InputError(f"the ids_file {path} does not hold the three lists of ids; {expected}")
    return {key: [str(name) for name in content[key]] for key in SPLIT_KEYS}
