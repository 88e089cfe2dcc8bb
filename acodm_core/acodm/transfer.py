"""An actor in a file: what a proxy run leaves behind and a target run draws by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acodm_core.errors import UserError
from acodm_core.files import atomic

if TYPE_CHECKING:
    from acodm_core.acodm.mixer import AcOdm

FILE = "actor.safetensors"
SHAPED_BY = ("agent", "anchor", "hidden", "layers", "form", "blocks")  # options that decide which actor fits


def save(path: Path, mixer: AcOdm, domains: tuple[str, ...]) -> None:
    """Write the mixer's actor, with the statistics that its state is normalised by and the domains it knows."""
    from safetensors.numpy import save_file

    tensors = {f"actor.{name}": np.ascontiguousarray(value) for name, value in mixer.agent_.actor.named().items()}
    normaliser = mixer.tracker_.normaliser.state_dict()
    tensors |= {f"state.{name}": np.asarray(value) for name, value in normaliser.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"domains": json.dumps(domains), "options": json.dumps(_shape(mixer))})


def load(path: Path, mixer: AcOdm, domains: tuple[str, ...]) -> None:
    """Put the actor of ``path`` into ``mixer`` and freeze its normaliser.

    Raises:
        UserError: no actor there, one of other domains (both lists are shown), or one of another shape.
    """
    from safetensors import safe_open

    if not path.exists():
        fix = "inputs: {actor: NAME} must name a method whose mixer is AC-ODM"
        raise UserError("no actor here", where=str(path), fix=fix)
    with safe_open(path, "numpy") as file:
        known, shape = (json.loads(file.metadata()[name]) for name in ("domains", "options"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    if tuple(known) != domains:
        raise UserError(
            f"the actor was learned on domains {known}, this run has {list(domains)}",
            where=str(path),
            fix="train the proxy on the same domains in the same order",
        )
    mine = _shape(mixer)
    actor = {n.removeprefix("actor."): t for n, t in tensors.items() if n.startswith("actor.")}
    expected = mixer.agent_.actor.named()
    if shape != mine or {n: t.shape for n, t in actor.items()} != {n: t.shape for n, t in expected.items()}:
        theirs = ", ".join(f"{name} {shape[name]}" for name in SHAPED_BY if shape[name] != mine[name])
        raise UserError(
            f"the actor was learned with {theirs or 'another number of probed weight tensors'}",
            where=str(path),
            fix=f"give this method the options {', '.join(SHAPED_BY)} of the run that learned it; only the state's"
            " relative form fits models of any depth",
        )
    for name, value in expected.items():
        value[...] = actor[name]
    mixer.tracker_.normaliser.load_state_dict({n: tensors[f"state.{n}"] for n in ("count", "mean", "m2")})
    mixer.tracker_.normaliser.frozen = True


def _shape(mixer: AcOdm) -> dict[str, Any]:
    return {name: json.loads(json.dumps(getattr(mixer, name))) for name in SHAPED_BY} | {
        "blocks": list(mixer.tracker_.blocks)  # in the state's own order
    }
