"""An actor in a file: what a proxy run leaves behind and a target run draws by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acodm_core.errors import UserError
from acodm_core.files import atomic

if TYPE_CHECKING:
    from torch import Tensor

FILE = "actor.safetensors"


def save_actor(
    path: Path,
    weights: Mapping[str, Tensor],
    statistics: Mapping[str, Any],
    shape: Mapping[str, Any],
    domains: tuple[str, ...],
) -> None:
    """Write an actor's network, and what whoever loads it must have in common with it.

    Args:
        weights: the network's ``state_dict``.
        statistics: what its states are normalised by, a ``Normaliser``'s ``state_dict``.
        shape: names and plain values that decide which actor fits.
        domains: those it knows, in order.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {f"actor.{name}": value for name, value in weights.items()}
    tensors |= {f"state.{name}": torch.as_tensor(value) for name, value in statistics.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"domains": json.dumps(domains), "shape": json.dumps(shape)})


def load_actor(
    path: Path, shape: Mapping[str, Any], domains: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights and the statistics that ``save_actor`` wrote, in numpy where a ``Normaliser`` reads them.

    Raises:
        UserError: no actor there, one of other domains (both lists are shown), or one of another shape.
    """
    from safetensors import safe_open

    if not path.exists():
        fix = "inputs: {actor: NAME} must name a method whose mixer is AC-ODM"
        raise UserError("no actor here", where=str(path), fix=fix)
    with safe_open(path, "pt") as file:
        known, theirs = (json.loads(file.metadata()[name]) for name in ("domains", "shape"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    if tuple(known) != domains:
        raise UserError(
            f"the actor was learned on domains {known}, this run has {list(domains)}",
            where=str(path),
            fix="train the proxy on the same domains in the same order",
        )
    mine = json.loads(json.dumps(shape))
    if theirs != mine:
        other = ", ".join(f"{name} {theirs.get(name)}" for name in mine if theirs.get(name) != mine[name])
        raise UserError(
            f"the actor was learned with {other}",
            where=str(path),
            fix=f"this method needs {', '.join(f'{name} {mine[name]}' for name in mine)}, as the run that learned it; only the"
            " state's relative form fits models of any depth",
        )
    weights = {name.removeprefix("actor."): value for name, value in tensors.items() if name.startswith("actor.")}
    return weights, {name: tensors[f"state.{name}"].numpy() for name in ("count", "mean", "m2")}
