"""One optimiser step of the language model, with the signals that a mixer asked for."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from acodm_core.data.sampler import Batch
from acodm_core.errors import UserError
from acodm_core.lm.distributed.ranks import joined_over_ranks, rank, ranks
from acodm_core.lm.distributed.sharding import spread, unsynchronised, whole
from acodm_core.lm.flops import embedding_flops, sequence_flops
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.model import matching_layers
from acodm_core.lm.signals.adapters import AdapterLosses
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.signals.reference_model import Reference
from acodm_core.measure.clock import Clock
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig, TrainingConfig


@dataclass(frozen=True)
class StepResult:
    loss: float  # mean nats a token of the batch, unweighted
    grad_norm: float  # before clipping
    lr: float
    signals: dict[Signal, np.ndarray]  # what was wanted; LOSS always, because it costs nothing

    def finite(self) -> bool:
        """Whether the loss, the gradient and the measured weights are numbers; if not, the run has diverged."""
        norms = [v for s, v in self.signals.items() if s in (Signal.PARAM_NORM, Signal.PARAM_STEP_NORM)]
        return bool(np.isfinite(np.hstack([self.loss, self.grad_norm, *norms])).all())


class TrainStep:
    """The model and its optimiser; ``step`` is what every method shares. Each rank trains on its part of every batch.

    Args:
        needs: every signal that may be asked for; only their layers are looked up and wrapped.
        clock: gets the laps data, forward, backward, optimiser and signals.
        seed: of the run, for the projections of gradient sketches.
        reference: what EXCESS_LOSS is measured against.
        held_out: what VALID_LOSS and EMBEDDING are measured on.
        adapters: what measures ADAPTER_LOSS.
        sharded: cut the model among the ranks instead of giving each a copy.

    Raises:
        UserError: the ranks cannot share the batch equally, or not measure what is needed.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        config: ModelConfig,
        training: TrainingConfig,
        *,
        domains: int,
        needs: Collection[Signal],
        clock: Clock,
        seed: int = 0,
        reference: Reference | None = None,
        held_out: Evaluator | None = None,
        adapters: AdapterLosses | None = None,
        sharded: bool = False,
    ) -> None:
        if training.batch % ranks():
            raise UserError(
                f"{ranks()} processes cannot share a batch of {training.batch} sequences equally",
                where="training.batch",
                fix="start a number of processes that divides it: torchrun --nproc-per-node, resources.gpus",
            )
        self.model, self.training, self.clock = model, training, clock
        self.reference, self.held_out, self.adapters = reference, held_out, adapters
        self.signal_flops = 0  # so far, of measuring what was asked for; norms and the mixer are timed
        self.peak_lr = config.lr
        self.device = next(model.parameters()).device
        self._held_out_flops: dict[Signal, int] = {}
        if Signal.VALID_LOSS in needs and held_out:
            flops = sequence_flops(model, training.context, backward=False)
            self._held_out_flops[Signal.VALID_LOSS] = held_out.sequences * flops
        if Signal.EMBEDDING in needs and held_out:
            self._held_out_flops[Signal.EMBEDDING] = held_out.sequences * embedding_flops(model, training.context)
        self._spread = spread(model, sharded=sharded)  # before anything holds its parameters
        decay = [p for p in model.parameters() if p.ndim >= 2]
        plain = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": training.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=self.peak_lr, betas=training.betas, fused=True)
        self.gradients = None
        if GRADIENT_SIGNALS & set(needs):
            layers = matching_layers(model, config.gradient_layers, where="models.*.gradient_layers")
            self.gradients = DomainGradients(
                layers,
                domains,
                config,
                tokens=training.batch * training.context,
                context=training.context,
                needs=needs,
                optimiser=self.optimiser,
                seed=seed,
                limit=sum(p.numel() for p in model.parameters()),
            )
        self.norm_weights = []
        if {Signal.PARAM_NORM, Signal.PARAM_STEP_NORM} & set(needs):
            layers = matching_layers(model, config.norm_layers, where="models.*.norm_layers")
            self.norm_weights = [layer.weight for layer in layers]

    def autocast(self) -> torch.autocast:
        """The autocast context of the recipe's precision on this device."""
        enabled = resolve_precision(self.training.precision, self.device) == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def step(
        self, batch: Batch, step: int, wants: Collection[Signal], loss_weight_K: np.ndarray | None = None
    ) -> StepResult:
        """Forward, backward, clip, update; returns what was measured.

        Args:
            step: 0-based.
            loss_weight_K: (K,) weights of the domains' tokens in the loss; None for the mean over all tokens.
        """
        lap = self.clock.lap
        rows = self.training.micro_batch or self.training.batch
        context = batch.tokens_BS.shape[1] - 1
        domain_B = np.repeat(np.arange(len(batch.counts_K)), batch.counts_K)
        weight_B = np.ones(len(domain_B)) if loss_weight_K is None else loss_weight_K[domain_B]
        share = len(domain_B) // ranks()
        mine = range(rank() * share, (rank() + 1) * share)
        total_weight = float(weight_B.sum()) * context / ranks()  # because the ranks' gradients are averaged
        gradients = self.gradients if GRADIENT_SIGNALS & set(wants) else None
        reference = self.reference if Signal.EXCESS_LOSS in wants else None
        before = self._norm_snapshot() if Signal.PARAM_STEP_NORM in wants else None
        losses_B, excess_B = [], []
        with ExitStack() as armed:
            if gradients:
                with lap("signals"):
                    armed.enter_context(gradients.step(wants, math.ceil(share / rows)))
            for first in mine[::rows]:
                part = slice(first, min(first + rows, mine.stop))
                last = part.stop == mine.stop
                with lap("data"):
                    tokens_BS = torch.from_numpy(batch.tokens_BS[part]).to(self.device)
                    weight = torch.from_numpy(weight_B[part]).to(self.device, torch.float32)
                if gradients:
                    with lap("signals"):
                        gradients.rows(np.bincount(domain_B[part], minlength=len(batch.counts_K)))
                if reference:  # first, so that its logits are gone when the model's are made
                    with lap("signals"), self.autocast():
                        reference_BT = reference.losses(tokens_BS)
                with nullcontext() if last else unsynchronised(self._spread):
                    with lap("forward"), self.autocast():
                        loss, loss_BT = weighted_loss(self._spread, tokens_BS, weight / total_weight)
                    losses_B.append(loss_BT.sum(1))
                    if reference:
                        with lap("signals"):
                            excess_B.append((loss_BT - reference_BT).clamp_min_(0).sum(1))
                    with lap("backward"):
                        loss.backward()
        lr = self.peak_lr * schedule(step, self.training)
        with lap("optimiser"):
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        with lap("signals"):
            nats_B = _of_the_batch(losses_B)
            tokens_K = batch.counts_K * context
            signals = {Signal.LOSS: _means(nats_B, domain_B, tokens_K)}
            if reference:
                signals[Signal.EXCESS_LOSS] = _means(_of_the_batch(excess_B), domain_B, tokens_K)
                self.signal_flops += len(domain_B) * reference.flops
            if gradients:
                signals |= gradients.signals(tokens_K if loss_weight_K is None else tokens_K * loss_weight_K)
                self.signal_flops += gradients.flops
            if Signal.VALID_LOSS in wants:
                signals[Signal.VALID_LOSS] = self.held_out(self.model, self.autocast()).loss_K
                self.signal_flops += self._held_out_flops[Signal.VALID_LOSS]
            if Signal.ADAPTER_LOSS in wants:
                signals[Signal.ADAPTER_LOSS] = self.adapters(self.autocast())
                self.signal_flops += self.adapters.flops
            if Signal.EMBEDDING in wants:
                signals[Signal.EMBEDDING] = self.held_out.embeddings(self.model, self.autocast())
                self.signal_flops += self._held_out_flops[Signal.EMBEDDING]
            if Signal.LEARNING_RATE in wants:
                signals[Signal.LEARNING_RATE] = np.array(lr)
            if Signal.PARAM_NORM in wants:
                signals[Signal.PARAM_NORM] = weight_norms(self.norm_weights)
            if Signal.TYPE_TOKEN_RATIO in wants:
                signals[Signal.TYPE_TOKEN_RATIO] = _type_token_ratio(batch)
            if before is not None:
                signals[Signal.PARAM_STEP_NORM] = weight_norms(
                    [now.detach() - then for now, then in zip(self.norm_weights, before, strict=True)]
                )
        return StepResult(float(nats_B.sum() / tokens_K.sum()), float(whole(norm)), lr, signals)

    def _norm_snapshot(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self.norm_weights]


def _of_the_batch(parts: list[torch.Tensor]) -> np.ndarray:
    """(B,) float64: a number for each sequence, of this rank's micro-batches and of all ranks."""
    return joined_over_ranks(torch.cat(parts).double()).cpu().numpy()


def _means(sum_B: np.ndarray, domain_B: np.ndarray, tokens_K: np.ndarray) -> np.ndarray:
    """(K,) mean a token of what was summed over each sequence's tokens, NaN for a domain without sequences."""
    sum_K = np.bincount(domain_B, sum_B, len(tokens_K))
    return np.divide(sum_K, tokens_K, out=np.full(len(tokens_K), np.nan), where=tokens_K > 0)


@torch.no_grad()
def weight_norms(matrices: list[torch.Tensor]) -> np.ndarray:
    """(L,) float64. Row by row, because a whole matrix's norm in float32 is off by 4e-5, more than a step changes, and slower."""
    rows = [whole(torch.linalg.vector_norm(m.detach(), dim=1)) for m in matrices]
    starts = np.cumsum([0, *map(len, rows[:-1])])
    return np.sqrt(np.add.reduceat(torch.cat(rows).cpu().numpy().astype(np.float64) ** 2, starts))


def _type_token_ratio(batch: Batch) -> np.ndarray:
    """(K,) mean over each domain's sequences of distinct tokens over tokens, NaN where it has none."""
    sorted_BT = np.sort(batch.tokens_BS[:, 1:], axis=1)
    distinct_B = 1 + np.count_nonzero(np.diff(sorted_BT, axis=1), axis=1)
    domain_B = np.repeat(np.arange(len(batch.counts_K)), batch.counts_K)
    return _means(distinct_B, domain_B, batch.counts_K * sorted_BT.shape[1])


def schedule(step: int, training: TrainingConfig) -> float:
    """Learning rate over its peak at 0-based ``step``."""
    warmup = round(training.warmup * training.steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, training.steps - warmup)
    if training.schedule == "cosine":
        return training.min_lr + (1 - training.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    if training.schedule == "wsd":
        left = (training.steps - step) / max(1.0, training.decay * training.steps)
        return max(training.min_lr, min(1.0, left))
    return 1.0


def resolve_precision(precision: str, device: torch.device) -> str:
    """``auto`` is bfloat16 where the device multiplies it in hardware, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    found = torch.cpu.get_capabilities()  # what it names depends on the architecture
    return "bfloat16" if found.get("avx512_bf16") or found.get("amx_tile") else "float32"
