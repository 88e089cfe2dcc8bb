"""Cross-entropy of every token, without a second and third copy of the logits."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 1024  # rows of logits in float32 at a time


class _TokenLoss(torch.autograd.Function):
    """-log softmax(logits)[target] in float32; the backward pass writes the gradient into the logits' own memory."""

    @staticmethod
    def forward(ctx, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        top_N = torch.cat([torch.logsumexp(block.float(), 1) for block in logits_NV.split(ROWS)])
        ctx.logits, ctx.target, ctx.top = logits_NV.detach(), target_N, top_N
        return top_N - logits_NV.gather(1, target_N[:, None])[:, 0].float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_N: Tensor):
        logits_NV, ctx.logits = ctx.logits, None  # a second backward pass must fail, not read what was overwritten
        for block, target, top, grad in zip(
            *(t.split(ROWS) for t in (logits_NV, ctx.target, ctx.top, grad_N)), strict=True
        ):
            part = block if block.dtype == torch.float32 else block.float()
            part.sub_(top[:, None]).exp_().mul_(grad[:, None])
            part[torch.arange(len(part), device=part.device), target] -= grad
            if part is not block:
                block.copy_(part)
        return logits_NV, None


def token_losses(model: torch.nn.Module, tokens_BS: Tensor) -> Tensor:
    """(B, S - 1) cross-entropy of every token given those before it, nats, float32."""
    logits_BTV = model(input_ids=tokens_BS[:, :-1], use_cache=False).logits
    return _TokenLoss.apply(logits_BTV.flatten(0, 1), tokens_BS[:, 1:].flatten()).view(len(tokens_BS), -1)
