"""Names of the files in a model folder and of a table of predictions, and checks before torch is imported."""

from __future__ import annotations

from pathlib import Path

from crysmm.errors import InputError, ModelFolderError, nearest
from crysmm.files import refuse_other_file
from crysmm.teachers.names import BUILT_IN, is_model, refuse_missing, registered
from crysmm.zoo import GROUPS, group_members, resolve, shipped_names

WEIGHTS_FILE, DESCRIPTION_FILE = "model.safetensors", "model.json"
ENSEMBLE_FILE = "ensemble.json"  # replaces these two in the folder of an ensemble, which holds its members' folders
CALIBRATION_FILE = "calibration.safetensors"
TABLE_START = "id,prediction"
PARQUET = ".parquet"


def unfinished_folder(output: Path) -> Path:
    """Return the folder that holds parts of a table of predictions until it is complete."""
    return output.with_name(f"{output.name}.unfinished")


def require_model(folder: Path, *, may_be_ensemble: bool = False) -> None:
    """Refuse a folder that lacks the files of a model.

    Raises:
        ModelFolderError: The folder is not a model folder, or incomplete, or the folder of an ensemble.
    """
    present = [name for name in (WEIGHTS_FILE, DESCRIPTION_FILE) if (folder / name).is_file()]
    if not present and (folder / ENSEMBLE_FILE).is_file():
        if may_be_ensemble:
            return
        raise ModelFolderError(
            f"{folder} holds an ensemble, and one model is needed; name one of its members, {folder / 'member_1'} or "
            "another"
        )
    if not folder.exists() and (members := group_members(str(folder))):
        raise ModelFolderError(
            f"{folder} is short for several shipped models, and one is needed; name one: {', '.join(members)}"
        )
    if not present:
        if (folder / "train.log").is_file():
            raise ModelFolderError(f"{folder} holds a run that has not finished; repeat its command with --resume")
        what = "is not a crysmm model folder" if folder.is_dir() else "is not a folder"
        names = shipped_names()
        shipped = f", or the name of a shipped model ({', '.join(names)})" if names else ""
        meant = nearest(str(folder), [*GROUPS, *names])
        raise ModelFolderError(f"{folder} {what}; expected {DESCRIPTION_FILE} and {WEIGHTS_FILE} in it{shipped}{meant}")
    if len(present) == 1:
        missing = WEIGHTS_FILE if present == [DESCRIPTION_FILE] else DESCRIPTION_FILE
        raise ModelFolderError(f"{folder / missing} is missing; copy the whole model folder, or train again")


def require_needed(name: Path | str) -> None:
    """Refuse what a run starts from, is distilled from or fuses, if it is not there.

    Args:
        name: Folder or shipped name of a model, name of a teacher, or file of features.

    Raises:
        ModelFolderError: The folder is not that of one model.
        MissingDependencyError: The package of the teacher is not installed.
        InputError: There is no such file.
    """
    if is_model(name):
        folder, potentials = resolve(name), [*BUILT_IN, *registered()]
        if not folder.exists() and not group_members(str(name)):
            raise ModelFolderError(
                f"{name} is not a folder; expected {DESCRIPTION_FILE} and {WEIGHTS_FILE} in it, the name of a shipped "
                f"model (crysmm zoo lists them) or, as a teacher, of a potential ({', '.join(potentials)})"
                f"{nearest(str(name), [*potentials, *shipped_names()])}"
            )
        require_model(folder)
    else:
        refuse_missing(name)


def refuse_table(path: Path) -> None:
    """Refuse a file that is not named as CSV or Parquet, cannot be written, or exists and is something else.

    Raises:
        InputError: The file cannot be used; the text gives the reason.
    """
    if not path.is_dir() and path.suffix != PARQUET and path.suffix.lower() != ".csv":
        raise InputError(f"{path}: predictions are written as CSV or Parquet; give a name with .csv or {PARQUET}")
    refuse_other_file(path, "table of predictions", _is_table)


def _is_table(path: Path) -> bool:
    if not path.is_file():
        return False  # never read from, such as a device
    if path.suffix == PARQUET and path.stat().st_size:
        return _first_columns(path) == TABLE_START
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(len(TABLE_START)) in ("", TABLE_START)


def _first_columns(path: Path) -> str:
    """Return how the header of a Parquet file would begin as CSV."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return ",".join(read_schema(path).names)[: len(TABLE_START)]
    except (ArrowException, OSError):
        return "no table"
