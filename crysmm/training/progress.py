"""How far training is: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from tqdm import tqdm

from crysmm.training.console import Report
from crysmm.training.module import TrainingModule


class Progress(pl.Callback):
    """One bar over the steps of all epochs, so that its time left is the run's.

    Args:
        report: gets one line an epoch.
        shown: whether anything goes to the screen.
    """

    def __init__(self, report: Report, shown: bool):
        self.report = report
        self.shown = shown
        self._bar: tqdm[Any] | None = None
        self._validation = ""
        self._started = 0.0
        self._steps_before = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Open the bar, at the place where a resumed run goes on."""
        assert isinstance(module, TrainingModule)
        self._started = time.monotonic()
        self._steps_before = sum(module.steps[: trainer.current_epoch])
        if self.shown and self.report.is_main and sys.stderr.isatty():
            total = sum(module.steps)
            self._bar = tqdm(total=total, initial=self._steps_before, unit="step", dynamic_ncols=True, mininterval=0.5)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Name the epoch."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step further; the loss is fetched only when the bar is drawn."""
        if self._bar is not None and self._bar.update():
            self._bar.set_postfix_str(f"loss {float(outputs['loss']):.4g}{self._validation}", refresh=False)

    def tell_epoch(self, history: Sequence[Mapping[str, float]], best_epoch: int, module: TrainingModule) -> None:
        """Tell the result of the last epoch."""
        row, measure = history[-1], module.objective.monitor
        name = "MAE" if measure == "mae" else measure
        self._validation = f", validation {name} {row[f'val_{measure}']:.4g}"
        if module.baseline is not None:
            self._validation += f" (baseline {module.baseline:.4g})"
        steps_done, steps_in_all = sum(module.steps[: len(history)]), sum(module.steps)
        pace = (time.monotonic() - self._started) / (steps_done - self._steps_before)
        line = (
            f"epoch {len(history)}/{len(module.steps)}: loss {row['train_loss']:.4g}{self._validation}, best epoch "
            f"{best_epoch}, {row['seconds']:.1f} s, {duration(pace * (steps_in_all - steps_done))} left"
        )
        if self.shown and self._bar is None:
            self.report.say(line)
        else:
            self.report.note(line)

    def close(self) -> None:
        """Close the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def duration(seconds: float) -> str:
    """``42 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
