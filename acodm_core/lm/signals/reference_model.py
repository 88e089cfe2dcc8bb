"""A finished run's model, frozen: the yardstick by which another model's loss is in excess."""

from __future__ import annotations

from pathlib import Path

import torch

from acodm_core.errors import UserError
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.kernels.fused_loss import token_losses
from acodm_core.lm.model import fresh_model
from acodm_core.lm.weights import load_weights
from acodm_core.results.finished_run import read_manifest, require


class Reference:
    """The model that a run left in ``folder``; it only reads.

    Args:
        context: tokens a sequence, to count operations.
        vocab_size: of the corpus that it will be asked about.

    Raises:
        UserError: no finished run there, or one of another vocabulary.
    """

    def __init__(self, folder: Path, *, context: int, vocab_size: int, device: torch.device | str) -> None:
        self.model = frozen_model(folder, role="reference run").to(device)
        if self.model.config.vocab_size != vocab_size:
            raise UserError(
                f"the reference has {self.model.config.vocab_size} tokens in its vocabulary, this corpus {vocab_size}",
                where=str(folder),
                fix="train the reference on the same corpus",
            )
        self.flops = sequence_flops(self.model, context, backward=False)  # a sequence

    @torch.no_grad()
    def losses(self, tokens_BS: torch.Tensor) -> torch.Tensor:
        """(B, S - 1) cross-entropy of every token given those before it, nats, float32."""
        return token_losses(self.model, tokens_BS)


def frozen_model(folder: Path, *, role: str = "run", weights: str = "weights.safetensors") -> torch.nn.Module:
    """The model that a run left in ``folder``, on the CPU, in evaluation mode and without gradients.

    Args:
        role: what the run is to the caller, for the error message.
        weights: file in ``folder``.

    Raises:
        UserError: no finished run there, no such file, or one that is damaged.
    """
    from transformers import AutoConfig

    manifest = read_manifest(folder)
    if manifest["status"] != "finished":
        raise UserError(
            f"the {role} has {manifest['status']}: it left no finished model",
            where=str(folder),
            fix="mend that run, or name another one",
        )
    require(folder, weights, "config.json")
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten next, must not move the run's own stream
        model = fresh_model(AutoConfig.from_pretrained(folder))
    load_weights(folder / weights, model)
    return model.eval().requires_grad_(False)
