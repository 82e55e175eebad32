"""Messages of a run, printed and kept in its ``train.log``."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from crysmm.files import naming
from crysmm.processes import is_first_process

LOGGER = logging.getLogger("crysmm.train")


class LogFile(logging.FileHandler):
    """Log file that raises if it cannot be written; logging itself would only print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Raise the current error with the name of the file."""
        with naming(Path(self.baseFilename)):
            raise

    def close(self) -> None:
        """Close the file; an error of the last write names it, too."""
        with naming(Path(self.baseFilename)):
            super().close()


class RunLog:
    """Prints messages and records them for the log file, in the first process only."""

    def __init__(self) -> None:
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
        # The run folder is created after the input is checked; until then messages wait in memory.
        self._memory = MemoryHandler(capacity=10**6, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = [self._memory]
        LOGGER.addHandler(self._memory)

    def say(self, *lines: str) -> None:
        """Print lines and log them."""
        if is_first_process():
            for line in lines:
                tqdm.write(line)  # which leaves a progress bar intact
                LOGGER.info(line)

    def note(self, line: str) -> None:
        """Log a line without printing it."""
        if is_first_process():
            LOGGER.info(line)

    def open(self, path: Path) -> None:
        """Append all messages, past and future, to a file."""
        file = LogFile(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._memory.setTarget(file)
        self._memory.flush()
        LOGGER.removeHandler(self._memory)
        self._handlers.append(file)
        LOGGER.addHandler(file)

    def close(self) -> None:
        """Stop logging and close the file."""
        for handler in self._handlers:
            LOGGER.removeHandler(handler)
            handler.close()
