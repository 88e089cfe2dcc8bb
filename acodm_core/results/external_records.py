"""The records of another trainer: a file of JSON lines, read and checked. docs/how-to/score.md says what the lines hold."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from acodm_core.errors import UserError, unknown_name
from acodm_core.settings.types import LARGEST, Count, Distinct, Label, Name, Strict, checked, shown

UNSTATED = "unstated"
SUM = 1e-3  # how far a mixture's shares may be from 1 by rounding
Loss = Annotated[float, Field(ge=0, le=1e6)]
Amount = Annotated[float, Field(ge=0, le=1e40)]
Fraction = Annotated[float, Field(ge=0, le=1 + SUM)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Steps = Annotated[int, Field(ge=0, le=10**9)]


class Header(Strict):
    """The first line: what all runs share."""

    experiment: Name
    baseline: Label
    train_tokens: dict[Label, Count] = Field(min_length=1)  # domain -> training tokens there are
    batch: Count
    context: Count
    steps: Annotated[Steps, Field(gt=0)] | None = None  # of a compared run; default: of the longest
    schedule: Label = UNSTATED
    objective_weights: dict[Label, Annotated[float, Field(ge=0, le=1e9)]] = Field(
        {}
    )  # of the domains in the compared loss; default: all alike
    titles: dict[Label, Label] = Field({})  # method -> name in tables
    corpus: Label = UNSTATED
    evaluation: dict[Label, Count] = Field({})  # as experiment.json has it: which held-out sequences

    @model_validator(mode="after")
    def _weighs_its_domains(self) -> Header:
        for domain in self.objective_weights:
            if domain not in self.train_tokens:
                raise ValueError(
                    str(unknown_name("domain", domain, self.train_tokens, where=f"objective_weights.{domain}"))
                )
        if self.objective_weights and not any(self.objective_weights.values()):
            raise ValueError("objective_weights must not all be zero")
        return self


class Run(Strict):
    """A run, before its points."""

    run: Label
    method: Label
    seed: Whole
    status: Literal["finished", "diverged", "out_of_memory"] = "finished"
    compared: bool = True  # False: a stage of others, or a training to another horizon
    after: Annotated[tuple[Label, ...], Distinct] = ()  # runs that it depends on, nearest first
    model: Label = UNSTATED
    parameters: Count | None = None
    flops: Annotated[Amount, Field(gt=0)] | None = None  # of its training steps, forward and backward
    method_flops: Amount = 0.0  # of what the method had measured, on top
    hardware: Label = UNSTATED
    precision: Label = UNSTATED


class Point(Strict):
    """What is known of a run at a step."""

    run: Label
    step: Steps
    tokens: Whole
    split: Literal["train", "valid", "test"] = "valid"
    loss: dict[Label, Loss] = Field({})  # domain -> nats per token
    bits_per_byte: dict[Label, Loss] = Field({})
    weights: dict[Label, Fraction] = Field({})  # what was asked for in the steps since the run's line before
    drawn: dict[Label, Fraction] = Field({})  # what was drawn in them; default: as asked
    seconds: Amount | None = None  # of training so far, by the trainer's own clock


@dataclass
class Told:
    """A run and its points, in the file's order."""

    run: Run
    points: list[Point] = field(default_factory=list)
    losses: set[tuple[int, str]] = field(default_factory=set)  # (step, split) of the points that tell one

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
            _add(point, told[point.run], header, where)
    if header is None or not told:
        raise UserError("holds no runs", where=str(path), fix="docs/how-to/score.md shows what a file holds")
    for method in header.titles:
        if method not in (methods := {one.run.method for one in told.values()}):
            raise unknown_name("method", method, methods, where=f"{path}:1: titles.{method}")
    return header, told


def _lines(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError("file not found", where=str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise UserError(
            "not text in UTF-8", where=str(path), fix="one JSON object per line: not packed, in UTF-8"
        ) from None
    for number, line in enumerate(text.split("\n"), 1):  # and at no other character that ends a line elsewhere
        if line.strip():
            yield f"{path}:{number}", _object(line, f"{path}:{number}")


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except UserError as error:
        raise UserError(error.what, where=where) from None
    except RecursionError:
        raise UserError("nested too deep for a record", where=where) from None
    except ValueError as error:
        raise UserError(f"not JSON ({error}): truncated or foreign", where=where) from None
    if not isinstance(found, dict):
        raise UserError(f"must hold a JSON object, got {type(found).__name__}", where=where)
    return found


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise UserError(f"the key {shown(key)} stands twice")
    return found


def _add(point: Point, told: Told, header: Header, where: str) -> None:
    """Append ``point`` to its run, if it contradicts neither itself nor the points before."""
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
    last = told.points[-1] if told.points else None
    if last and point.step < last.step:
        raise UserError(f"step {point.step} after step {last.step}", where=where)
    if last and point.tokens < last.tokens:
        raise UserError(f"{point.tokens} tokens after {last.tokens}: give all since the run began", where=where)
    if point.step and not point.tokens:
        raise UserError(f"tokens: no token in {point.step} steps", where=where)
    if point.loss and (point.step, point.split) in told.losses:
        raise UserError(f"a second {point.split} loss at step {point.step}", where=where)
    told.points.append(point)
    if point.loss:
        told.losses.add((point.step, point.split))


def check(told: dict[str, Told], horizon: int, where: str) -> None:
    """Refuse runs that contradict each other.

    Raises:
        UserError: no compared run; a missing ancestor, two compared runs of a method and seed, one that ends before ``horizon``
            or tells no loss there.
    """
    if not any(one.run.compared for one in told.values()):
        raise UserError(
            "no run is compared", where=where, fix='leave out "compared": false where a run is to have a row'
        )
    if not horizon:
        raise UserError("no run has a step after 0", where=where)
    seen = set()
    for one in told.values():
        run = one.run
        if unknown := [name for name in run.after if name not in told]:
            raise UserError(f"{run.run} is after {unknown[0]!r}, which is no run here", where=where)
        if circle := [name for name in run.after if name == run.run or run.run in told[name].run.after]:
            raise UserError(f"{run.run} is after {circle[0]!r}, which is itself after it", where=where)
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
        if run.status == "finished" and (horizon, "valid") not in one.losses:
            raise UserError(
                f"{run.run} tells no validation loss at its last step, {horizon}",
                where=where,
                fix='"status": "diverged" for one that broke off, or a point with its `loss` there',
            )
