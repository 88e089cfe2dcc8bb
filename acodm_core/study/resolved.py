"""A method of the configuration with everything written out that it leaves open: what names its runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from acodm_core.mixers.find import build_mixer
from acodm_core.mixers.grouped import partition
from acodm_core.study.config import MethodConfig
from acodm_core.study.identity import mixer_code, option_files

MEMBER = "member"  # the option that holds a run's number in its swarm


@dataclass(frozen=True)
class ResolvedMethod:
    """A method whose names were checked."""

    entry: MethodConfig
    options: dict[str, Any]  # of the mixer, defaults written out: a changed default is a changed run
    code: str  # digest of the mixer's code
    files: dict[str, str]  # option that names a file -> SHA-256
    groups: dict[str, tuple[str, ...]] | None  # group -> domains, None where the mixer sees every domain by itself
    members: int | None  # runs of the swarm per seed; None: one run


def resolve(name: str, entry: MethodConfig, domains: tuple[str, ...]) -> ResolvedMethod:
    """Method ``name`` over these domains.

    Raises:
        UserError: a file that an option names cannot be read.
    """
    mixer = build_mixer(entry.mixer, entry.options)
    options = json.dumps(dataclasses.asdict(mixer), default=str)  # tuples as lists and paths as text, as in a spec
    groups = resolved_groups(entry, domains)
    return ResolvedMethod(
        entry=entry,
        options=json.loads(options),
        code=mixer_code(entry.mixer, mixer),
        files=option_files(mixer, where=f"methods.{name}.options"),
        groups=groups,
        members=resolved_members(entry, groups or domains),
    )


def resolved_groups(
    entry: MethodConfig, domains: tuple[str, ...], *, where: str = ""
) -> dict[str, tuple[str, ...]] | None:
    """Group -> domains, None where the mixer sees every domain by itself under its own name."""
    if entry.groups is None:
        return None
    groups = partition(entry.groups, domains, where=where)
    return None if tuple(groups) == domains else groups


def resolved_members(entry: MethodConfig, seen: Collection[str]) -> int | None:
    """Runs of a swarm whose mixers see the domains or groups ``seen``; None where the method is no swarm."""
    return len(seen) if entry.members == "domains" else entry.members
