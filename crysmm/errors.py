"""Errors for users; each message says what is wrong, what was expected, what was found and what to do."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from reprlib import Repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST_NAMED = 5  # names listed in one message
LONGEST = 500  # characters of a reason; a broken file may contain a name or a number of any length


class CrysmmError(Exception):
    """Base of all errors caused by the input or the installation, not by a bug."""


class InputError(CrysmmError, ValueError):
    """Error for a setting, a file or a folder that cannot be used as a whole."""


class NoResultError(InputError):
    """Error for training that ended without a model that can be used."""


class DivergedError(NoResultError):
    """Error for training whose loss or predictions became NaN or infinite."""


class StructureError(CrysmmError, ValueError):
    """Error for one structure or row that cannot be used; the text, cut to ``LONGEST``, goes to ``skipped.csv``."""

    def __init__(self, reason: str):
        super().__init__(reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}...")


class UnlabeledError(StructureError):
    """Error for a row that may be sound but has no value of a requested property."""


class InputWarning(UserWarning):
    """Warning about an input as a whole that can be used; the command line prints its text in one line."""


class MissingDependencyError(CrysmmError, ImportError):
    """Error for a missing optional package; the text gives the pip command that installs it."""


class ModelFolderError(CrysmmError, ValueError):
    """Error for a model folder that is damaged, incomplete or not written by crysmm; the text names the file."""


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value: Any) -> str:
    """Return the ``repr`` of a value for an error message, shortened to fit a line."""
    return _SHORT.repr(value)


def first_of(names: Sequence[str]) -> str:
    """Join the first ``MOST_NAMED`` names for a message."""
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def nearest(name: str, known: Sequence[str]) -> str:
    """Return ``; did you mean X?`` for a known name that this one abbreviates or misspells, else an empty string."""
    matches = [other for other in known if _abbreviates(name, other)] or get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


def _abbreviates(name: str, other: str) -> bool:
    """Return True if a name is one word of another, or the initials of its words: ``--lr`` of ``--learning_rate``."""
    short, words = name.lstrip("-"), re.split(r"[._]", other.lstrip("-"))
    return len(words) > 1 and short in (*words, "".join(word[:1] for word in words))


def brief(error: object) -> str:
    """Return the first line of another library's message, shortened: such texts may repeat an entire broken input."""
    line = str(error).partition("\n")[0]
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def first_problem(error: "ValidationError") -> str:
    """Return the first problem that pydantic has found, after the place of the value if it has one."""
    problem = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, problem["loc"])), problem["msg"])))


def count(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 crystal`` or ``2,000 crystals``."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
