"""The two programs that run in sandboxes of their own to check one completion: the candidate and the checker.

Standard library only. The candidate runs the model's code and knows nothing else: it answers calls. The checker runs
the problem's test, whose ``candidate(...)`` is a call through a pipe. Expected values, the test and the verdict never
enter the process of the model's code, and what leaves it is data.
"""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Callable

import wire

STARTED = "started"  # either program's first word, sent before any code of the model's runs
MAX_REASON = 300


class CandidateError(Exception):
    """An exception in the candidate, or an answer that is none, seen at the checker's call."""


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}"[:MAX_REASON].removesuffix(": ")


def candidate(task: dict[str, str], calls: int, replies: int) -> None:
    """Run ``source``, then answer calls of ``entry_point`` until there are no more."""

    def answer(work: Callable, *arguments: object) -> None:
        try:
            frame = wire.pack({"returned": wire.encode(work(*arguments))})
        except BaseException as error:  # SystemExit too: a call that exits has not answered
            frame = wire.pack({"raised": _describe(error)})
        wire.write(replies, frame)

    wire.write(replies, wire.pack(STARTED))
    random.seed(0)
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module  # where dataclasses look their module up

    def define() -> None:
        exec(compile(task["source"], "candidate.py", "exec"), module.__dict__)

    def call(*arguments: object) -> object:
        return module.__dict__[task["entry_point"]](*arguments)

    answer(define)
    while True:
        try:
            arguments = wire.decode(wire.receive(calls))
        except EOFError:
            return
        answer(call, *arguments)


def checker(task: dict[str, str], calls: int, replies: int, verdict: int) -> None:
    """Run the problem's ``test`` against the candidate and send STARTED, then {"passed", "reason"}.

    The reason is ``passed``, ``failed: ...``, ``garbled answer: ...``, ``gone`` (the candidate ended while it was
    needed) or ``not started`` (it never began, which is the sandbox's failure and not the model's). Functions of the
    prompt that the test calls come from the prompt itself, not from the candidate.
    """

    def answer() -> object:
        reply = wire.receive(replies)
        match reply:
            case {"raised": str(text), **rest} if not rest:
                raise CandidateError(text[:MAX_REASON])
            case {"returned": value, **rest} if not rest:
                return wire.decode(value)
        raise wire.Garbled("neither a value nor an exception")

    def call(*arguments: object) -> object:
        wire.write(calls, wire.pack(wire.encode(list(arguments))))
        return answer()

    wire.write(verdict, wire.pack(STARTED))
    random.seed(0)
    started = False
    names: dict[str, object] = {"__name__": "checker"}
    try:
        started = wire.receive(replies) == STARTED
        answer()  # to the model's code being defined
        exec(compile(task["prompt"], "prompt.py", "exec"), names)
        names[task["entry_point"]] = call
        exec(compile(task["test"], "test.py", "exec"), names)
        names["check"](call)
    except CandidateError as error:
        outcome = {"passed": False, "reason": f"failed: {error}"}
    except wire.Garbled as error:
        outcome = {"passed": False, "reason": f"garbled answer: {error}"[:MAX_REASON]}
    except (EOFError, BrokenPipeError):
        outcome = {"passed": False, "reason": "gone" if started else "not started"}
    except BaseException as error:
        outcome = {"passed": False, "reason": f"failed: {_describe(error)}"}
    else:
        outcome = {"passed": True, "reason": "passed"}
    wire.write(verdict, wire.pack(outcome))
