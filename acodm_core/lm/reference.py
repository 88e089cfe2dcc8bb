"""A finished run's model, frozen: the yardstick by which another model's loss is in excess."""

from __future__ import annotations

from pathlib import Path

import torch

from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.loss import token_losses


class Reference:
    """The model that a run left in ``folder``; it only reads.

    Args:
        context: tokens a sequence, to count operations.
        vocab_size: of the corpus that it will be asked about.

    Raises:
        UserError: no finished run there, or one of another vocabulary.
    """

    def __init__(self, folder: Path, *, context: int, vocab_size: int, device: torch.device | str) -> None:
        self.model = _load(folder).to(device)
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


def _load(folder: Path) -> torch.nn.Module:
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    manifest = read_json(folder / "manifest.json")  # written last
    if manifest["status"] != "finished":
        raise UserError(
            f"the reference run has {manifest['status']}: it left no model to compare with",
            where=str(folder),
            fix="mend that run, or name another method in inputs: {reference: NAME}",
        )
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten next, must not move the run's own stream
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), attn_implementation="sdpa")
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.eval().requires_grad_(False)
