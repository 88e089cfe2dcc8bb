"""The records of another trainer: a file of JSON lines, read and checked. docs/score.md says what the lines hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from acodm_core.checked import Name, checked
from acodm_core.errors import UserError
from acodm_core.study.config import Section

UNSTATED = "unstated"
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
SUM = 1e-3  # how far a mixture's shares may be from 1 by rounding


class Header(Section):
    """The first line: what all runs share."""

    experiment: Name
    baseline: str
    train_tokens: dict[str, Count] = Field(min_length=1)  # domain -> training tokens there are
    batch: Count
    context: Count
    steps: Count | None = None  # of a compared run; default: of the longest
    schedule: str = UNSTATED
    target_weights: dict[str, Share] = Field({})  # of the domains in the compared loss; default: all alike
    titles: dict[str, str] = Field({})  # method -> name in tables
    corpus: str = UNSTATED
    evaluation: dict[str, int] = Field({})  # as experiment.json has it: which held-out sequences


class Run(Section):
    """A run, before its points."""

    run: str
    method: str
    seed: int
    status: Literal["finished", "diverged", "out_of_memory"] = "finished"
    compared: bool = True  # False: a stage of others, or a training to another horizon
    after: tuple[str, ...] = ()  # runs that it depends on, nearest first
    model: str = UNSTATED
    parameters: Count | None = None
    flops: Annotated[float, Field(gt=0)] | None = None  # of its training steps, forward and backward
    method_flops: Share = 0.0  # of what the method had measured, on top
    hardware: str = UNSTATED
    precision: str = UNSTATED


class Point(Section):
    """What is known of a run at a step."""

    run: str
    step: int = Field(ge=0)
    tokens: int = Field(ge=0)
    split: Literal["train", "valid", "test"] = "valid"
    loss: dict[str, Finite] = Field({})  # domain -> nats a token
    bits_per_byte: dict[str, Finite] = Field({})
    weights: dict[str, Share] = Field({})  # what was asked for in the steps since the run's line before
    drawn: dict[str, Share] = Field({})  # what was drawn in them; default: as asked
    seconds: Share | None = None  # of training so far, by the trainer's own clock


@dataclass
class Told:
    """A run and its points, in the file's order."""

    run: Run
    points: list[Point] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return max((point.step for point in self.points), default=0)

    @property
    def seconds(self) -> float:
        """Of the whole training, by the trainer's own clock; NaN where it told none."""
        return max((point.seconds for point in self.points if point.seconds is not None), default=math.nan)


def read(path: Path) -> tuple[Header, dict[str, Told]]:
    """The header and the runs of a file, each with its points.

    Raises:
        UserError: with the line's number.
    """
    header, told = None, {}
    for where, line in _lines(path):
        if header is None:
            header = checked(Header, line, where=where)
        elif "method" in line:
            run = checked(Run, line, where=where)
            if run.run in told:
                raise UserError(f"a second run {run.run!r}", where=where)
            told[run.run] = Told(run)
        else:
            point = checked(Point, line, where=where)
            if point.run not in told:
                fix = '{"run": ..., "method": ..., "seed": ...} comes before its points'
                raise UserError(f"a point of a run that is not there yet: {point.run!r}", where=where, fix=fix)
            _check_point(point, told[point.run].points, header, where)
            told[point.run].points.append(point)
    if header is None or not told:
        raise UserError("holds no runs", where=str(path), fix="docs/score.md shows what a file holds")
    return header, told


def _lines(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError("file not found", where=str(path)) from None
    except UnicodeDecodeError:
        raise UserError("not text in UTF-8", where=str(path)) from None
    for number, text in enumerate(texts, 1):
        where = f"{path}:{number}"
        if text.strip():
            try:
                line = json.loads(text)
            except ValueError as error:
                raise UserError(f"not JSON ({error}): truncated or foreign", where=where) from None
            if not isinstance(line, dict):
                raise UserError(f"must hold a JSON object, got {type(line).__name__}", where=where)
            yield where, line


def _check_point(point: Point, before: list[Point], header: Header, where: str) -> None:
    domains = set(header.train_tokens)
    for name in ("loss", "bits_per_byte", "weights", "drawn"):
        given = set(getattr(point, name))
        wanted = set() if name in ("loss", "bits_per_byte") and point.split == "train" else domains
        if given and not wanted <= given <= domains:
            missing, unknown = sorted(wanted - given), sorted(given - domains)
            raise UserError(
                f"{name}: no {', '.join(missing)}" if missing else f"{name}: unknown domain {unknown[0]!r}",
                where=where,
                fix=f"the header's train_tokens has the domains: {', '.join(header.train_tokens)}",
            )
    for name in ("weights", "drawn"):
        shares = getattr(point, name)
        if shares and abs(sum(shares.values()) - 1) > SUM:
            raise UserError(f"{name} sum to {sum(shares.values()):.6g}, not to 1", where=where)
    if before and point.step < before[-1].step:
        raise UserError(f"step {point.step} after step {before[-1].step}", where=where)
    if point.loss and any(one.loss and (one.step, one.split) == (point.step, point.split) for one in before):
        raise UserError(f"a second {point.split} loss at step {point.step}", where=where)


def check(told: dict[str, Told], horizon: int, where: str) -> None:
    """Refuse runs that contradict each other.

    Raises:
        UserError: a missing ancestor, two compared runs of a method and seed, or one that ends before ``horizon``.
    """
    seen = set()
    for one in told.values():
        run = one.run
        if unknown := [name for name in run.after if name not in told]:
            raise UserError(f"{run.run} is after {unknown[0]!r}, which is no run here", where=where)
        if not run.compared:
            continue
        if (run.method, run.seed) in seen:
            raise UserError(f"a second compared run of {run.method} on seed {run.seed}: {run.run}", where=where)
        seen.add((run.method, run.seed))
        if run.status == "finished" and one.steps != horizon:
            raise UserError(
                f"{run.run} ends at step {one.steps}, compared runs at {horizon}",
                where=where,
                fix='"status": "diverged" for one that broke off, "compared": false for a training to another horizon',
            )
