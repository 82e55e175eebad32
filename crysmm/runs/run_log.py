"""Messages and progress of a run, printed and kept in its ``train.log``."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor
from tqdm import tqdm

from crysmm.data.units import duration
from crysmm.files import hold, naming
from crysmm.processes import is_first_process

LOGGER = logging.getLogger("crysmm.train")
LINES = 10  # on the epochs of a run, where no bar is drawn
LONGEST_SILENCE = 60  # seconds
_IS_PRINTED = ContextVar("_IS_PRINTED", default=True)


@contextmanager
def not_printed() -> Iterator[None]:
    """Keep the messages of runs in the block for their log files; other threads print theirs."""
    token = _IS_PRINTED.set(False)
    try:
        yield
    finally:
        _IS_PRINTED.reset(token)


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
        self._lock: BinaryIO | None = None
        LOGGER.addHandler(self._memory)

    def say(self, *lines: str) -> None:
        """Print lines and log them."""
        if is_first_process():
            for line in lines:
                if _IS_PRINTED.get():
                    tqdm.write(line)  # which leaves a progress bar intact
                LOGGER.info(line)

    def note(self, line: str) -> None:
        """Log a line without printing it."""
        if is_first_process():
            LOGGER.info(line)

    def open(self, path: Path) -> None:
        """Append all messages, past and future, to a file, and lock it, which shows that the run goes on."""
        self._lock = hold(path, wait=False)
        file = LogFile(path, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._memory.setTarget(file)
        self._memory.flush()
        LOGGER.removeHandler(self._memory)
        self._handlers.append(file)
        LOGGER.addHandler(file)

    def close(self) -> None:
        """Stop logging, close the file and unlock it."""
        for handler in self._handlers:
            LOGGER.removeHandler(handler)
            handler.close()
        if self._lock is not None:
            self._lock.close()


class Progress:
    """One bar over the steps of all epochs, so that its remaining time is that of the run.

    Where there is no terminal for a bar, ``LINES`` lines are printed, and more if epochs are slow.

    Args:
        log: Run log, which gets one line per epoch.
        shown: True to print, False to log only.
        steps: Number of steps in each epoch.
        metric: Name of the monitored metric.
        baseline: Value of the metric without a network, if there is one.
        n_done: Number of epochs done before, in a resumed run.
    """

    def __init__(
        self, log: RunLog, shown: bool, steps: Sequence[int], metric: str, baseline: float | None, n_done: int
    ):
        self.log = log
        self.shown = shown
        self.steps = steps
        self.metric = metric
        self.baseline = "" if baseline is None else f" (baseline {baseline:.4g})"
        self._scores = ""
        self._started = self._printed = time.monotonic()
        self._steps_before = sum(steps[:n_done])
        self._bar: tqdm[Any] | None = None
        if shown and is_first_process() and sys.stderr.isatty():
            self._bar = tqdm(
                total=sum(steps), initial=self._steps_before, unit="step", dynamic_ncols=True, mininterval=0.5
            )

    def begin_epoch(self, epoch: int) -> None:
        """Show the number of the epoch, which counts from 0."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{len(self.steps)}", refresh=False)

    def advance(self, loss: Tensor) -> None:
        """Advance by one step; the loss is fetched from the device only when the bar is drawn."""
        if self._bar is not None and self._bar.update():
            self._bar.set_postfix_str(f"loss {float(loss.detach()):.4g}{self._scores}", refresh=False)

    def end_epoch(self, history: Sequence[Mapping[str, float]], best_epoch: int) -> None:
        """Report the last epoch of a history."""
        row = history[-1]
        name = "MAE" if self.metric == "mae" else self.metric
        self._scores = f", validation {name} {row[f'val_{self.metric}']:.4g}{self.baseline}"
        done, total = sum(self.steps[: len(history)]), sum(self.steps)
        pace = (time.monotonic() - self._started) / (done - self._steps_before)
        left = f", {duration(pace * (total - done))} left" if done < total else ""
        line = (
            f"epoch {len(history)}/{len(self.steps)}: loss {row['train_loss']:.4g}{self._scores}, best epoch "
            f"{best_epoch}, {row['seconds']:.1f} s{left}"
        )
        n_epochs, now = len(self.steps), time.monotonic()
        is_due = len(history) * LINES // n_epochs > (len(history) - 1) * LINES // n_epochs
        if self.shown and self._bar is None and (is_due or now - self._printed > LONGEST_SILENCE):
            self.log.say(line)
            self._printed = now
        else:
            self.log.note(line)

    def close(self) -> None:
        """Close the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
