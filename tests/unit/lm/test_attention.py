"""Attention in plain products against torch's fused kernel and the definition, and what is left to that kernel."""

from __future__ import annotations

import pytest
import torch

from acodm_core.lm.kernels import attention, neox
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.model import build_model

VOCABULARY, CONTEXT = 61, 24
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
NEOX = {"model_type": "gpt_neox", **SIZES}
GROUPED = {"model_type": "llama", **SIZES, "num_key_value_heads": 1}


def trained_once(config: dict, implementation: str, *, half: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and the gradient, as one vector, of a step with this attention."""
    model = build_model(config, vocab_size=VOCABULARY, context=CONTEXT, seed=0)
    model.set_attn_implementation(implementation)
    tokens_BS = torch.randint(VOCABULARY, (3, CONTEXT + 1), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        total, loss_BT = weighted_loss(model, tokens_BS, torch.ones(3))
    total.backward()
    return loss_BT, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every call that goes to the fused kernel."""
    calls: list[int] = []
    fused = attention.sdpa_attention_forward

    def counted(*args, **kwargs):
        calls.append(1)
        return fused(*args, **kwargs)

    monkeypatch.setattr(attention, "sdpa_attention_forward", counted)
    return calls


@pytest.mark.parametrize("kind", ["gpt_neox", "llama"])
def test_it_is_the_fused_kernels_attention_to_bfloat16s_rounding(kind: str, fused_calls: list[int]) -> None:
    config = {"model_type": kind, **SIZES}
    exact = trained_once(config, "sdpa", half=False)
    fused = trained_once(config, "sdpa")
    plain = trained_once(config, attention.NAME)
    assert not fused_calls
    for by_plain, by_fused, by_float32 in zip(plain, fused, exact, strict=True):
        distance = torch.dist(by_plain, by_float32)
        assert 0 < distance < 2 * torch.dist(by_fused, by_float32)


def test_no_token_sees_a_later_one() -> None:
    q, k, v = torch.randn(3, 1, 2, CONTEXT, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        before, _ = attention.attention(torch.nn.Module(), q, k, v, None)
        k[:, :, 10:], v[:, :, 10:] = 0, 0
        after, _ = attention.attention(torch.nn.Module(), q, k, v, None)
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.equal(before[:, 10], after[:, 10])


@pytest.mark.parametrize(
    "tokens", [1, 5, 8, 9, 16]
)  # less than a block of queries, one, a whole number of them, and not
def test_its_gradients_are_those_of_the_definition(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "QUERIES", 8)
    random = torch.Generator().manual_seed(0)
    leaves = [torch.randn(2, 3, tokens, 4, generator=random, dtype=torch.float64).requires_grad_() for _ in range(3)]
    q, k, v = leaves
    logits = 0.7 * q @ k.mT + torch.full((tokens, tokens), -torch.inf, dtype=torch.float64).triu(1)
    defined = (logits.softmax(-1) @ v).transpose(1, 2)
    found, _ = attention.attention(torch.nn.Module(), q, k, v, None, scaling=0.7)
    torch.testing.assert_close(found, defined, rtol=1e-12, atol=1e-12)
    by_out = torch.randn(found.shape, generator=random, dtype=torch.float64)
    for ours, theirs in zip(*(torch.autograd.grad(out, leaves, by_out) for out in (found, defined)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rotated", [0.25, 1.0])
def test_gpt_neox_in_one_operation_is_transformers_own(
    rotated: float, fused_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "QUERIES", 8)
    angles = {"rope_type": "default", "rope_theta": 10.0, "partial_rotary_factor": rotated}
    model = build_model({**NEOX, "rope_parameters": angles}, vocab_size=VOCABULARY, context=CONTEXT, seed=0).double()
    layers = [layer.attention for layer in model.gpt_neox.layers]
    assert {type(layer) for layer in layers} == {neox.Attention}
    random = torch.Generator().manual_seed(0)
    states = torch.randn(3, CONTEXT, SIZES["hidden_size"], generator=random, dtype=torch.float64)
    positions = torch.arange(CONTEXT)[None]
    found = []
    for implementation in (attention.NAME, "sdpa"):
        model.set_attn_implementation(implementation)
        given = states.clone().requires_grad_()
        out, _ = layers[0](given, None, position_embeddings=model.gpt_neox.rotary_emb(given, positions))
        by_all = torch.autograd.grad((out * out.detach().cos()).sum(), [given, *layers[0].parameters()])
        found.append((out, *by_all))
    assert not fused_calls
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("why", ["long", "grouped heads"])
def test_the_rest_is_the_fused_kernels(why: str, fused_calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "long":
        monkeypatch.setattr(attention, "LONGEST", CONTEXT - 1)
    config = GROUPED if why == "grouped heads" else NEOX
    found = trained_once(config, attention.NAME)
    assert len(fused_calls) == SIZES["num_hidden_layers"]
    for ours, fused in zip(found, trained_once(config, "sdpa"), strict=True):
        assert torch.equal(ours, fused)
