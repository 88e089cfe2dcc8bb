"""A language model of two or three layers with its train_step and batches, and gradients of domains by independent means."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from acodm_core.data.sampler import Batch
from acodm_core.lm.model import build_model, matching_layers
from acodm_core.lm.step import TrainStep
from acodm_core.measure.clock import Clock
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig, TrainingConfig

SHAPES = {
    "gpt_neox": (
        {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
        r"layers\.(1|2)\.mlp\.dense_4h_to_h",
    ),
    "llama": (
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "intermediate_size": 48,
        },
        r"layers\.(1|2)\.mlp\.down_proj",
    ),
}
WIDEST = 64  # the widest side of a probed layer: a sketch of this width loses nothing
VOCABULARY, CONTEXT = 61, 12


def train_step(
    kind: str,
    *,
    needs=frozenset({Signal.GRAD_GRAM}),
    domains: int = 4,
    gram: str = "exact",
    sketch: int = 32,
    seed: int = 0,
    shape: tuple[dict[str, int], str] | None = None,
    **training,
) -> TrainStep:
    fields, pattern = shape or SHAPES[kind]
    config = ModelConfig(
        config={"model_type": kind, **fields},
        lr=1e-3,
        gradient_layers=pattern,
        norm_layers=pattern,
        gram=gram,
        sketch=sketch,
    )
    model = build_model(config.config, vocab_size=VOCABULARY, context=CONTEXT, seed=3)
    recipe = TrainingConfig(**{"steps": 10, "batch": 8, "context": CONTEXT, "precision": "float32", **training})
    return TrainStep(model, config, recipe, domains=domains, needs=needs, clock=Clock(), seed=seed)


def batch(counts=(3, 0, 4, 1), seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(rng.integers(0, VOCABULARY, (sum(counts), CONTEXT + 1)), np.array(counts))


def separate_gradients(model: torch.nn.Module, pattern: str, drawn: Batch) -> list[np.ndarray]:
    """(K, out, in) gradients of the domains' mean losses, a layer each, from one backward pass a domain; NaN where absent."""
    weights = [layer.weight for layer in matching_layers(model, pattern, where="")]
    domain_B = np.repeat(np.arange(len(drawn.counts_K)), drawn.counts_K)
    parts = [np.full((len(drawn.counts_K), *w.shape), np.nan) for w in weights]
    for k in np.flatnonzero(drawn.counts_K):
        tokens_BS = torch.from_numpy(drawn.tokens_BS[domain_B == k])
        loss = F.cross_entropy(model(input_ids=tokens_BS[:, :-1]).logits.mT, tokens_BS[:, 1:])
        for part, gradient in zip(parts, torch.autograd.grad(loss, weights), strict=True):
            part[k] = gradient.double().numpy()
    return parts


def separate_gram(model: torch.nn.Module, pattern: str, drawn: Batch) -> np.ndarray:
    """(K, K) inner products of ``separate_gradients``."""
    matrix_KP = np.concatenate([p.reshape(len(p), -1) for p in separate_gradients(model, pattern, drawn)], axis=1)
    return matrix_KP @ matrix_KP.T
