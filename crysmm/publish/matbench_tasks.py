"""Tasks of Matbench v0.1 with structures, their folds, and their data sets as matminer distributes them.

The folds are those in Matbench's own ``matbench_v0.1_validation.json``. A data set is one JSON object with ``index``,
``columns`` and rows under ``data``; a row holds a structure as pymatgen's dict and a value. Dunn et al., npj Comput.
Mater. 6, 138 (2020).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crysmm.crystals.conversion import as_crystal
from crysmm.errors import InputError, StructureError, nearest, shown
from crysmm.io.json_stream import json_object_items, open_text, read_json_object
from crysmm.io.source import Record, Row, read_number
from crysmm.publish.submission import installed_file

PACKAGE, FOLDS_FILE = "matbench", "matbench_v0.1_validation.json"
STRUCTURE = "structure"


@dataclass(frozen=True)
class Task:
    """A task of Matbench.

    Args:
        name: Full name.
        target: Property to predict, as Matbench calls it.
        unit: Unit of the property; None for classes.
    """

    name: str
    target: str
    unit: str | None

    @property
    def is_classification(self) -> bool:
        """True if the probability of a class is predicted."""
        return self.unit is None


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
        name: Name, such as ``fold_0``.
        train: Ids to train and validate on.
        test: Ids to predict, in the order of the fold.
    """

    name: str
    train: list[str]
    test: list[str]


def find_task(name: str) -> Task:
    """Return a task by its name, with or without ``matbench_`` in front.

    Raises:
        InputError: There is no such task, or it has only compositions.
    """
    full_name = name if name.startswith("matbench_") else f"matbench_{name}"
    if full_name in WITHOUT_STRUCTURES:
        raise InputError(f"--task: {full_name} has compositions and no structures, which are needed here")
    if full_name not in TASKS:
        raise InputError(f"--task: {name} is unknown{nearest(full_name, list(TASKS))}; there are {', '.join(TASKS)}")
    return TASKS[full_name]


def load_folds(task: Task, path: Path | None) -> list[Fold]:
    """Load the folds of a task.

    Args:
        task: Task of Matbench.
        path: Matbench's validation file; None looks for it in the package matbench.

    Raises:
        InputError: The file is missing, or does not hold the folds.
    """
    path = path or installed_file(PACKAGE, FOLDS_FILE)
    if path is None:
        raise InputError(
            f"--folds: the folds of {task.name} are not installed; give the file {FOLDS_FILE}: it is in the package "
            f"{PACKAGE} on PyPI (pip install --no-deps {PACKAGE} is enough, none of its code is run) and in its "
            "repository"
        )
    splits = read_json_object(path).get("splits")
    folds = splits.get(task.name) if isinstance(splits, dict) else None
    if not isinstance(folds, dict) or not folds:
        raise InputError(f"{path} has no folds of {task.name}; expected Matbench's {FOLDS_FILE}")
    return [_read_fold(name, content, path) for name, content in folds.items()]


def _read_fold(name: str, content: Any, path: Path) -> Fold:
    if not re.fullmatch(r"fold_[0-9]+", name):  # it becomes the name of a folder, so nothing like "../.." may pass
        raise InputError(f"{path} calls a fold {shown(name)}; expected names such as fold_0, as Matbench gives them")
    ids: dict[str, list[str]] = {}
    for split in ("train", "test"):
        names = content.get(split) if isinstance(content, dict) else None
        if not isinstance(names, list) or not names or not all(isinstance(identifier, str) for identifier in names):
            raise InputError(f"{path} has no list of ids under {split} of {name}")
        ids[split] = names
    if len({*ids["train"], *ids["test"]}) < len(ids["train"]) + len(ids["test"]):
        raise InputError(f"{path} gives an id of {name} twice")
    return Fold(name, ids["train"], ids["test"])


def is_matminer_table(path: Path) -> bool:
    """Return True for a JSON file that holds an object; other tables hold a list, or one row per line."""
    if not path.is_file() or not path.name.endswith((".json", ".json.gz", ".json.zip")):
        return False
    with open_text(path) as stream:
        return stream.read(64).lstrip().startswith("{")


@dataclass(frozen=True)
class MatminerRow(Row):
    """A row of a data set of matminer, with its structure not read yet.

    Args:
        id: Id of the crystal.
        file: File and row, for messages.
        text: JSON text of the row.
        columns: Positions of the structure and of the value in the row.
        target: Name of the value, for messages.
    """

    text: str
    columns: tuple[int, int]
    target: str

    def read(self) -> Record:
        """Read the structure and the value.

        Raises:
            StructureError: The structure or the value cannot be used.
        """
        cells = json.loads(self.text)
        if not isinstance(cells, list) or len(cells) <= max(self.columns):
            raise StructureError("the row has fewer cells than there are columns")
        structure, value = (cells[column] for column in self.columns)
        try:
            crystal = as_crystal(structure)
        except TypeError as error:
            raise StructureError(f"the structure cannot be read: {error}") from error
        return Record(self.id, crystal, (read_number(value, self.target),), self.file)


def matminer_rows(path: Path, task_name: str, target: str) -> Iterator[MatminerRow]:
    """Yield the rows of a data set, with the ids that Matbench gives them, such as ``mb-jdft2d-001``.

    The file is streamed row by row, so that its size does not matter.

    Args:
        path: File of the data set.
        task_name: Full name of the task, which the ids start with; the number of the row in the index follows,
            counted from 1 and padded with zeros.
        target: Column of the values.

    Raises:
        InputError: The file is not a data set of matminer.
    """
    prefix = task_name.replace("matbench", "mb").replace("_", "-")
    members: dict[str, Any] = {}
    columns: tuple[int, int] | None = None
    index: Iterator[int] = iter(())
    digits = 0
    for key, place, text in json_object_items(path, "data"):
        if key != "data":
            members[key] = json.loads(text)
            continue
        if columns is None:  # the first row; index and columns come before the data in these files
            columns = _find_columns(members, target, path)
            index, digits = iter(members["index"]), len(str(len(members["index"])))
        number = next(index, None)
        if number is None:
            raise InputError(f"{path} has more rows than its index; is it complete?")
        yield MatminerRow(f"{prefix}-{number + 1:0{digits}d}", place, text, columns, target)


def _find_columns(members: Mapping[str, Any], target: str, path: Path) -> tuple[int, int]:
    """Return the positions of the structure and of the target in a row."""
    index, columns = members.get("index"), members.get("columns")
    if not isinstance(index, list) or not isinstance(columns, list) or not all(type(i) is int for i in index):
        raise InputError(
            f"{path} is not a data set of matminer; expected an object with index, columns and data, in this order"
        )
    for name in (STRUCTURE, target):
        if name not in columns:
            raise InputError(f"{path} has no column {name!r}; it has {', '.join(map(str, columns))}")
    return columns.index(STRUCTURE), columns.index(target)
