"""What `acodm reproduce` shows: in a terminal one screen that lives, elsewhere a plain line now and then.

A logger of Snakemake's (its interface for such plugins), so that it sees every job begin and end.
"""

from __future__ import annotations

import threading
import time
from logging import ERROR, LogRecord
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from acodm_core.reproducing.remaining_work import PROBE, TRAININGS, Job, Work

PHASES = {
    "corpus": ("fetch", "documents", "tokenizer", "tokenize", "shards", "piece", "join", "seal"),
    "trainings": TRAININGS,
    "cost probe": (PROBE,),
    "questions": ("questions", "contamination", "evaluate", "scores"),
    "tables": ("collect", "render", "cards", "report", "paper", "export"),
}
LINES = 25  # plain ones over the whole time, about; none sooner than after LINE_SECONDS, none later than after SILENCE_SECONDS
LINE_SECONDS = 20.0
SILENCE_SECONDS = 300.0  # the first guess of the whole time may be far off
SHOWN = 6  # running jobs, on a screen that others share
LOG_LINES, LOG_LETTERS = 5, 240  # of a failed job's log


class Screen:
    """The state of the work, and how it is shown.

    Args:
        work: what there is to do.
        console: where to.
    """

    def __init__(self, work: Work, console: Console) -> None:
        self.work, self.console = work, console
        self.failed: list[tuple[str, Path | None]] = []
        self.said: list[str] = []  # errors of Snakemake's own
        self.stopped = False  # a person asked: what ends now has not failed
        self._spoke = 0.0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(console=console, get_renderable=self._picture, auto_refresh=False, transient=True)

    def begin(self) -> None:
        self._spoke = time.monotonic()
        if self.console.is_terminal:
            self._live.start()
        self._thread.start()

    def close(self) -> None:
        """Stop showing; what was said on the way stays."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._live.stop()

    def handle(self, record: LogRecord) -> None:
        """One event of Snakemake's."""
        with self._lock:
            match getattr(record, "event", None):
                case LogEvent.RUN_INFO if not self.work.totals:
                    self.work.expect(record.stats)
                    trainings = self.work.count(*TRAININGS)[1]
                    self._line(
                        f"{sum(self.work.totals.values())} jobs, {trainings} of them trainings;"
                        f" about {_time(self.work.left())}"
                    )
                case LogEvent.JOB_INFO:
                    name = next(iter((record.wildcards or {}).values()), "")
                    log = Path(record.log[0]) if record.log else None
                    self.work.start(record.jobid, Job(record.rule_name, str(name), log, time.monotonic()))
                case LogEvent.JOB_FINISHED:
                    self.work.end(record.job_id, well=True)
                case LogEvent.JOB_ERROR:
                    self._failure(self.work.end(record.jobid, well=False))
                case LogEvent.ERROR | None if record.levelno >= ERROR:
                    self.said.append(record.getMessage())

    def _failure(self, job: Job | None) -> None:
        if job is None or self.stopped:
            return
        self.failed.append((self._title(job), job.log))
        self._line(f"failed: {self._title(job)}", style="bold red")
        for line in last_words(job.log):
            self.console.print(Text(f"    {line}"))
        self.console.print(Text(f"    (all of it: {job.log})"))

    def _follow(self) -> None:
        while not self._stopping.wait(0.5 if self.console.is_terminal else 2.0):
            with self._lock:
                self.work.read()
                if self.console.is_terminal:
                    self._live.refresh()
                elif self.work.running and time.monotonic() - self._spoke >= self._pause():
                    self._line(self._summary())

    def _pause(self) -> float:
        gone = time.monotonic() - self.work.began
        return min(SILENCE_SECONDS, max(LINE_SECONDS, (gone + self.work.left()) / LINES))

    def _line(self, text: str, style: str = "") -> None:
        self._spoke = time.monotonic()
        line = Text(f"[{_clock(time.monotonic() - self.work.began)}] {text}", style=style)
        self.console.print(line, soft_wrap=True)

    def _summary(self) -> str:
        """All of it on one line."""
        running = sorted(self.work.running.values(), key=lambda job: job.began)
        done, total = self.work.count(*TRAININGS)
        what = "; ".join(f"{self._title(job)} {_steps(job)} {_loss(job)}".strip() for job in running[:2])
        more = f" and {len(running) - 2} more" if len(running) > 2 else ""
        return f"{self._percent()} %, trainings {done}/{total}, about {_time(self.work.left())} left: {what}{more}"

    def _percent(self) -> int:
        """Of the time, gone and expected."""
        gone = time.monotonic() - self.work.began
        return min(99, int(100 * gone / (gone + self.work.left() + 1e-9)))

    def _title(self, job: Job) -> str:
        if spec := self.work.plan.runs.get(job.name):
            doing = "" if job.rule in TRAININGS else f"{job.rule} "
            return f"{doing}{spec.method}, {spec.model_name}, seed {spec.seed}"
        return f"{'cost ' if job.rule == PROBE else ''}{job.rule} {job.name}".strip()

    def _picture(self) -> Group:
        work = self.work
        if not work.totals:
            return Group(Text("reading the plan"))
        gone = time.monotonic() - work.began
        phases = Table.grid(padding=(0, 1))
        for phase, rules in PHASES.items():
            done, total = work.count(*rules)
            if total:
                phases.add_row(Text(phase), ProgressBar(total, done, width=30), Text(f"{done}/{total}"))
        jobs = Table.grid(padding=(0, 2))
        running = sorted(work.running.values(), key=lambda job: job.began)
        for job in running[:SHOWN]:
            left = job.left(time.monotonic())
            jobs.add_row(
                Text(self._title(job), no_wrap=True, overflow="ellipsis"), Text(_steps(job), no_wrap=True),
                Text(_loss(job), no_wrap=True), Text("" if left is None else f"{_time(left)} left", no_wrap=True),
            )  # fmt: skip
        more = [Text(f"and {len(running) - SHOWN} more")] if len(running) > SHOWN else []
        total = Text(f"{self._percent()} % of the time, {_clock(gone)} gone, about {_time(work.left())} left", "bold")
        return Group(total, phases, Text(""), jobs, *more)


def last_words(log: Path | None) -> list[str]:
    """The lines of a log that say why its program failed: what a traceback ends in, or the last ones."""
    if log is None or not log.is_file():
        return ["it left no log"]
    lines = [line.rstrip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not lines:
        return ["its log is empty: it was killed, perhaps for want of memory"]
    last = lines[-LOG_LINES:]
    if starts := [number for number, line in enumerate(last) if line.startswith(("acodm: ", "error: "))]:
        lines = last[starts[0] :]
    elif not any(line.startswith("Traceback") for line in lines):
        lines.append("it ended without a word: killed, perhaps for want of memory, or by os._exit in somebody's code")
    return [line if len(line) <= LOG_LETTERS else line[:LOG_LETTERS] + " ..." for line in lines[-LOG_LINES:]]


def _steps(job: Job) -> str:
    return f"{job.done}/{job.total}" if job.total else "starting" if job.rule in TRAININGS else ""


def _loss(job: Job) -> str:
    return " ".join(job.note.split("  ")[0].split()) if job.rule in TRAININGS else job.note


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _time(seconds: float) -> str:
    """Rounded as such a guess deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s" if seconds < 10 else f"{10 * round(seconds / 10)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


class LogHandler(LogHandlerBase):
    """What Snakemake makes of this module; the screen is set before by whoever starts Snakemake."""

    screen: Screen
    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: LogRecord) -> None:
        self.screen.handle(record)
