"""What training on a mixture would do to the model as it is, tried on low-rank adapters (LoRA, arXiv 2106.09685).

An adapter adds the product of two thin matrices to the weight of every Linear but the output head. It is trained while the model
stands still; then mixtures of adapters are merged into the weights, measured and taken out again. The run goes on as if nothing had
happened: weights, optimiser, sampler and random streams are what they were.

Legend: A adapters, M merged models, r rank, I and O a layer's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.errors import UserError
from acodm_core.lm.distributed.ranks import rank, ranks, sum_over_ranks
from acodm_core.lm.flops import counting, sequence_flops
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.mixing import Adapters, Mixer, Signal
from acodm_core.streams import ADAPTERS, stream_seed
from acodm_core.study.config import TrainingConfig
from acodm_core.study.planner import RunSpec

Factors = list[tuple[Tensor, Tensor]]  # of each layer (r, I) and (O, r)


class AdapterLosses:
    """Measures ADAPTER_LOSS as ``asked``. Every rank trains on its part of each batch, as in a step of the run.

    All adapters begin alike and read each domain's sequences in the same order, so that they differ by their mixtures alone.

    Args:
        sampler: of the adapters' batches; not the run's own, because it is wound back for each adapter.
        lr: the run's peak learning rate.
        seed: of the adapters' initial weights.

    Raises:
        UserError: the model has no Linear layers.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        asked: Adapters,
        sampler: Sampler,
        held_out: Evaluator,
        training: TrainingConfig,
        *,
        lr: float,
        seed: int,
    ) -> None:
        self.model, self.asked, self.training = model, asked, training
        self._sampler, self._held_out, self._lr, self._seed = sampler, held_out, asked.lr * lr, seed
        self.flops = adapter_flops(model, asked, training, held_out.sequences)

    def __call__(self, autocast: torch.autocast) -> np.ndarray:
        """(K, M) losses."""
        device = next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # a model may have dropout
            adapters = [self._trained(mixture_K, autocast) for mixture_K in self.asked.mixture_AK]
        losses = []
        for weight_A in self.asked.weight_MA:
            with _merged(self.model, adapters, weight_A * self.asked.alpha / self.asked.rank):
                losses.append(self._held_out(self.model, autocast).loss_K)
        return np.stack(losses, axis=1)

    def _trained(self, mixture_K: np.ndarray, autocast: torch.autocast) -> Factors:
        training = self.training
        factors = _fresh(self.model, self.asked.rank, self._seed)
        parameters = [factor for pair in factors for factor in pair]
        optimiser = torch.optim.AdamW(parameters, lr=self._lr, betas=training.betas, weight_decay=0.0)
        self._sampler.drawn_K[:] = 0
        with _standing_still(self.model), _beside(self.model, factors, self.asked.alpha / self.asked.rank):
            for step in range(self.asked.steps):
                tokens_BS = torch.from_numpy(self._sampler.next(mixture_K, step).tokens_BS)
                for part_BS in tokens_BS[rank() :: ranks()].split(training.micro_batch or training.batch):
                    weight_B = torch.full((len(part_BS),), 1 / tokens_BS[:, 1:].numel())
                    with autocast:
                        loss, _ = weighted_loss(
                            self.model, part_BS.to(parameters[0].device), weight_B.to(parameters[0].device)
                        )
                    loss.backward()
                for parameter in parameters:
                    sum_over_ranks(parameter.grad)
                torch.nn.utils.clip_grad_norm_(parameters, training.clip)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        return [(into.detach(), out.detach()) for into, out in factors]


def adapter_losses_of(
    spec: RunSpec, mixer: Mixer, corpus: Corpus, model: torch.nn.Module, held_out: Evaluator | None, *, sharded: bool
) -> AdapterLosses | None:
    """What measures ADAPTER_LOSS, if ``mixer`` may ask for it.

    Raises:
        UserError: the model is cut among the ranks.
    """
    if Signal.ADAPTER_LOSS not in mixer.needs:
        return None
    asked, training = mixer.adapters(), spec.training
    if sharded:
        raise UserError(
            f"mixer {spec.mixer!r} merges adapters into whole weights, and --shard cuts them",
            where="--shard",
            fix="leave it out: each process then has a copy of the model",
        )
    seed = stream_seed(spec.seed, ADAPTERS)
    sampler = Sampler(corpus, seed=seed, batch=training.batch, context=training.context, draw=training.draw)
    return AdapterLosses(model, asked, sampler, held_out, training, lr=spec.model.lr, seed=seed)


def adapter_flops(model: torch.nn.Module, asked: Adapters, training: TrainingConfig, sequences: int) -> int:
    """Operations of one measurement on so many held-out ``sequences``: training the adapters, merging and measuring them."""
    factors = _fresh(model, asked.rank, 0)
    with _standing_still(model), _beside(model, factors, 1.0), counting(model) as trained:
        tokens_BS = torch.zeros(1, training.context + 1, dtype=torch.int64, device=factors[0][0].device)
        weighted_loss(model, tokens_BS, torch.ones(1, device=tokens_BS.device))[0].backward()
    with counting(model) as merged, _merged(model, [factors] * len(asked.mixture_AK), asked.weight_MA[0]):
        pass
    one_model = merged.get_total_flops() + sequences * sequence_flops(model, training.context, backward=False)
    one_adapter = asked.steps * training.batch * trained.get_total_flops()
    return len(asked.mixture_AK) * one_adapter + len(asked.weight_MA) * one_model


def adapted_layers(model: torch.nn.Module) -> list[torch.nn.Linear]:
    """Every Linear but the output head, bottom to top."""
    head = model.get_output_embeddings()
    found = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    if not found:
        raise UserError(
            f"a {type(model).__name__} has no Linear layers for adapters",
            where="models.*.config.model_type",
            fix="e.g. gpt_neox or llama",
        )
    return found


def _fresh(model: torch.nn.Module, width: int, seed: int) -> Factors:
    """Factors whose product is zero: the first uniform as a Linear's own weight is drawn, the second zero; in float32."""
    generator, factors = torch.Generator().manual_seed(seed), []
    for layer in adapted_layers(model):
        bound, device = layer.in_features**-0.5, layer.weight.device
        into = torch.empty(width, layer.in_features).uniform_(-bound, bound, generator=generator)
        out = torch.zeros(layer.out_features, width, device=device)
        factors.append((into.to(device).requires_grad_(), out.requires_grad_()))
    return factors


@contextmanager
def _standing_still(model: torch.nn.Module) -> Iterator[None]:
    """No gradients of the model's own weights inside, which spares a third of the products."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


@contextmanager
def _beside(model: torch.nn.Module, factors: Factors, scale: float) -> Iterator[None]:
    """Every adapted layer gives what it gives and ``scale`` times its factors' product of its input."""
    with ExitStack() as hooks:
        for layer, pair in zip(adapted_layers(model), factors, strict=True):
            hooks.callback(layer.register_forward_hook(partial(_plus, *pair, scale)).remove)
        yield


def _plus(into: Tensor, out: Tensor, scale: float, _: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output + F.linear(scale * F.linear(inputs[0], into), out)


@contextmanager
@torch.no_grad()
def _merged(model: torch.nn.Module, adapters: list[Factors], scale_A: np.ndarray) -> Iterator[None]:
    """The model with ``scale_A`` of each adapter in its weights, which are then what they were to the last bit."""
    layers = adapted_layers(model)
    kept = [layer.weight.data for layer in layers]
    try:
        for layer, weight, pairs in zip(layers, kept, zip(*adapters, strict=True), strict=True):
            out = torch.cat([float(scale) * out for scale, (_, out) in zip(scale_A, pairs, strict=True)], dim=1)
            layer.weight.data = torch.addmm(weight, out, torch.cat([into for into, _ in pairs]))
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.weight.data = weight
