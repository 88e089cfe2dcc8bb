"""A model's weights in a file: one writer and one reader, for ends of runs, snapshots, references and downstream tasks.

A parameter that stands in a model under two names (an output head tied to the token embeddings) is written once, under the first
of them, as Hugging Face folders have it. The model that reads it ties it again.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import torch

from acodm_core.errors import UserError
from acodm_core.files import atomic
from acodm_core.lm.distributed.ranks import rank
from acodm_core.lm.distributed.sharding import whole_state


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """Write the model's parameters and buffers as safetensors. Every rank calls it, and the first one writes."""
    from safetensors.torch import save_file

    once = _written(model)
    state = whole_state({name: value for name, value in model.state_dict().items() if name in once})
    if rank() > 0:
        return
    with atomic(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)


def load_weights(path: Path, model: torch.nn.Module) -> None:
    """Put what ``save_weights`` wrote into a whole ``model`` of the same shape, in place.

    Raises:
        UserError: no such file, a damaged one, or another model's weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError("file not found", where=str(path))
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"not a file of weights: {error}", where=str(path)) from error
    mine = {name: value for name, value in model.state_dict().items() if name in _written(model)}
    wrong = sorted(mine.keys() ^ state.keys()) or [name for name in mine if mine[name].shape != state[name].shape]
    if wrong:
        raise UserError(
            f"these are another model's weights: {', '.join(wrong[:3])} differ" + (", ..." if wrong[3:] else ""),
            where=str(path),
            fix="keep a run's config.json and weights together",
        )
    model.load_state_dict(state, strict=False)  # the second names of tied parameters are not in it


def _written(model: torch.nn.Module) -> set[str]:
    """Each parameter's and buffer's first name."""
    return {name for name, _ in chain(model.named_parameters(), model.named_buffers())}
