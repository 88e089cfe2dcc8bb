"""The count of a run's operations, against torch's own counter on another path through the model and against the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acodm_core.data.sampler import Batch
from acodm_core.lm.flops import _CPU_ATTENTION, sequence_flops
from acodm_core.lm.model import build_model, non_embedding_parameters
from acodm_core.lm.step import TrainStep
from acodm_core.measure.clock import Clock
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig, TrainingConfig

VOCABULARY, CONTEXT, LAYERS, WIDTH, INNER = 96, 24, 3, 32, 80
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": INNER}
SHAPES = {
    "gpt_neox": {"model_type": "gpt_neox", **SIZES},
    "llama": {"model_type": "llama", **SIZES},
    "llama, grouped heads": {"model_type": "llama", **SIZES, "num_key_value_heads": 2},
}
# Weights that multiply every token: attention's four, the block's two or three, and the head.
MATRICES = {
    "gpt_neox": LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + WIDTH * VOCABULARY,
    "llama": LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER) + WIDTH * VOCABULARY,
    "llama, grouped heads": LAYERS * (3 * WIDTH * WIDTH + 3 * WIDTH * INNER) + WIDTH * VOCABULARY,
}
SCORES = 2 * LAYERS * WIDTH * CONTEXT**2  # one product of attention: queries by keys, or weights by values


def model_of(shape: str) -> torch.nn.Module:
    return build_model(SHAPES[shape], vocab_size=VOCABULARY, context=CONTEXT, seed=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_are_six_operations_a_weight_and_token_and_seven_products_of_attention(shape):
    model = model_of(shape)
    forward, both = (sequence_flops(model, CONTEXT, backward=backward) for backward in (False, True))
    assert forward == 2 * MATRICES[shape] * CONTEXT + 2 * SCORES
    # Kernels of attention forget their weights and make them again in the backward pass: five products, not four.
    assert both == 6 * MATRICES[shape] * CONTEXT + 7 * SCORES


@pytest.mark.parametrize("shape", SHAPES)
def test_the_count_is_torchs_own_with_attention_in_plain_matrix_products(shape):
    """No attention kernel and no mapping of ours is in this path; it keeps the weights, so one product less."""
    model = model_of(shape)
    model.config._attn_implementation = "eager"
    tokens_BS = torch.randint(VOCABULARY, (1, CONTEXT + 1))
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=tokens_BS[:, :-1], use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens_BS[:, 1:].flatten()).backward()
    assert counter.get_total_flops() == sequence_flops(model_of(shape), CONTEXT) - SCORES


def test_the_formula_of_six_n_d_is_near_where_the_head_is_small():
    wide = SHAPES["gpt_neox"] | {"hidden_size": 128, "intermediate_size": 512}
    model = build_model(wide, vocab_size=16, context=CONTEXT, seed=0)
    assert sequence_flops(model, CONTEXT) == pytest.approx(6 * non_embedding_parameters(model) * CONTEXT, rel=0.06)


def test_counting_leaves_no_gradients_no_other_weights_and_the_attention_it_trains_with():
    model = model_of("llama")
    before = [p.clone() for p in model.parameters()]
    attention = model.config._attn_implementation
    sequence_flops(model, CONTEXT)
    assert model.config._attn_implementation == attention
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("shape", ["gpt_neox", "llama"])
@pytest.mark.parametrize("wants", [set(), {Signal.GRAD_GRAM}, {Signal.GRAD_SKETCH}])
def test_a_step_costs_what_the_ledger_books_for_model_and_method(shape, wants):
    """Whole optimiser steps under the counter, with and without what a method has measured."""
    layers = {"gpt_neox": "attention.dense", "llama": "o_proj"}[shape]
    config = ModelConfig(config=SHAPES[shape], lr=1e-3, gradient_layers=layers, norm_layers=layers, sketch=8)
    recipe = TrainingConfig(steps=4, batch=6, context=CONTEXT, precision="float32")
    model = model_of(shape)
    model.set_attn_implementation("sdpa")  # the ledger books attention in full, as torch's kernels have it
    train_step = TrainStep(model, config, recipe, domains=3, needs=wants, clock=Clock())
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=(6, CONTEXT + 1))
    batch = Batch(tokens, np.array([1, 2, 3]))
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        train_step.step(batch, 0, wants)
    assert counter.get_total_flops() == 6 * sequence_flops(train_step.model, CONTEXT) + train_step.signal_flops
    assert (train_step.signal_flops > 0) == bool(wants)
