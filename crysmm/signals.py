"""Stopping on Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(BaseException):
    """Ctrl-C or SIGTERM arrived; not an ``Exception``, so that no code on the way handles it as an error."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """Name of the signal for messages."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    def exit_error(self, is_main: bool) -> BaseException:
        """Return the exception to raise after cleaning up.

        Args:
            is_main: True in the process that reports to the user, where Ctrl-C is a KeyboardInterrupt; everywhere else
                the process exits with the code of the signal.
        """
        return KeyboardInterrupt() if self.number == signal.SIGINT and is_main else SystemExit(128 + self.number)


@contextmanager
def listening() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM raise :class:`StopRequested` in a block, if this is the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:  # a second Ctrl-C must not disturb the cleanup
            signal.signal(other, signal.SIG_IGN)
        raise StopRequested(number)

    if threading.current_thread() is not threading.main_thread():  # Python allows no other to set handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
