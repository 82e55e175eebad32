"""Files of features: written from any teacher, and read as one.

A file in Parquet has a row per atom with the columns ``id``, ``atom`` (counted from 0), ``element``, ``structure`` (the
checksum of the crystal) and ``features``. A file of others needs ``id``, ``atom`` and ``features``; its elements are
compared if it has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import ValidationError

from crysmm.array_cache import folder_of_parts, read_parts, write_part
from crysmm.data.store import CRYSTALS_READ, Store
from crysmm.errors import InputError, brief
from crysmm.files import file_sha256, refuse_other_file, replacing, working_folder
from crysmm.teachers.features import DTYPE, FOLDER, TeacherFeatures
from crysmm.teachers.names import SUFFIX, refuse_missing
from crysmm.teachers.registry import TeacherIdentity

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

METADATA = b"crysmm"  # key of the teacher's identity
KIND = b"crysmm.kind"  # key of what the teacher is, MODEL or something else
MODEL = b"model"
ATOMS_READ = 8192
KEY_BYTES = 8  # of the checksum of an id, the key of a crystal in the copy
DESCRIBING = ("id", "atom", "element", "structure")  # columns that identify the crystals
Rows = Literal["atom", "crystal"]


class EmbeddedCrystal(NamedTuple):
    """Facts that a file gives about a crystal: its number of atoms, and if present, its checksum and its elements."""

    n_atoms: int
    structure: str | None
    elements: list[str] | None


def write_embeddings(
    path: Path, store: Store, rows: Sequence[int], features: TeacherFeatures, per: Rows = "atom"
) -> None:
    """Write the features of crystals, one row per atom, or one per crystal with the means over its atoms.

    Args:
        path: File to write, or to replace.
        store: Store with the crystals.
        rows: Rows of the crystals, in the order of the file.
        features: Their features.
        per: Unit of a row, an atom or a crystal.
    """
    from pyarrow.parquet import ParquetWriter

    content = "" if features.teacher is None else features.teacher.model_dump_json()
    metadata = {METADATA: content, KIND: MODEL if features.of_model else b"teacher"}
    schema = _table(store, [], features, per).schema.with_metadata(metadata)
    with replacing(path) as temporary, ParquetWriter(temporary, schema, compression="zstd") as writer:
        for start in range(0, len(rows), CRYSTALS_READ):
            writer.write_table(_table(store, rows[start : start + CRYSTALS_READ], features, per).cast(schema))


def refuse_feature_file(path: Path) -> None:
    """Refuse an output that is not Parquet, cannot be written, or exists and is no file of features.

    Raises:
        InputError: The file cannot be used.
    """
    if not path.is_dir() and path.suffix != SUFFIX:
        raise InputError(f"{path} is to be a Parquet file; name it {path.stem}{SUFFIX}")
    refuse_other_file(path, "file of features", _is_ours)


def _is_ours(path: Path) -> bool:
    with suppress(InputError), _open(path) as file:
        return METADATA in (file.schema_arrow.metadata or {})
    return False


def features_from_file(
    path: Path, store: Store, rows: Sequence[int], *, cache_dir: str | Path | None = None
) -> TeacherFeatures:
    """Read the features of a store's crystals from a file, through a copy in the cache that can be memory-mapped.

    Args:
        path: File with one row per atom.
        store: Store with the crystals.
        rows: Rows of the crystals.
        cache_dir: Cache folder; see :func:`~crysmm.files.cache_folder`.

    Raises:
        InputError: It is not such a file, lacks crystals, has other numbers of atoms, other structures or other
            elements for them, or a feature is not finite; the text names the first crystal.
    """
    keys = {row: _key(store.ids[row]) for row in rows}
    with _open(path) as file:
        checksum = file_sha256(path)
        folder = folder_of_parts(cache_dir, FOLDER, checksum)
        metadata = file.schema_arrow.metadata or {}
        crystals = _read_crystals(path, file)
        _refuse_others(path, crystals, store, rows)
        first = next(_matrices(path, file, n_rows=1))
        known = read_parts(folder, first.shape[1], DTYPE)
        if not known.keys() >= set(keys.values()):  # not copied yet, or a part is damaged
            with working_folder(folder) as building:
                _copy(path, file, {name: crystal.n_atoms for name, crystal in crystals.items()}, building)
                folder.mkdir(exist_ok=True)
                for part in building.glob("*.safetensors"):  # one by one: other processes may use the folder
                    part.replace(folder / part.name)
            known = read_parts(folder, first.shape[1], DTYPE)
    places = {row: known[key] for row, key in keys.items()}
    with _reading(path):
        teacher = TeacherIdentity.model_validate_json(metadata[METADATA]) if metadata.get(METADATA) else None
    width = first.shape[1]
    if teacher is not None and teacher.width != width:
        raise InputError(f"{path} has {width} features per atom, and {teacher.name}, named in it, has {teacher.width}")
    of_model = metadata.get(KIND) == MODEL
    return TeacherFeatures(f"file {checksum}", width, places, teacher, of_model=of_model)


def _table(store: Store, rows: Sequence[int], features: TeacherFeatures, per: Rows) -> pyarrow.Table:
    import pyarrow as pa

    crystals = store.crystals(rows) if rows else []
    ids, structures = [store.ids[row] for row in rows], [crystal.checksum for crystal in crystals]
    n_atoms = [len(crystal) for crystal in crystals]
    columns: dict[str, Any] = {"id": pa.array(ids, pa.string())}
    if per == "atom":
        values = features.take(rows)
        places = pa.array(np.repeat(np.arange(len(rows)), n_atoms))
        columns["id"] = columns["id"].take(places)
        columns["atom"] = pa.array([atom for count in n_atoms for atom in range(count)], pa.int32())
        columns["element"] = pa.array([symbol for crystal in crystals for symbol in crystal.elements], pa.string())
        columns["structure"] = pa.array(structures, pa.string()).take(places)
    else:
        values = features.crystal_means(rows)
        columns["structure"] = pa.array(structures, pa.string())
    flat = pa.array(values.astype(np.float32).ravel(), pa.float32())
    columns["features"] = pa.FixedSizeListArray.from_arrays(flat, features.width)
    return pa.table(columns)


def _open(path: Path) -> ParquetFile:
    """Open a Parquet file.

    Raises:
        InputError: It is missing, or no such file.
    """
    from pyarrow.parquet import ParquetFile

    refuse_missing(path)
    with _reading(path):
        return ParquetFile(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of damaged files into errors that name the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValidationError) as error:
        raise InputError(f"{path} is not a Parquet file, or is damaged: {brief(error)}") from error


def _read_crystals(path: Path, file: ParquetFile) -> dict[str, EmbeddedCrystal]:
    """Return the facts that a file gives about its crystals, by id in the file's order.

    Raises:
        InputError: Columns are missing, or the atoms of a crystal are not consecutive rows, counted from 0.
    """
    names = file.schema_arrow.names
    missing = [name for name in ("id", "atom", "features") if name not in names]
    if missing:
        found = ", ".join(names)
        hint = "; with one row per crystal it cannot be used" if missing == ["atom"] else ""
        raise InputError(f"{path} has no column {missing[0]}; expected id, atom and features, found {found}{hint}")
    twice = [name for name in (*DESCRIBING, "features") if names.count(name) > 1]
    if twice:
        raise InputError(f"{path} has several columns {twice[0]}; leave one of them")
    with _reading(path):
        table = file.read([name for name in DESCRIBING if name in names])
    ids = np.array([str(identifier) for identifier in table.column("id").to_pylist()], dtype=object)
    atoms = table.column("atom").to_numpy()
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.array([], dtype=np.int64)
    counts = np.diff(np.r_[starts, len(ids)])
    expected = np.arange(len(ids)) - np.repeat(starts, counts)
    wrong = np.flatnonzero(atoms != expected)
    structures = table.column("structure").take(starts).to_pylist() if "structure" in names else None
    elements = table.column("element").to_pylist() if "element" in names else None
    crystals: dict[str, EmbeddedCrystal] = {}
    for place, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
        identifier = ids[start]
        if identifier in crystals:
            wrong = np.r_[np.flatnonzero(ids == identifier)[-1:], wrong]
        crystals[identifier] = EmbeddedCrystal(
            count, structures and structures[place], elements and elements[start : start + count]
        )
    if len(wrong):
        raise InputError(
            f"{path}: the atoms of {ids[wrong[0]]} are not consecutive rows with atom 0, 1, ...; sort the file by id "
            "and atom"
        )
    return crystals


def _refuse_others(path: Path, crystals: dict[str, EmbeddedCrystal], store: Store, rows: Sequence[int]) -> None:
    """Refuse a file that lacks crystals, or has them with other atoms."""
    missing = [store.ids[row] for row in rows if store.ids[row] not in crystals]
    if missing:
        raise InputError(f"{path} has no features for {len(missing)} of {len(rows)} crystals, such as {missing[0]}")
    for row in rows:
        identifier, n_atoms = store.ids[row], int(store.n_atoms[row])
        found = crystals[identifier]
        if found.n_atoms != n_atoms:
            raise InputError(f"{path} has {found.n_atoms} atoms for {identifier}, whose structure has {n_atoms}")
        if found.structure is not None and found.structure != store.checksums[row]:
            raise InputError(
                f"{path} has features of another structure under the id {identifier}; run crysmm embed again, on the "
                "structures to be trained on"
            )
    rows = [row for row in rows if crystals[store.ids[row]].structure is None]  # a checksum covers the elements, too
    for row, crystal in zip(rows, store.iter_crystals(rows), strict=True):
        _refuse_other_elements(path, store.ids[row], crystals[store.ids[row]].elements, crystal.elements)


def _refuse_other_elements(path: Path, identifier: str, found: list[str] | None, expected: list[str]) -> None:
    """Refuse the rows of a crystal with other elements than its atoms; the file may give none."""
    for atom, (symbol, other) in enumerate(zip(expected if found is None else found, expected, strict=True)):
        if symbol != other:
            raise InputError(
                f"{path} has {symbol} as atom {atom} of {identifier}, where its structure has {other}; the rows of a "
                "crystal are to be in the order of its atoms"
            )


def _matrices(path: Path, file: ParquetFile, n_rows: int) -> Iterator[np.ndarray]:
    """Yield the features, ``[n, width]`` float16, some rows at a time.

    Raises:
        InputError: They are not lists of numbers of one length.
    """
    from pyarrow import types

    kind = file.schema_arrow.field("features").type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    width = None
    batches = file.iter_batches(n_rows, columns=["features"])
    while True:
        with _reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        column = batch.column(0)
        lengths = set(column.value_lengths().to_pylist()) if is_list and types.is_floating(kind.value_type) else {None}
        width = lengths.pop() if width is None else width
        if not width or lengths - {width}:
            raise InputError(f"{path}: the column features does not hold lists of numbers, all of one length")
        with np.errstate(over="ignore"):
            values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float16)
        yield values.reshape(len(column), width)


def _copy(path: Path, file: ParquetFile, sizes: dict[str, int], folder: Path) -> None:
    """Copy the features of all crystals of a file to parts, some crystals each.

    Raises:
        InputError: A feature is not finite, or not in the range of float16; the text names the crystal.
    """
    ids, ends = list(sizes), np.cumsum(list(sizes.values()))
    waiting, first, n_copied = [], 0, 0  # rows of a crystal whose others are still to come; crystals and atoms so far
    for values in _matrices(path, file, ATOMS_READ):
        waiting.append(values)
        n_whole = int(np.searchsorted(ends, n_copied + sum(map(len, waiting)), side="right"))
        if n_whole == first:
            continue
        *parts, rest = np.split(np.concatenate(waiting), ends[first:n_whole] - n_copied)
        for name, part in zip(ids[first:n_whole], parts, strict=True):
            if not np.isfinite(part).all():
                raise InputError(f"{path}: a feature of {name} is not finite, or not in the range of float16")
        write_part(folder, dict(zip(map(_key, ids[first:n_whole]), parts, strict=True)))
        waiting, first, n_copied = [rest], n_whole, int(ends[n_whole - 1])


def _key(identifier: str) -> bytes:
    return hashlib.sha256(identifier.encode()).digest()[:KEY_BYTES]
