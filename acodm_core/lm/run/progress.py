"""What a run shows while it trains: a bar with ETA and mixture in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from acodm_core.lm.run.witness import Witness
from acodm_core.study.planner import RunSpec

LINE_SECONDS = 5.0


class Progress:
    """``with Progress(spec, first_step) as progress``: call ``step`` and ``evaluation`` as they happen."""

    def __init__(self, spec: RunSpec, first: int) -> None:
        self.spec, self.first, self.total = spec, first, spec.training.steps
        self.console = Console(file=sys.stderr)
        self.began = self.spoke = time.monotonic()
        self.bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        self.task = self.bar.add_task(self.spec.run, total=self.total, completed=self.first, note="")
        self.bar.start()
        self.witness = Witness(self.spec.run, self.spec.mixer, self.first, self.total)
        if self.first:
            self._line(f"continuing from step {self.first}")
        return self

    def __exit__(self, *_: object) -> None:
        self.witness.leave()
        self.bar.stop()

    def step(self, done: int, loss: float, mixture_K: np.ndarray) -> None:
        """After each optimiser step."""
        self.witness.tell(done)
        if self.console.is_terminal:
            top = ", ".join(f"{self.spec.domains[k]} {mixture_K[k]:.0%}" for k in np.argsort(-mixture_K)[:3])
            self.bar.update(self.task, completed=done, note=f"loss {loss:.3f}  {top}")
        elif time.monotonic() - self.spoke > LINE_SECONDS:
            rate = (done - self.first) / (time.monotonic() - self.began)
            self._line(
                f"step {done}/{self.total}  loss {loss:.4f}  {rate:.2f} steps/s  {(self.total - done) / rate:.0f} s left"
            )

    def evaluation(self, split: str, done: int, loss_K: np.ndarray) -> None:
        """After each evaluation."""
        mean = float(np.mean(loss_K))
        self._line(f"step {done}/{self.total}  {split} loss {mean:.4f}  perplexity {np.exp(mean):.2f}")

    def _line(self, text: str) -> None:
        self.spoke = time.monotonic()
        self.console.print(f"{self.spec.run}: {text}", highlight=False, soft_wrap=True)
