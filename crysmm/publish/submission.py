"""The crystals of a benchmark with its values, written to one file that is trained on."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from crysmm.config.loading import SIZES, make_config
from crysmm.config.run import DEFAULT_RATIO
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, StructureError, brief, first_of
from crysmm.files import disables_bar, replacing, write_text_atomic
from crysmm.io.source import Row, SkippedRow
from crysmm.io.structure_file import SUFFIXES
from crysmm.io.table import crystal_row, write_rows

Values = Mapping[str, tuple[float, ...] | None]
"""By id; None where the value is the source's own."""


def write_data(
    rows: Iterable[Row | SkippedRow], target: str, values: Values, path: Path, *, progress: bool = True
) -> None:
    """Write the crystals of a benchmark, in the order of their source, as ``.jsonl.gz``.

    Args:
        rows: hold them, among others.
        target: name of what is learned.
        values: which crystals, and their values of it.
        path: of the file; it appears when it is whole.
        progress: show a bar.

    Raises:
        InputError: crystals are missing, or cannot be read; nothing is written then.
    """
    found = _found(rows, target, values)
    bar = tqdm(found, total=len(values), desc="reading", unit=" crystals", disable=disables_bar(progress))
    with replacing(path) as temporary:
        write_rows(bar, temporary, packed=True)


def _found(rows: Iterable[Row | SkippedRow], target: str, values: Values) -> Iterator[dict[str, Any]]:
    missing, reasons = dict.fromkeys(values), {}
    for row in rows:
        name = _known(row.id, missing)
        if name is None:
            continue
        try:
            if isinstance(row, SkippedRow):
                raise StructureError(row.reason)
            record = row.read()
        except StructureError as error:
            reasons[name] = f"{row.file}: {error}"
            continue
        del missing[name]
        numbers = values[name] or record.targets
        yield crystal_row(name, {target: numbers[0] if len(numbers) == 1 else list(numbers)}, record.crystal)
    if missing:
        named = [f"{name} ({reasons.get(name, 'not there')})" for name in missing]
        raise InputError(
            f"the data have no readable crystal for {len(missing):,} of the {len(values):,} ids of the benchmark: "
            f"{first_of(named)}; give --root_dir the data set of the "
            "benchmark, in the version it was made of"
        )


def _known(identifier: str, missing: Mapping[str, None]) -> str | None:
    """An id of the benchmark that is still missing: as it stands in the data, or without the ending of a file."""
    path = PurePath(identifier)
    names = [identifier, path.stem] if path.suffix.lower() in SUFFIXES else [identifier]
    names += [name.removeprefix("POSCAR-") for name in names]
    return next((name for name in names if name in missing), None)


SPLIT = (SIZES - {"val_ratio"}) | {"ids_file", "keep_data_order", "limit", "strict"}
VALUES = frozenset({"target_key", "target_multiplication_factor", "classification_threshold"})


def left_aside(config: TrainingConfig, settings: frozenset[str]) -> list[str]:
    """A line that names settings of a file that a benchmark says itself."""
    named = sorted(config.model_fields_set & settings) + ["model.classification"] * config.model.classification
    return [f"the benchmark says it itself, left aside: {', '.join(named)}"] if named else []


def validation_share(config: TrainingConfig) -> float:
    """Which share of the training crystals is taken for validation.

    Raises:
        InputError: it leaves no crystals to validate on, or none to learn from.
    """
    share = DEFAULT_RATIO if config.val_ratio is None else config.val_ratio
    if not 0 < share < 1:
        raise InputError(
            f"--val_ratio: got {share:g}; the epoch is chosen by a share of the training crystals, as there are no "
            "others to validate on: give a number between 0 and 1"
        )
    return share


def settings_on(
    config: TrainingConfig,
    data: Path,
    target: str,
    ids_file: Path,
    output_dir: Path,
    *,
    is_classification: bool,
) -> TrainingConfig:
    """The settings of one training.

    Args:
        config: what the user has set.
        data: rows of crystals.
        target: name of what is learned in them.
        ids_file: the split.
        output_dir: of the run.
        is_classification: whether the values are classes.
    """
    kept = config.model_dump(exclude={*SPLIT, *VALUES, "val_ratio", "id_key", "file_format"})
    kept["model"]["classification"] = is_classification
    return make_config(
        TrainingConfig,
        {
            **kept,
            "root_dir": data,
            "ids_file": ids_file,
            "output_dir": output_dir,
            "target_key": target,
            "id_key": "id",
        },
    )


MARK = "# written by crysmm, and again unless it was edited: "


def filled_in(path: Path, placeholders: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a JSON file and is no placeholder; nothing where there is no file.

    Args:
        path: of the file.
        placeholders: by key.

    Raises:
        InputError: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
        json.dumps(content, allow_nan=False)  # it is to be written again
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({brief(error)}); correct or delete it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; correct or delete it")
    return {key: value for key, value in content.items() if key not in placeholders or value != placeholders[key]}


def write_script(path: Path, text: str) -> bool:
    """Write a script, unless one stands there that was edited: its last line is a checksum of the others.

    Returns:
        Whether it is written.
    """
    if path.exists() and not _is_ours(path.read_bytes()):
        return False
    write_text_atomic(path, text + _last_line(text.encode()).decode())
    return True


def _is_ours(content: bytes) -> bool:
    text = b"".join(content.splitlines(keepends=True)[:-1])
    return content == text + _last_line(text)


def _last_line(content: bytes) -> bytes:
    return f"{MARK}{hashlib.sha256(content).hexdigest()[:16]}\n".encode()


def describe_kept(kept: Sequence[str]) -> list[str]:
    """A line that names what was left as it stood."""
    return [f"left as it was edited: {', '.join(kept)}; delete it to have it written anew"] if kept else []


def installed_file(package: str, name: str) -> Path | None:
    """A file in an installed package; None where there is no such package or no such file in it.

    Args:
        package: name of the package as it is imported.
        name: of the file, relative to the package.
    """
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)


def carve_validation(ids: list[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Training and validation ids out of those that may be learned from, both in their order.

    Args:
        ids: all of them.
        share: of the validation ids; at least one is taken.
        seed: decides which.
    """
    taken = set(random.Random(seed).sample(ids, max(1, round(share * len(ids)))))
    return [name for name in ids if name not in taken], [name for name in ids if name in taken]
