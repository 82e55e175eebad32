"""Lines that a run prints about its epochs where no bar is drawn, those it logs, and the bar of a terminal."""

import logging
import warnings

import pytest
import torch

from crysmm.runs import run_log
from crysmm.runs.run_log import Progress, RunLog


def lines_of(n_epochs: int, seconds: float, n_done: int, monkeypatch, capsys) -> tuple[list[int], list[int]]:
    """Epochs that are printed, and those that are logged, of a run whose epochs take as long as is said."""
    now = [0.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    history = [{"train_loss": 1.0, "val_mae": 1.0, "seconds": seconds}] * n_done
    log = RunLog()
    logged = logging.Handler()
    logged.emit = lambda record: found.append(record.getMessage())
    found: list[str] = []
    run_log.LOGGER.addHandler(logged)
    progress = Progress(log, True, [1] * n_epochs, "mae", None, n_done)
    for _ in range(n_done, n_epochs):
        now[0] += seconds
        history = [*history, history[0] if history else {"train_loss": 1.0, "val_mae": 1.0, "seconds": seconds}]
        progress.end_epoch(history, 1)
    run_log.LOGGER.removeHandler(logged)
    log.close()

    def epochs(lines: list[str]) -> list[int]:
        return [int(line.split()[1].split("/")[0]) for line in lines]

    return epochs(capsys.readouterr().out.splitlines()), epochs(found)


@pytest.mark.parametrize(
    ("n_epochs", "seconds", "n_done", "printed"),
    [
        (100, 1, 0, [*range(10, 101, 10)]),
        (7, 1, 0, [*range(1, 8)]),
        (25, 1, 0, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]),
        (100, 1, 85, [90, 100]),
        (1000, 40, 990, [992, 994, 996, 998, 1000]),
        (1000, 3600, 995, [*range(996, 1001)]),
    ],
)
def test_ten_lines_or_one_a_minute(n_epochs, seconds, n_done, printed, monkeypatch, capsys) -> None:
    shown, logged = lines_of(n_epochs, seconds, n_done, monkeypatch, capsys)
    assert shown == printed
    assert logged == [*range(n_done + 1, n_epochs + 1)]


def test_the_bar_shows_the_loss_and_no_warning(monkeypatch, capsys) -> None:
    monkeypatch.setattr(run_log.sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(run_log.tqdm, "update", lambda bar: True)  # as if it was time to draw
    torch.set_warn_always(True)
    log = RunLog()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            progress = Progress(log, True, [1, 1], "mae", None, 0)
            progress.advance(torch.tensor(0.25, requires_grad=True) * 2)
    finally:
        torch.set_warn_always(False)
        log.close()
    assert progress._bar is not None
    progress._bar.close()
    assert "loss 0.5" in capsys.readouterr().err
