"""Stopping when the user or the machine asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(BaseException):
    """Ctrl-C or SIGTERM arrived; not an ``Exception``, so that nothing on the way takes it for an error."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> str:
        """As people call it."""
        return "Ctrl-C" if self.number == signal.SIGINT else signal.Signals(self.number).name

    def exit_error(self, is_main: bool) -> BaseException:
        """What to raise once all is put away: Ctrl-C as it is known, in the process that speaks, else an exit code."""
        return KeyboardInterrupt() if self.number == signal.SIGINT and is_main else SystemExit(128 + self.number)


def listen() -> None:
    """Let Ctrl-C and SIGTERM raise :class:`StopRequested`, where this is the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _stop)


@contextmanager
def listening() -> Iterator[None]:
    """Do :func:`listen` for a while, then bring back the handlers that were there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for other in SIGNALS:  # a second Ctrl-C must not disturb putting away
        signal.signal(other, signal.SIG_IGN)
    raise StopRequested(number)
