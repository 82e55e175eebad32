"""Where and when progress bars appear."""

import io
import sys
from itertools import count

import pytest

from crysmm.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "shown", "appears"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_a_bar_appears_on_a_terminal_if_it_is_wanted(stream, shown, appears, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr("tqdm.std.time", count(step=2).__next__)  # two seconds pass between any two looks at the clock
    assert list(progress_bar("reading", 2, "rows", "ab", shown=shown)) == ["a", "b"]
    assert sys.stderr.getvalue().startswith("\rreading: ") is appears


def test_work_that_is_done_at_once_shows_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("reading", 2, "rows") as bar:
        bar.update(2)
    assert not sys.stderr.getvalue()
