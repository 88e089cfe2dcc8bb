"""Whether a model can be trained at all: built, and taken forward and backward on tensors that hold no numbers.

    python -m acodm_core.lm.trial < TRIALS.json

``study.model_trials`` runs it in a process of its own, because planning imports no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from typing import Any

import torch

from acodm_core.errors import UserError
from acodm_core.lm.kernels.compat import WithoutNumbers
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.model import build_model, matching_layers, middle_states
from acodm_core.lm.signals.adapters import adapted_layers
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig

VOCABULARY, TOKENS = 64, 8  # of the trial, not of the run: no type's products depend on them


def try_out(config: ModelConfig, context: int, needs: Collection[Signal]) -> None:
    """Train one step of a model of any size, in no memory.

    Args:
        needs: the signals that its runs' mixers may ask for.

    Raises:
        UserError: it cannot be built or trained, no layer is called as the patterns say, or a signal cannot be measured on it.
    """
    with WithoutNumbers():
        try:
            model = build_model(config.config, vocab_size=VOCABULARY, context=context, seed=None)
            tokens_BS = torch.zeros(1, min(context, TOKENS) + 1, dtype=torch.int64)
            weighted_loss(model, tokens_BS, torch.ones(1))[0].backward()
            if Signal.EMBEDDING in needs:
                middle_states(model, tokens_BS)
            idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.numel()]
            if idle:
                raise UserError(f"{', '.join(idle[:3])} would not be trained", where="models.*.config")
        except UserError:
            raise
        except Exception as error:  # whatever a type's own code raises where a shape does not fit
            what = f"a model of this config cannot be trained: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise UserError(what, where="models.*.config") from error
        for name in ("gradient_layers", "norm_layers"):
            matching_layers(model, getattr(config, name), where=f"models.*.{name}")
        if Signal.ADAPTER_LOSS in needs:
            adapted_layers(model)


def verdict(model: dict[str, Any], context: int, needs: Collection[str]) -> dict[str, str] | None:
    """None for a model that can be trained, else the UserError's parts."""
    try:
        try_out(ModelConfig.model_validate(model), context, {Signal(need) for need in needs})
    except UserError as error:
        return {"what": error.what, "where": error.where, "fix": error.fix}
    return None


if __name__ == "__main__":
    json.dump([verdict(**trial) for trial in json.load(sys.stdin)], sys.stdout)
