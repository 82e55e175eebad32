"""The errors a user can meet; each message says what, what was expected, what was found and what to do."""


class CrysmmError(Exception):
    """Base of every error that is the input's or the installation's, not the program's."""


class InputError(CrysmmError, ValueError):
    """A setting, a file or a folder as a whole cannot be used."""


class NoResultError(InputError):
    """Training has ended without an epoch to keep."""


class DivergedError(NoResultError):
    """Training has led to a loss that is no number."""


class StructureError(CrysmmError, ValueError):
    """One structure (or its row) cannot be used; the text is the reason written to ``skipped.csv``."""


class MissingDependencyError(CrysmmError, ImportError):
    """A package needed for what was asked is not installed; the text holds the pip line that installs it."""


class ModelFolderError(CrysmmError, ValueError):
    """A model folder is damaged, incomplete or not one of ours; the text names the file."""
