"""One optimiser step of the language model, with the signals that a mixer asked for.

Legend: K domains, B sequences of the step, S tokens of a sequence and one more, T = S - 1 positions with a loss.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from acodm_core.data.sampler import Batch
from acodm_core.errors import UserError
from acodm_core.lm.distributed.ranks import joined_over_ranks, rank, ranks
from acodm_core.lm.distributed.sharding import distribute, unsynchronised, whole
from acodm_core.lm.flops import embedding_flops, sequence_flops
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.model import matching_layers
from acodm_core.lm.signals.adapters import AdapterLosses
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.signals.measures import Seen, Tools, extra_flops, measured
from acodm_core.lm.signals.reference_model import Reference
from acodm_core.lm.signals.weight_norms import copies
from acodm_core.measure.clock import Clock
from acodm_core.mixing import Signal, Source, signals_from
from acodm_core.study.config import ModelConfig, TrainingConfig


@dataclass(frozen=True)
class StepResult:
    loss: float  # mean nats per token of the batch, unweighted
    grad_norm: float  # before clipping
    lr: float
    signals: dict[Signal, np.ndarray]  # what was wanted; LOSS always, because it costs nothing

    def finite(self) -> bool:
        """Whether the loss, the gradient and the measured weights are numbers; if not, the run has diverged."""
        norms = [value for signal, value in self.signals.items() if signal.info.source is Source.WEIGHTS]
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
        self.signal_flops = 0  # so far, of measuring what was asked for; norms and the mixer are timed
        self.peak_lr = config.lr
        self.device = next(model.parameters()).device
        self.tools = Tools(model, self.autocast, reference=reference, held_out=held_out, adapters=adapters)
        if held_out:  # counted while the model is whole
            forward = partial(sequence_flops, model, training.context, backward=False)
            each = {Signal.VALID_LOSS: forward, Signal.EMBEDDING: partial(embedding_flops, model, training.context)}
            self.tools.held_out_flops = {s: held_out.sequences * each[s]() for s in each.keys() & set(needs)}
        self._distributed = distribute(model, sharded=sharded)  # before anything holds its parameters
        decay = [p for p in model.parameters() if p.ndim >= 2]
        plain = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": training.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=self.peak_lr, betas=training.betas, fused=True)
        if GRADIENT_SIGNALS & set(needs):
            self.tools.gradients = DomainGradients(
                matching_layers(model, config.gradient_layers, where="models.*.gradient_layers"),
                domains,
                gram=config.gram,
                sketch=config.sketch,
                tokens=training.batch * training.context,
                context=training.context,
                needs=needs,
                optimiser=self.optimiser,
                seed=seed,
                limit=sum(p.numel() for p in model.parameters()),
            )
        if set(signals_from(Source.WEIGHTS)) & set(needs):
            layers = matching_layers(model, config.norm_layers, where="models.*.norm_layers")
            self.tools.norm_weights = [layer.weight for layer in layers]

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
        domain_B = np.repeat(np.arange(len(batch.counts_K)), batch.counts_K)
        tokens_K = batch.counts_K * (batch.tokens_BS.shape[1] - 1)
        with self.clock.lap("signals"):
            before = copies(self.tools.norm_weights) if Signal.PARAM_STEP_NORM in wants else ()
        nats, excess = self._passes(batch, domain_B, wants, loss_weight_K)
        lr = self.peak_lr * schedule(step, self.training)
        norm = self._update(lr)
        with self.clock.lap("signals"):
            nats_B = _of_the_batch(nats)
            seen = Seen(
                tokens_K=tokens_K,
                weight_K=tokens_K if loss_weight_K is None else tokens_K * loss_weight_K,
                nats_K=np.bincount(domain_B, nats_B, len(tokens_K)),
                lr=lr,
                excess_K=np.bincount(domain_B, _of_the_batch(excess), len(tokens_K)) if excess else None,
                tokens_BS=batch.tokens_BS,
                weights_before=before,
            )
            signals = measured(self.tools, seen, {Signal.LOSS, *wants})
            self.signal_flops += extra_flops(self.tools, wants, len(domain_B))
        return StepResult(float(nats_B.sum() / tokens_K.sum()), float(whole(norm)), lr, signals)

    def _passes(
        self, batch: Batch, domain_B: np.ndarray, wants: Collection[Signal], loss_weight_K: np.ndarray | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Forward and backward, a micro-batch at a time, of this rank's part of the batch.

        Returns:
            Of each micro-batch the (B,) sums over tokens of the losses, and of what exceeds the reference's where that is wanted.
        """
        lap, rows = self.clock.lap, self.training.micro_batch or self.training.batch
        context = batch.tokens_BS.shape[1] - 1
        weight_B = np.ones(len(domain_B)) if loss_weight_K is None else loss_weight_K[domain_B]
        sequences = len(domain_B) // ranks()  # per rank
        mine = range(rank() * sequences, (rank() + 1) * sequences)
        total_weight = float(weight_B.sum()) * context / ranks()  # because the ranks' gradients are averaged
        gradients = self.tools.gradients if GRADIENT_SIGNALS & set(wants) else None
        reference = self.tools.reference if Signal.EXCESS_LOSS in wants else None
        nats, excess = [], []
        with ExitStack() as armed:
            if gradients:
                with lap("signals"):
                    armed.enter_context(gradients.step(wants, math.ceil(sequences / rows)))
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
                with nullcontext() if last else unsynchronised(self._distributed):
                    with lap("forward"), self.autocast():
                        loss, loss_BT = weighted_loss(self._distributed, tokens_BS, weight / total_weight)
                    nats.append(loss_BT.sum(1))
                    if reference:
                        with lap("signals"):
                            excess.append((loss_BT - reference_BT).clamp_min_(0).sum(1))
                    with lap("backward"):
                        loss.backward()
        return nats, excess

    def _update(self, lr: float) -> torch.Tensor:
        """Clip the gradient and step the optimiser. Returns the gradient's norm before clipping."""
        with self.clock.lap("optimiser"):
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        return norm


def _of_the_batch(parts: list[torch.Tensor]) -> np.ndarray:
    """(B,) float64: a number for each sequence, of this rank's micro-batches and of all ranks."""
    return joined_over_ranks(torch.cat(parts).double()).cpu().numpy()


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
