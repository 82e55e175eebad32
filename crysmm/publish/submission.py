"""Steps shared by submissions to all leaderboards: settings, data, and files that a user may edit."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from crysmm.config.loading import SPLITTING, make_config
from crysmm.config.run import DEFAULT_RATIO
from crysmm.config.training import TrainingConfig
from crysmm.errors import InputError, StructureError, brief, first_of
from crysmm.files import replacing, write_text_atomic
from crysmm.io.source import Row, SkippedRow
from crysmm.io.structure_file import SUFFIXES
from crysmm.io.table import crystal_row, write_rows
from crysmm.progress import progress_bar

# Settings that a benchmark fixes: those of the split, and those of the target's values.
SPLIT = (SPLITTING - {"val_ratio"}) | {"ids_file", "limit", "strict"}
VALUES = frozenset({"target_key", "target_multiplication_factor", "classification_threshold"})
MARK = "# written by crysmm, and again unless it was edited: "


def ignored_settings(config: TrainingConfig, fixed: frozenset[str]) -> list[str]:
    """Return a note that names the user's settings that the benchmark fixes, if there are any.

    Args:
        config: Settings of the user.
        fixed: Names of the settings that the benchmark fixes.
    """
    named = sorted(config.model_fields_set & fixed) + ["model.classification"] * config.model.classification
    return [f"ignored, as the benchmark sets them: {', '.join(named)}"] if named else []


def validation_fraction(config: TrainingConfig) -> float:
    """Return the fraction of the training crystals to validate on.

    Raises:
        InputError: The fraction leaves no crystals to validate on, or none to train on.
    """
    fraction = DEFAULT_RATIO if config.val_ratio is None else config.val_ratio
    if not 0 < fraction < 1:
        raise InputError(
            f"--val_ratio: got {fraction:g}; the best epoch is chosen on a fraction of the training crystals, as the "
            "benchmark has no others to validate on: give a number between 0 and 1"
        )
    return fraction


def draw_validation(ids: list[str], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Split ids at random into training and validation ids, both in their original order.

    Args:
        ids: Ids to split.
        fraction: Fraction of the validation ids; there is at least one.
        seed: Seed of the draw.
    """
    drawn = set(random.Random(seed).sample(ids, max(1, round(fraction * len(ids)))))
    return [name for name in ids if name not in drawn], [name for name in ids if name in drawn]


def benchmark_settings(
    config: TrainingConfig,
    data: Path,
    target: str,
    ids_file: Path,
    output_dir: Path,
    *,
    is_classification: bool,
) -> TrainingConfig:
    """Return training settings when a benchmark fixes the data and the split.

    Args:
        config: Settings of the user.
        data: File of the benchmark's crystals.
        target: Key of the target in that file.
        ids_file: File that lists the ids in each split.
        output_dir: Folder of the run.
        is_classification: True if the target is a class.
    """
    settings = config.model_dump(exclude={*SPLIT, *VALUES, "val_ratio", "id_key", "file_format"})
    settings["model"]["classification"] = is_classification
    settings |= {"root_dir": data, "ids_file": ids_file, "output_dir": output_dir, "target_key": target, "id_key": "id"}
    return make_config(TrainingConfig, settings)


def write_data(
    rows: Iterable[Row | SkippedRow],
    target: str,
    values: Mapping[str, tuple[float, ...] | None],
    path: Path,
    *,
    progress: bool = True,
) -> None:
    """Write the crystals of a benchmark to a ``.jsonl.gz`` file, in the order of their source.

    Args:
        rows: Source of the crystals; it may hold others too.
        target: Key of the target.
        values: Target values by id; None keeps the source's own value.
        path: File to write; it appears only when it is complete.
        progress: Show a progress bar.

    Raises:
        InputError: Crystals are missing or cannot be read; nothing is written then.
    """
    found = _find_crystals(rows, target, values)
    bar = progress_bar("reading", len(values), "crystals", found, shown=progress)
    with replacing(path) as temporary:
        write_rows(bar, temporary, packed=True)


def _find_crystals(
    rows: Iterable[Row | SkippedRow], target: str, values: Mapping[str, tuple[float, ...] | None]
) -> Iterator[dict[str, Any]]:
    """Yield the crystals of a benchmark; raise an error if two rows have one id, and at the end if some are missing."""
    missing, reasons, files = dict.fromkeys(values), dict[str, str](), dict[str, str]()
    for row in rows:
        # A benchmark's id may come as a file name: mp-149.vasp, or JARVIS's POSCAR-JVASP-1002.vasp.
        path = PurePath(row.id)
        names = [row.id, path.stem] if path.suffix.lower() in SUFFIXES else [row.id]
        names += [name.removeprefix("POSCAR-") for name in names]
        identifier = next((name for name in names if name in values), None)
        if identifier is None:
            continue
        if identifier in files:
            raise InputError(f"{files[identifier]} and {row.file} are both {identifier} of the benchmark; keep one")
        files[identifier] = row.file
        try:
            if isinstance(row, SkippedRow):
                raise StructureError(row.reason)
            record = row.read()
        except StructureError as error:
            reasons[identifier] = f"{row.file}: {error}"
            continue
        del missing[identifier]
        numbers = values[identifier] or record.targets
        yield crystal_row(identifier, {target: numbers[0] if len(numbers) == 1 else list(numbers)}, record.crystal)
    if missing:
        named = [f"{name} ({reasons.get(name, 'not found')})" for name in missing]
        raise InputError(
            f"the data have no readable crystal for {len(missing):,} of the {len(values):,} ids of the benchmark: "
            f"{first_of(named)}; give --root_dir the data set of the benchmark, in the version it was made from"
        )


def filled_in(path: Path, placeholders: Mapping[str, Any]) -> dict[str, Any]:
    """Read a JSON file without the values that are still placeholders; a missing file is empty.

    Args:
        path: JSON file.
        placeholders: Placeholder values by key.

    Raises:
        InputError: The file does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
        json.dumps(content, allow_nan=False)  # it will be written again, and NaN is not JSON
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({brief(error)}); correct or delete it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; correct or delete it")
    return {key: value for key, value in content.items() if key not in placeholders or value != placeholders[key]}


def write_script(path: Path, text: str) -> bool:
    """Write a script unless the file holds one that a user has edited; return True if it is written.

    The last line of the script is a checksum of the others. A script that was never edited is brought up to date with
    the run that it reproduces; user's edits, such as a call of a batch system, are kept.
    """

    def last_line(content: bytes) -> bytes:
        return f"{MARK}{hashlib.sha256(content).hexdigest()[:16]}\n".encode()

    if path.exists():
        content = path.read_bytes()
        body = b"".join(content.splitlines(keepends=True)[:-1])
        if content != body + last_line(body):
            return False
    write_text_atomic(path, text + last_line(text.encode()).decode())
    return True


def describe_steps(folder: Path, kept: Sequence[str], steps: Sequence[str], tasks: Sequence[str] = ()) -> list[str]:
    """Return lines that name edited files left unchanged, and number the steps that remain to submit a folder.

    Args:
        folder: Folder to submit.
        kept: Names of the files left unchanged.
        steps: Steps in order.
        tasks: Tasks that the folder holds, to name them.
    """
    notes = [f"left unchanged, as edited: {', '.join(kept)}; delete it to have it written again"] if kept else []
    numbered = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    of_tasks = f", of {', '.join(tasks)}" if tasks else ""
    return [*notes, f"written to {folder}{of_tasks}; to submit it:", *numbered]


def installed_file(package: str, name: str) -> Path | None:
    """Return a file in an installed package, whose code is not imported, or None.

    Args:
        package: Name under which the package is imported.
        name: Path of the file, relative to the package.
    """
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)
