"""The names in lm-eval's own task files, read without lm-eval, whose index of them takes ten seconds and more."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from acodm_core.errors import UserError, unknown_name

_VALUE = rb"""[ \t]*["']?([^"'\[\]{}#\r\n]*[^"'\[\]{}#\s])["']?[ \t\r]*(?:#.*)?$"""
_NAMED = re.compile(rb"""^[ \t-]*["']?(?:task|group|tag)["']?:""" + _VALUE, re.MULTILINE)
_TAGS = re.compile(rb"""^["']?tag["']?:[ \t]*\r?\n((?:[ \t]*-.*\n?)+)""", re.MULTILINE)
_TAG = re.compile(rb"^[ \t]*-" + _VALUE, re.MULTILINE)


def folder() -> Path:
    """lm-eval's folder of task files."""
    return Path(find_spec("lm_eval").submodule_search_locations[0], "tasks")


def stock(variant: str) -> Path:
    """The folder of lm-eval's own MMLU task files: ``default``, ``continuation``, ``flan_cot_fewshot``."""
    return folder() / "mmlu" / variant


@cache
def subjects() -> tuple[str, ...]:
    """The 57 subjects of MMLU as lm-eval's task files name them, sorted."""
    names = (path.stem.removeprefix("mmlu_") for path in stock("default").glob("mmlu_*.yaml"))
    return tuple(sorted(names))


@cache
def written() -> frozenset[str]:
    """Names of tasks, groups and tags that stand in the files: nearly all that lm-eval knows, and some that it makes others of."""
    names: set[bytes] = set()
    for path in folder().rglob("*.yaml"):
        text = path.read_bytes()
        names.update(_NAMED.findall(text))
        for lines in _TAGS.findall(text):
            names.update(_TAG.findall(lines))
    return frozenset(name.decode("utf-8", "replace") for name in names)


def check_task(name: str, where: str) -> None:
    """Raise UserError where lm-eval has no such task, group or tag; its own index is asked about what is not written."""
    if name in written():
        return
    from lm_eval.tasks import TaskManager

    tasks = TaskManager().all_tasks
    if name not in tasks:
        raise unknown_task(name, tasks, where)


def unknown_task(name: str, tasks: Collection[str], where: str = "--task") -> UserError:
    """The error for a name that lm-eval does not know: the nearest ones, of thousands."""
    full = unknown_name("lm-eval task", name, tasks, where=where)
    near = re.match(r"did you mean .*?\? ", full.fix)
    return UserError(full.what, where=full.where, fix=f"{near[0] if near else ''}`lm_eval ls tasks` lists them")
