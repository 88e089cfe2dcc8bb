"""Cross-entropy of every token with the output head inside it: the logits of a few rows are all that there ever is of them.

A block of rows is multiplied by the head, made into losses and, where the weighted sum of the losses is descended, into the
gradients of the hidden states and of the head at once. What is kept for the backward pass is the two gradients. The number of
products is that of the separate head; logits of the whole batch are neither written nor read back.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor

from acodm_core.lm.kernels import compat

ROWS = {"cpu": 1024}  # multiplied by the head at a time; the head's gradient is added to once in so many
ROWS_ELSEWHERE = 4096
CACHED_ROWS = 256  # of a CPU's logits, made into losses at a time: of 8,192 tokens they fill a core's cache
_CHANGE_LOGITS: WeakSet[torch.nn.Module] = WeakSet()  # models found to do something after the head, e.g. cap or scale


def weighted_loss(model: torch.nn.Module, tokens_BS: Tensor, weight_B: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over tokens of ``weight_B`` times their losses, and (B, S - 1) those losses without a graph.

    Args:
        model: a Hugging Face causal LM, or a wrapper of one under ``module``. A head that is not a plain Linear without bias,
            is being measured itself, or whose logits the model changes, makes all its logits.
    """
    targets = tokens_BS[:, 1:]
    weight_N = weight_B[:, None].expand(targets.shape).flatten()
    found: list[Tensor] = []

    def score(hidden_NH: Tensor, head_VH: Tensor) -> Tensor:
        total, loss_N = _WeightedLoss.apply(hidden_NH, head_VH, targets.flatten(), weight_N)
        found.append(loss_N)
        return total

    total = _scored(model, tokens_BS, score)
    if total is not None:
        return total, found[0].view(targets.shape)
    loss_N = _separate_losses(model, tokens_BS)
    return (loss_N * weight_N).sum(), loss_N.detach().view(targets.shape)


@torch.no_grad()
def token_losses(model: torch.nn.Module, tokens_BS: Tensor) -> Tensor:
    """(B, S - 1) cross-entropy of every token given those before it, nats, float32; without a graph.

    ``model`` is as in ``weighted_loss``.
    """
    targets = tokens_BS[:, 1:]
    loss_N = _scored(model, tokens_BS, lambda hidden_NH, head_VH: _blocks(hidden_NH, head_VH, targets.flatten())[0])
    return (_separate_losses(model, tokens_BS) if loss_N is None else loss_N).view(targets.shape)


def _scored(model: torch.nn.Module, tokens_BS: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor | None:
    """What ``score`` makes of the hidden states and the head's weights inside the model's forward pass; None where it cannot.

    The head's place is taken inside the ordinary call, because wrappers (DDP, FSDP) do their part around that.
    """
    plain = getattr(model, "module", model)
    head = plain.get_output_embeddings()
    if compat.is_watched(head) or type(head) is not torch.nn.Linear or head.bias is not None or plain in _CHANGE_LOGITS:
        return None
    made: list[Tensor] = []

    def forward(hidden_BTH: Tensor) -> Tensor:
        made.append(score(hidden_BTH.flatten(0, -2), head.weight))
        return made[0]

    with compat.in_place_of_forward(head, forward):
        out = model(input_ids=tokens_BS[:, :-1], use_cache=False).logits
    if out is made[0]:
        return out
    _CHANGE_LOGITS.add(plain)
    return None


def _separate_losses(model: torch.nn.Module, tokens_BS: Tensor) -> Tensor:
    """(N,) losses from all logits at once, with their graph."""
    logits_BTV = model(input_ids=tokens_BS[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), tokens_BS[:, 1:].flatten(), reduction="none")


class _WeightedLoss(torch.autograd.Function):
    """(hidden (N, H), head (V, H), targets (N,), weights (N,)) -> (their weighted sum of losses, losses (N,))."""

    @staticmethod
    def forward(ctx, hidden_NH: Tensor, head_VH: Tensor, target_N: Tensor, weight_N: Tensor) -> tuple[Tensor, Tensor]:
        loss_N, ctx.hidden_gradient, ctx.head_gradient = _blocks(
            hidden_NH, head_VH, target_N, weight_N, by_head=ctx.needs_input_grad[1]
        )
        ctx.mark_non_differentiable(loss_N)
        return (loss_N * weight_N).sum(), loss_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scale: Tensor, _):
        if ctx.hidden_gradient is None:
            raise RuntimeError(
                "a second backward pass through weighted_loss: its gradients were handed on in the first"
            )
        hidden_gradient, head_gradient = ctx.hidden_gradient.mul_(scale), ctx.head_gradient
        if head_gradient is not None:
            head_gradient.mul_(scale)
        ctx.hidden_gradient = ctx.head_gradient = None
        return hidden_gradient, head_gradient, None, None


def _blocks(
    hidden_NH: Tensor, head_VH: Tensor, target_N: Tensor, weight_N: Tensor | None = None, *, by_head: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(N,) losses in float32 at least, and with ``weight_N`` the gradients of their weighted sum by hidden states and by head.

    Products are in the precision of an autocast around the call, the softmax and the sum over blocks in the head's.
    """
    device = hidden_NH.device
    half = torch.is_autocast_enabled(device.type)
    x_NH, w_VH = ((t.to(torch.get_autocast_dtype(device.type)) if half else t) for t in (hidden_NH, head_VH))
    rows = min(len(x_NH), ROWS.get(device.type, ROWS_ELSEWHERE))
    logits_RV = x_NH.new_empty(rows, len(w_VH))
    losses, by_hidden_NH, by_head_VH = [], None, None
    if weight_N is not None:
        by_hidden_NH, by_head_VH = torch.empty_like(hidden_NH), torch.zeros_like(head_VH) if by_head else None
    for first in range(0, len(x_NH), rows):
        part = slice(first, first + rows)
        x, logits = x_NH[part], logits_RV[: len(x_NH[part])]
        torch.mm(x, w_VH.T, out=logits)
        losses.append(_losses(logits, target_N[part], None if weight_N is None else weight_N[part]))
        if weight_N is None:
            continue
        by_hidden_NH[part] = logits @ w_VH
        if by_head_VH is None:
            continue
        if half:
            by_head_VH += logits.T @ x
        else:
            torch.addmm(by_head_VH, logits.T, x, out=by_head_VH)
    return torch.cat(losses), by_hidden_NH, by_head_VH


def _losses(logits_RV: Tensor, target_R: Tensor, weight_R: Tensor | None) -> Tensor:
    """(R,) losses, in float32 at least. With ``weight_R`` the logits become the gradients of the losses' weighted sum by them."""
    exact = torch.promote_types(logits_RV.dtype, torch.float32)
    rows = CACHED_ROWS if logits_RV.device.type == "cpu" else len(logits_RV)
    losses = []
    for first in range(0, len(logits_RV), rows):
        part = slice(first, first + rows)
        target, logits = target_R[part, None], logits_RV[part].to(exact)
        at_target = logits.gather(1, target)
        top = logits.amax(1, keepdim=True)
        torch.softmax(logits, 1, out=logits)  # in place: two passes less than by hand
        # The likeliest token's probability is 1 / sum(exp(logits - top)).
        losses.append((top - logits.amax(1, keepdim=True).log() - at_target)[:, 0])
        if weight_R is not None:
            weight = weight_R[part, None]
            logits_RV[part] = logits.mul_(weight).scatter_add_(1, target, -weight)
    return torch.cat(losses)
