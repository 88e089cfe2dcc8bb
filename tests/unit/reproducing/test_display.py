"""What `acodm reproduce` shows: progress that a person can follow, few lines where nobody looks, and why a job failed."""

from __future__ import annotations

import io
import logging
import time
from pathlib import Path

import pytest
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent
from workflow_runs import ROOT

from acodm_core.errors import UserError
from acodm_core.reproducing.display import LINES, Screen, last_words
from acodm_core.reproducing.program import find_preset
from acodm_core.reproducing.remaining_work import Job, Work
from acodm_core.study.planner import plan


def record(event: LogEvent | None, level: int = logging.INFO, message: str = "", **fields) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    made.__dict__.update(event=event, **fields)
    return made


@pytest.fixture
def work(experiment_of, tmp_path: Path, monkeypatch) -> Work:
    monkeypatch.chdir(tmp_path)
    experiment = experiment_of(compare=["uniform", "odm"], seeds=[0, 1, 2])
    return Work(experiment, plan(experiment), slots=2, cores=2)


def begin(screen: Screen, number: int, rule: str, name: str) -> Path:
    log = Path("logs", f"{number}.log")
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    screen.handle(record(LogEvent.JOB_INFO, jobid=number, rule_name=rule, wildcards={"run": name}, log=[str(log)]))
    return log


def test_a_misspelt_preset_ends_in_near_names(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"(?s)unknown preset 'quik'.*did you mean 'quick'"):
        find_preset("quik")
    assert find_preset("smoke") == Path("workflow/config/smoke.yaml")


def test_elsewhere_than_in_the_project_it_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no Snakefile"):
        find_preset("quick")


def test_a_failed_job_is_shown_with_its_own_message(work: Work) -> None:
    shown = io.StringIO()
    screen = Screen(work, Console(file=shown, width=80))
    screen.handle(record(LogEvent.RUN_INFO, stats={"train": 6, "all": 1, "total": 7}))
    run = next(iter(work.plan.runs))
    log = begin(screen, 4, "train", run)
    log.write_text("x" * 3000 + "\nacodm: results/x: cannot be written: No space left on device\n  -> make room\n")
    screen.handle(record(LogEvent.JOB_ERROR, jobid=4))
    text = shown.getvalue()
    assert "failed: uniform, tiny, seed 0" in text and "No space left" in text and "-> make room" in text
    assert "xxx" not in text and str(log) in text and len(text.splitlines()) < 8


def test_what_ends_because_a_person_asked_has_not_failed(work: Work) -> None:
    shown = io.StringIO()
    screen = Screen(work, Console(file=shown, width=80))
    screen.handle(record(LogEvent.RUN_INFO, stats={"train": 6, "total": 6}))
    begin(screen, 1, "train", next(iter(work.plan.runs)))
    screen.stopped = True
    screen.handle(record(LogEvent.JOB_ERROR, jobid=1))
    assert not screen.failed and "failed" not in shown.getvalue()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Traceback\n" + "  File\n" * 99 + "ValueError: a\n", "ValueError: a"),
        ("", "it was killed"),
        ("y" * 5000, " ..."),
    ],
)
def test_last_words_are_few(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    said = last_words(tmp_path / "log")
    assert any(words in line for line in said) and len(said) <= 5 and max(map(len, said)) < 300


def test_progress_and_time_left_come_from_the_logs_of_running_jobs(work: Work) -> None:
    work.expect({"train": 6, "spec": 6, "total": 12})
    runs, now = list(work.plan.runs), time.monotonic()
    log = Path("train.log")
    log.write_text("warning of torch\nodm: step 10/40  loss 4.0000  1.00 steps/s  30 s left\n")
    job = Job("train", runs[0], log, now - 30)
    work.start(1, job)
    job.read(now - 20)
    log.write_text(log.read_text() + "odm: step 30/40  loss 3.5000  1.00 steps/s  10 s left\n")
    job.read(now)
    assert (job.done, job.total) == (30, 40) and job.note.startswith("loss 3.5000")
    assert job.left(now) == pytest.approx(10)
    left = 10 + 5 * (10 + 40)  # of this one, and of five more with their starts; two run at once
    assert work.left() == pytest.approx(left / 2, rel=0.1)
    log.write_text("odm: step 40/40  test loss 3.5000\n")
    work.start(2, last := Job("train", runs[1], log, now - 30))  # continued, or too fast to be seen: it tells no speed
    last.read(now)
    work.end(2, well=True)
    assert work.left() == pytest.approx((10 + 4 * (20 + 40)) / 2, rel=0.1)
    for number, run in enumerate(runs):  # done in no time
        work.start(10 + number, Job("train", run, None, time.monotonic()))
        work.end(10 + number, well=True)
    assert work.count("train") == (7, 6) and work.left() > 0


def test_a_log_gets_a_modest_number_of_lines(work: Work) -> None:
    shown = io.StringIO()
    screen = Screen(work, Console(file=shown, width=80))
    screen.handle(record(LogEvent.RUN_INFO, stats={"train": 6, "total": 6}))
    begin(screen, 1, "train", next(iter(work.plan.runs)))
    hour = 3600 - work.left()
    work.began -= hour  # an hour on the whole
    assert screen._pause() == pytest.approx(3600 / LINES, rel=0.05)
    assert "\x1b" not in shown.getvalue() and len(shown.getvalue().splitlines()) == 1


def test_a_bad_first_guess_does_not_silence_the_plain_lines(work: Work, monkeypatch) -> None:
    screen = Screen(work, Console(file=io.StringIO(), width=80))
    monkeypatch.setattr(Work, "left", lambda self: 50 * 3600.0)
    assert screen._pause() <= 300
