"""What a run tells: on the screen, and in its ``train.log``."""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from crysmm.files import naming
from crysmm.training.distributed import is_main_process

LOGGER = logging.getLogger("crysmm.train")


class LogFile(logging.FileHandler):
    """A log file that cannot be written is an error, and not a remark of the logging on the screen."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Raise the error at hand, which names the file."""
        with naming(Path(self.baseFilename)):
            raise

    def close(self) -> None:
        """Close the file."""
        with naming(Path(self.baseFilename)):
            super().close()


class Report:
    """Tells things on the screen and keeps them for the log file, from the main process alone."""

    def __init__(self) -> None:
        self._handlers: list[logging.Handler] = []
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
        self._add(MemoryHandler(capacity=10**6, flushLevel=logging.CRITICAL + 1))

    @property
    def is_main(self) -> bool:
        """Whether this process speaks."""
        return is_main_process()

    def say(self, text: str) -> None:
        """Tell it on the screen and in the log."""
        if self.is_main:
            tqdm.write(text)
            LOGGER.info(text)

    def note(self, text: str) -> None:
        """Tell it in the log alone."""
        if self.is_main:
            LOGGER.info(text)

    def open(self, path: Path) -> None:
        """Write what was told so far, and all that follows, at the end of a file."""
        file = LogFile(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        memory = self._handlers[0]
        assert isinstance(memory, MemoryHandler)
        memory.setTarget(file)
        memory.flush()
        LOGGER.removeHandler(memory)
        self._add(file)

    def close(self) -> None:
        """Let go of the file."""
        for handler in self._handlers:
            LOGGER.removeHandler(handler)
            handler.close()

    def _add(self, handler: logging.Handler) -> None:
        self._handlers.append(handler)
        LOGGER.addHandler(handler)
