"""What of the code and of the disk names a run, and whether a spec is still of the code that is there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from acodm_core import ARITHMETIC, PROTOCOL
from acodm_core.errors import UserError
from acodm_core.files import sha256
from acodm_core.measure.code_digest import code_digest
from acodm_core.mixers.find import build_mixer, mixer_module
from acodm_core.mixing import Mixer

if TYPE_CHECKING:
    from acodm_core.study.planner import RunSpec


def mixer_code(name: str, mixer: Mixer) -> str:
    """Digest of the code of mixer ``name``, and of the mixers that it builds itself."""
    return code_digest(mixer_module(name), *map(mixer_module, mixer.built_mixers()))


def option_files(mixer: Mixer, *, where: str = "") -> dict[str, str]:
    """Option -> SHA-256, of every option of ``mixer`` that is a ``Path``.

    Raises:
        UserError: a file that is not there.
    """
    options = {f.name: getattr(mixer, f.name) for f in dataclasses.fields(mixer)}
    hashes = {}
    for name, path in options.items():
        if isinstance(path, Path):
            try:
                hashes[name] = sha256(path)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}", where=f"{where}.{name}") from None
    return hashes


def check_current(spec: RunSpec) -> None:
    """Refuse a spec of other code than is there: its run would stand under the name of results that it does not have.

    Raises:
        UserError: another protocol, another arithmetic of the trainer, a mixer or a file of its options that changed.
    """
    mixer = build_mixer(spec.mixer, spec.options)
    now = {
        "protocol": PROTOCOL,
        "arithmetic": ARITHMETIC,
        "code": mixer_code(spec.mixer, mixer),
        "files": option_files(mixer),
    }
    changed = [name for name, value in now.items() if getattr(spec, name) != value]
    if changed:
        words = {"code": f"the code of mixer {spec.mixer!r}", "files": "a file that its options name"}
        raise UserError(
            f"planned before {' and '.join(words.get(name, f'the {name} number') for name in changed)} changed",
            where=spec.run,
            fix="plan again: snakemake, or acodm plan --write; the changed run gets a new name",
        )
