"""The tasks of Matbench v0.1 that have structures, and the folds of each.

Folds are those of Matbench's own ``matbench_v0.1_validation.json``. Dunn et al., npj Comput. Mater. 6, 138 (2020).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.config.loading import nearest
from crysmm.crystal import as_crystal
from crysmm.errors import InputError, StructureError, shown
from crysmm.io.json_stream import json_object_items, open_text, read_json_object
from crysmm.io.source import Record, read_number
from crysmm.publish.submission import installed_file

PACKAGE, FOLDS_FILE = "matbench", "matbench_v0.1_validation.json"


@dataclass(frozen=True)
class Task:
    """A task.

    Args:
        name: its whole name.
        target: the property, as Matbench calls it.
        unit: of the property; None for classes.
    """

    name: str
    target: str
    unit: str | None

    @property
    def is_classification(self) -> bool:
        """Whether it asks for the probability of a class."""
        return self.unit is None

    @property
    def prefix(self) -> str:
        """What the ids of its crystals begin with."""
        return self.name.replace("matbench", "mb").replace("_", "-")


TASKS = {
    task.name: task
    for task in (
        Task("matbench_dielectric", "n", "1"),
        Task("matbench_jdft2d", "exfoliation_en", "meV/atom"),
        Task("matbench_log_gvrh", "log10(G_VRH)", "log10(GPa)"),
        Task("matbench_log_kvrh", "log10(K_VRH)", "log10(GPa)"),
        Task("matbench_mp_e_form", "e_form", "eV/atom"),
        Task("matbench_mp_gap", "gap pbe", "eV"),
        Task("matbench_mp_is_metal", "is_metal", None),
        Task("matbench_perovskites", "e_form", "eV/unit cell"),
        Task("matbench_phonons", "last phdos peak", "cm^-1"),
    )
}
WITHOUT_STRUCTURES = ("matbench_expt_gap", "matbench_expt_is_metal", "matbench_glass", "matbench_steels")


@dataclass(frozen=True)
class Fold:
    """One fold of a task.

    Args:
        name: such as ``fold_0``.
        train: ids that may be learned from and validated on.
        test: ids to be predicted, in the order of the fold.
    """

    name: str
    train: list[str]
    test: list[str]


def find_task(name: str) -> Task:
    """A task by its name, with ``matbench_`` before it or without.

    Raises:
        InputError: there is no such task, or it has compositions alone.
    """
    whole = name if name.startswith("matbench_") else f"matbench_{name}"
    if whole in WITHOUT_STRUCTURES:
        raise InputError(f"--task: {whole} has compositions and no structures, which are needed here")
    if whole not in TASKS:
        raise InputError(f"--task: {name} is unknown{nearest(whole, list(TASKS))}; there are {', '.join(TASKS)}")
    return TASKS[whole]


def load_folds(task: Task, path: Path | None) -> list[Fold]:
    """The folds of a task.

    Args:
        task: whose.
        path: of Matbench's validation file; by default it is looked for in the package matbench, if that is installed.

    Raises:
        InputError: the file is not there, or does not hold the folds.
    """
    path = path or installed_file(PACKAGE, FOLDS_FILE)
    if path is None:
        raise InputError(
            f"--folds: the folds of {task.name} are not here; give the file {FOLDS_FILE}: it is in the package "
            f"{PACKAGE} on PyPI (pip install --no-deps {PACKAGE} is enough, no code of it is run) and in its repository"
        )
    splits = read_json_object(path).get("splits")
    folds = splits.get(task.name) if isinstance(splits, dict) else None
    if not isinstance(folds, dict) or not folds:
        raise InputError(f"{path} has no folds of {task.name}; expected Matbench's {FOLDS_FILE}")
    return [_fold(name, content, path) for name, content in folds.items()]


def _fold(name: str, content: Any, path: Path) -> Fold:
    if not re.fullmatch(r"fold_[0-9]+", name):  # a folder is called so
        raise InputError(f"{path} calls a fold {shown(name)}; expected names such as fold_0, as Matbench gives them")
    train, test = (_ids(content, split, name, path) for split in ("train", "test"))
    if len({*train, *test}) < len(train) + len(test):
        raise InputError(f"{path} gives an id of {name} twice")
    return Fold(name, train, test)


def _ids(content: Any, split: str, name: str, path: Path) -> list[str]:
    ids = content.get(split) if isinstance(content, dict) else None
    if not isinstance(ids, list) or not ids or not all(isinstance(identifier, str) for identifier in ids):
        raise InputError(f"{path} has no list of ids under {split} of {name}")
    return ids


STRUCTURE = "structure"


def is_matminer_table(path: Path) -> bool:
    """Whether a path is a JSON file that holds an object, where other tables hold a list or lines."""
    if not path.is_file() or not path.name.endswith((".json", ".json.gz", ".json.zip")):
        return False
    with open_text(path) as stream:
        return stream.read(64).lstrip().startswith("{")


@dataclass(frozen=True)
class MatminerRow:
    """One row, its structure not read yet."""

    id: str
    file: str
    text: str
    places: tuple[int, int]
    target: str

    def read(self) -> Record:
        """The record.

        Raises:
            StructureError: the structure or the value cannot be used.
        """
        cells = json.loads(self.text)
        if not isinstance(cells, list) or len(cells) <= max(self.places):
            raise StructureError("the row has fewer cells than there are columns")
        structure, value = (cells[place] for place in self.places)
        try:
            crystal = as_crystal(structure)
        except TypeError as error:
            raise StructureError(f"the structure cannot be read: {error}") from error
        return Record(self.id, crystal, (read_number(value, self.target),), self.file)


def matminer_rows(path: Path, prefix: str, target: str) -> Iterator[MatminerRow]:
    """Every row of a data set, called as Matbench calls it.

    Args:
        path: of the file.
        prefix: what the ids begin with, such as ``mb-jdft2d``; the number of the row follows, from 1, with as many
            digits as the number of rows has.
        target: name of the column of the values.

    Raises:
        InputError: the file is not of this form.
    """
    members: dict[str, Any] = {}
    names: Iterator[str] | None = None
    places = (0, 0)
    for key, place, text in json_object_items(path, "data"):
        if key != "data":
            members[key] = json.loads(text)
            continue
        if names is None:
            places = _places(members, target, path)
            names = _names(members["index"], prefix)
        name = next(names, None)
        if name is None:
            raise InputError(f"{path} has more rows than its index; is it complete?")
        yield MatminerRow(name, place, text, places, target)


def _names(index: Sequence[int], prefix: str) -> Iterator[str]:
    digits = len(str(len(index)))
    return (f"{prefix}-{number + 1:0{digits}d}" for number in index)


def _places(members: Mapping[str, Any], target: str, path: Path) -> tuple[int, int]:
    index, columns = members.get("index"), members.get("columns")
    if not isinstance(index, list) or not isinstance(columns, list) or not all(type(i) is int for i in index):
        raise InputError(
            f"{path} is not a data set of matminer; expected an object of index, columns and data, in this order"
        )
    for name in (STRUCTURE, target):
        if name not in columns:
            raise InputError(f"{path} has no column {name!r}; it has {', '.join(map(str, columns))}")
    return columns.index(STRUCTURE), columns.index(target)
