"""The loss with the head inside it, against the model's own logits and torch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from acodm_core.lm.kernels import fused_loss
from acodm_core.lm.model import build_model

VOCABULARY, CONTEXT, BATCH = 61, 12, 5
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MODELS = {
    "gpt_neox": {"model_type": "gpt_neox", **SIZES},
    "llama": {"model_type": "llama", **SIZES},
    "tied": {"model_type": "llama", **SIZES, "tie_word_embeddings": True},
    "scaled up": {"model_type": "cohere", **SIZES, "logit_scale": 4.0},
    "scaled down": {"model_type": "granite", **SIZES, "logits_scaling": 4.0},
    "biased": {"model_type": "phi", **SIZES},
}


def model_of(kind: str, scale: float = 1.0) -> torch.nn.Module:
    model = build_model(MODELS[kind], vocab_size=VOCABULARY, context=CONTEXT, seed=0)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(scale)
    return model


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens_BS = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1), generator=generator)
    return tokens_BS, torch.rand(BATCH, generator=generator)


def torchs_losses(model: torch.nn.Module, tokens_BS: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(input_ids=tokens_BS[:, :-1]).logits.float().mT, tokens_BS[:, 1:], reduction="none")


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("rows", [1, 7, 60, 1000])
@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_are_torchs(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fused_loss.ROWS, "cpu", rows)
    monkeypatch.setattr(fused_loss, "CACHED_ROWS", 7)
    model, (tokens_BS, weight_B) = model_of(kind).double(), drawn()
    weight_B = weight_B.double()
    expected_BT = F.cross_entropy(model(input_ids=tokens_BS[:, :-1]).logits.mT, tokens_BS[:, 1:], reduction="none")
    (expected_BT * weight_B[:, None]).sum().backward()
    expected = gradients(model)
    for _ in range(2):  # a model whose logits are not the head's is found out in the first call
        total, loss_BT = fused_loss.weighted_loss(model, tokens_BS, weight_B)
        torch.testing.assert_close(loss_BT.float(), expected_BT.detach().float())
        torch.testing.assert_close(total.detach(), (loss_BT * weight_B[:, None]).sum())
        (3 * total).backward()
        found = gradients(model)
        assert found.keys() == expected.keys()
        # Other models have norms in float32, whatever they are given.
        tolerance = {"rtol": 1e-10, "atol": 1e-12} if kind == "gpt_neox" else {"rtol": 1e-4, "atol": 1e-5}
        for name in expected:
            torch.testing.assert_close(found[name], 3 * expected[name], **tolerance)
        torch.testing.assert_close(fused_loss.token_losses(model, tokens_BS).float(), loss_BT.float())


def test_only_models_that_change_the_heads_logits_make_them_all() -> None:
    tokens_BS, weight_B = drawn()
    for kind in MODELS:
        model = model_of(kind)
        total, _ = fused_loss.weighted_loss(model, tokens_BS, weight_B)
        fused = "_WeightedLoss" in total.grad_fn.name()
        assert fused == (kind in ("gpt_neox", "llama", "tied")), kind


def test_a_head_that_is_being_measured_makes_all_its_logits() -> None:
    """Hooks see the head's output and its gradient, and the losses stay what they were."""
    model, (tokens_BS, weight_B) = model_of("gpt_neox"), drawn()
    plain = fused_loss.token_losses(model, tokens_BS)
    shapes = []
    model.get_output_embeddings().register_forward_hook(lambda _module, _inputs, out: shapes.append(out.shape))
    total, loss_BT = fused_loss.weighted_loss(model, tokens_BS, weight_B)
    assert shapes == [(BATCH, CONTEXT, VOCABULARY)]
    torch.testing.assert_close(loss_BT, plain)
    assert "_WeightedLoss" not in total.grad_fn.name()


def test_the_model_is_left_as_it_was_also_by_an_error() -> None:
    model, (tokens_BS, weight_B) = model_of("gpt_neox"), drawn()
    with pytest.raises(IndexError):
        fused_loss.weighted_loss(model, tokens_BS + VOCABULARY, weight_B)
    fused_loss.weighted_loss(model, tokens_BS, weight_B)
    assert model(input_ids=tokens_BS).logits.shape == (BATCH, CONTEXT + 1, VOCABULARY)


def test_under_autocast_the_loss_is_float32_and_near_the_exact_one() -> None:
    model, (tokens_BS, weight_B) = model_of("gpt_neox", scale=10), drawn()
    total, exact_BT = fused_loss.weighted_loss(model, tokens_BS, weight_B)
    total.backward()
    exact = gradients(model)
    with torch.autocast("cpu", torch.bfloat16):
        total, loss_BT = fused_loss.weighted_loss(model, tokens_BS, weight_B)
        expected_BT = torchs_losses(model, tokens_BS)
    total.backward()
    found = gradients(model)
    assert loss_BT.dtype == torch.float32
    torch.testing.assert_close(loss_BT, expected_BT.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss_BT, exact_BT, atol=0.02, rtol=0.02)
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert (gradient - exact[name]).norm() < 0.03 * exact[name].norm(), name


def test_huge_logits_stay_finite() -> None:
    model, (tokens_BS, weight_B) = model_of("gpt_neox", scale=1e6), drawn()
    total, loss_BT = fused_loss.weighted_loss(model, tokens_BS, weight_B)
    total.backward()
    assert loss_BT.isfinite().all() and loss_BT.max() > 1e4
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_a_second_backward_pass_fails_instead_of_giving_other_gradients() -> None:
    total, _ = fused_loss.weighted_loss(model_of("gpt_neox"), *drawn())
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        total.backward()


def test_no_more_products_than_with_a_separate_head() -> None:
    model, (tokens_BS, weight_B) = model_of("gpt_neox"), drawn()
    with FlopCounterMode(display=False) as separate:
        torchs_losses(model, tokens_BS).sum().backward()
    with FlopCounterMode(display=False) as together:
        fused_loss.weighted_loss(model, tokens_BS, weight_B)[0].backward()
    assert together.get_total_flops() == separate.get_total_flops()
