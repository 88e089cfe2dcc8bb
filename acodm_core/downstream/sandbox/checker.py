"""The verdict on one completion of one problem, from two sandboxes: one runs the model's code, the other checks it.

The candidate's sandbox holds the prompt and the completion; the checker's holds the test, calls the candidate through
pipes, and alone can write the verdict (``jailed_programs.py``). Code of the model's can answer calls, rightly or wrongly, and
nothing else: it has no expected value to read, no comparison to patch and no verdict to forge.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from acodm_core.downstream.sandbox.sandbox import ENABLE, Backend, Limits, Sandboxed, pipe, receive, require, start
from acodm_core.errors import UserError

MAX_COMPLETION_BYTES = 1 << 20
START_SECONDS = 60  # for the trusted part before the model's code; a sandbox that takes longer is broken


@dataclass(frozen=True)
class Verdict:
    """What came of it. ``reason`` is for people: all but ``passed`` may quote what the model's code said."""

    passed: bool
    reason: str
    seconds: float
    backend: Backend


def check(
    problem: Mapping[str, str], completion: str, limits: Limits | None = None, backend: Backend | None = None
) -> Verdict:
    """Check ``completion`` against ``problem``, a HumanEval problem: ``prompt``, ``test`` and ``entry_point``.

    Returns a verdict whatever the completion does. UserError where there is no sandbox, or where it does not start:
    that is never the completion's failure.
    """
    limits, backend = limits or Limits(), backend or require()
    began = time.monotonic()

    def verdict(reason: str, passed: bool = False) -> Verdict:
        return Verdict(passed, reason, round(time.monotonic() - began, 3), backend)

    if len(completion.encode(errors="replace")) > MAX_COMPLETION_BYTES:
        return verdict(f"failed: a completion of more than {MAX_COMPLETION_BYTES} bytes")
    source = {"source": problem["prompt"] + completion, "entry_point": problem["entry_point"]}
    test = {name: problem[name] for name in ("prompt", "test", "entry_point")}
    with contextlib.ExitStack() as stack:
        (calls, call), (replies, reply), (verdicts, judge) = (stack.enter_context(pipe()) for _ in range(3))
        hands = [call.fileno(), replies.fileno(), judge.fileno()]
        try:
            candidate = start("candidate", source, [calls.fileno(), reply.fileno()], limits, backend)
            stack.enter_context(candidate)
            checker = stack.enter_context(start("checker", test, hands, limits, backend))
        except OSError as error:
            raise _broken(str(error), backend) from None
        for end in (calls, call, replies, reply, judge):
            end.close()
        try:
            receive(verdicts, START_SECONDS)
        except (EOFError, TimeoutError):
            raise _broken(checker.complaint(), backend) from None
        try:
            outcome = receive(verdicts, limits.wall_seconds)
        except TimeoutError:
            return verdict("timed out: waited too long")
        except EOFError:
            return verdict(_fate(checker, "the checker", limits))
        match outcome["reason"]:
            case "not started":
                raise _broken(candidate.complaint(), backend)
            case "gone":
                return verdict(_fate(candidate, "the candidate", limits))
            case str(reason) if reason.startswith("failed: MemoryError"):
                return verdict("out of memory")
            case reason:
                return verdict(reason, outcome["passed"])


def _broken(complaint: str, backend: Backend) -> UserError:
    return UserError(f"the sandbox ({backend}) worked, and now does not start: {complaint}", fix=ENABLE)


def _fate(process: Sandboxed, who: str, limits: Limits) -> str:
    """Why a process is gone before its work was done."""
    end = process.wait(5)
    if end is None:
        return f"ended: {who} closed its pipes"
    # The kernel stops a process by clock ticks, and on a busy machine before it has had all its time by the finer count.
    if end.cpu_seconds >= limits.cpu_seconds / 2:
        return f"timed out: {who} used its processor time"
    return f"ended: {who} exited with status {end.status}"
