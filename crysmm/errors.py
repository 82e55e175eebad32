"""The errors a user can meet; each message says what, what was expected, what was found and what to do."""

from collections.abc import Sequence
from reprlib import Repr
from typing import Any

MOST_NAMED = 5  # of ids or classes in one message
LONGEST = 500  # characters of a reason: a broken file may hold a name or a number of any length


class CrysmmError(Exception):
    """Base of every error that is the input's or the installation's, not the program's."""


class InputError(CrysmmError, ValueError):
    """A setting, a file or a folder as a whole cannot be used."""


class NoResultError(InputError):
    """Training has ended without an epoch to keep."""


class DivergedError(NoResultError):
    """Training has led to a loss that is no number."""


class StructureError(CrysmmError, ValueError):
    """One structure (or its row) cannot be used; the text, at most ``LONGEST``, is the reason in ``skipped.csv``."""

    def __init__(self, reason: str):
        super().__init__(reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}...")


class MissingDependencyError(CrysmmError, ImportError):
    """A package needed for what was asked is not installed; the text holds the pip line that installs it."""


class ModelFolderError(CrysmmError, ValueError):
    """A model folder is damaged, incomplete or not one of ours; the text names the file."""


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value: Any) -> str:
    """What was found, as an error shows it: ``repr``, but of what is long or deep only so much as fits a line."""
    return _SHORT.repr(value)


def first_of(names: Sequence[str]) -> str:
    """The first ``MOST_NAMED`` of some names, as a message lists them."""
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def brief(error: object) -> str:
    """The first line of what other code says, or its beginning: such texts may hold the whole of a broken input."""
    line = str(error).partition("\n")[0]
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
