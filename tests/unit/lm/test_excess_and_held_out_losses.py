"""Losses in excess of a reference's, and losses on held-out text: what they are, what they leave alone, what they cost."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_runs import finish
from kept_groups import behind_groups
from tiny_model import CONTEXT, VOCABULARY, batch, train_step

from acodm_core.errors import UserError
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.signals.reference_model import Reference
from acodm_core.mixing import Signal, StepStats

EXCESS, VALID = frozenset({Signal.EXCESS_LOSS}), frozenset({Signal.VALID_LOSS})


def reference_run(folder: Path, seed: int, status: str = "finished") -> Path:
    """What a run leaves behind: here a model with random weights."""
    from safetensors.torch import save_file

    model = train_step("gpt_neox").model
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(w.shape, generator=generator) / 4 for name, w in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    model.config.save_pretrained(folder)
    finish(folder, status=status)
    return folder


def reference(folder: Path) -> Reference:
    return Reference(folder, context=CONTEXT, vocab_size=VOCABULARY, device="cpu")


def separate_losses(model: torch.nn.Module, tokens_BS: np.ndarray) -> np.ndarray:
    """(B, T) by torch's own cross-entropy."""
    tokens = torch.from_numpy(tokens_BS)
    with torch.no_grad():
        logits_BTV = model(input_ids=tokens[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits_BTV.mT, tokens[:, 1:], reduction="none").double().numpy()


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_excess_is_cut_at_zero_token_by_token(tmp_path: Path, micro_batch: int | None) -> None:
    mine = train_step("gpt_neox", needs=EXCESS, micro_batch=micro_batch)
    mine.tools.reference = reference(reference_run(tmp_path, 0))
    drawn = batch((3, 0, 4, 1))
    excess_BT = separate_losses(mine.model, drawn.tokens_BS) - separate_losses(
        mine.tools.reference.model, drawn.tokens_BS
    )
    assert (excess_BT > 0.1).any() and (excess_BT < -0.1).any(), "cutting changes something"
    parts = np.split(np.maximum(excess_BT, 0), np.cumsum(drawn.counts_K)[:-1])
    expected_K = [part.mean() if part.size else np.nan for part in parts]
    found_K = mine.step(drawn, 0, EXCESS).signals[Signal.EXCESS_LOSS]
    np.testing.assert_allclose(found_K, expected_K, rtol=1e-5)


def test_a_model_has_no_excess_over_itself() -> None:
    mine = train_step("gpt_neox", needs=EXCESS)
    mine.tools.reference = SimpleNamespace(losses=lambda tokens_BS: frozen_losses(twin, tokens_BS), flops=0)
    twin = deepcopy(mine.model)
    np.testing.assert_allclose(mine.step(batch(), 0, EXCESS).signals[Signal.EXCESS_LOSS][[0, 2, 3]], 0, atol=1e-6)


def frozen_losses(model: torch.nn.Module, tokens_BS: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(separate_losses(model, tokens_BS.numpy())).float()


def test_measuring_excess_changes_neither_model_nor_random_stream(tmp_path: Path) -> None:
    run = reference_run(tmp_path, 0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    plain, asked = train_step("gpt_neox"), train_step("gpt_neox", needs=EXCESS)
    asked.tools.reference = reference(run)
    frozen = deepcopy(asked.tools.reference.model.state_dict())
    for step in range(3):
        one, other = plain.step(batch(seed=step), step, frozenset()), asked.step(batch(seed=step), step, EXCESS)
        assert one.loss == other.loss and one.grad_norm == other.grad_norm
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(frozen[name], w) for name, w in asked.tools.reference.model.state_dict().items())
    for mine, theirs in zip(plain.model.parameters(), asked.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_operations_are_counted_where_something_was_asked_for(tmp_path: Path) -> None:
    mine = train_step("gpt_neox", needs=EXCESS | {Signal.GRAD_GRAM})
    mine.tools.reference = reference(reference_run(tmp_path, 0))
    forward, both = (sequence_flops(mine.model, CONTEXT, backward=backward) for backward in (False, True))
    assert mine.tools.reference.flops == forward and both / forward == pytest.approx(3, rel=0.05)
    mine.step(batch(), 0, frozenset())
    assert mine.signal_flops == 0
    mine.step(batch(), 1, EXCESS)
    assert mine.signal_flops == 8 * forward
    mine.step(batch(), 2, EXCESS | {Signal.GRAD_GRAM})
    assert mine.signal_flops == 16 * forward + mine.tools.gradients.flops


def test_a_reference_that_diverged_or_has_another_vocabulary_or_is_not_there_is_refused(tmp_path: Path) -> None:
    run = reference_run(tmp_path, 0, status="diverged")
    with pytest.raises(UserError, match="the reference run has diverged"):
        reference(run)
    finish(run)
    with pytest.raises(UserError, match=f"{VOCABULARY} tokens in its vocabulary, this corpus 99"):
        Reference(run, context=CONTEXT, vocab_size=99, device="cpu")
    with pytest.raises(UserError, match=r"manifest\.json: file not found"):
        reference(tmp_path / "nowhere")


def test_the_learning_rate_is_the_steps() -> None:
    mine = train_step("gpt_neox")
    for step in (0, 5):
        result = mine.step(batch(), step, {Signal.LEARNING_RATE})
        assert result.signals[Signal.LEARNING_RATE] == result.lr > 0


def test_the_last_windows_are_not_the_first(corpus) -> None:
    first, last = (Evaluator(corpus, "valid", sequences=3, context=8, rows=4, last=last) for last in (False, True))
    for k, name in enumerate(corpus.domains):
        tokens = np.asarray(corpus.tokens("valid", name))
        there = (len(tokens) - 1) // 8
        end = there * 8 + 1
        mine = last._tokens_NS[k * 3 : k * 3 + 3].numpy()
        assert there > 6, "the domain has others"
        np.testing.assert_array_equal(mine[:, 1:].ravel(), tokens[end - 24 : end])
        np.testing.assert_array_equal(first._tokens_NS[k * 3 : k * 3 + 3, 1:].numpy().ravel(), tokens[1:25])


def test_a_domain_too_small_gives_what_it_has(corpus) -> None:
    everything = [Evaluator(corpus, "valid", sequences=10**6, context=8, rows=64, last=last) for last in (False, True)]
    assert torch.equal(everything[0]._tokens_NS, everything[1]._tokens_NS)
    windows = [(len(corpus.tokens("valid", name)) - 1) // 8 for name in corpus.domains]
    assert everything[0].sequences == sum(windows)


def test_a_groups_held_out_loss_is_that_of_its_mixture_whatever_was_drawn() -> None:
    inner, mixer = behind_groups(Signal.VALID_LOSS)
    mixer.observe(StepStats(0, np.array([0, 0, 8]), {Signal.VALID_LOSS: np.array([1.0, 5.0, 2.0])}))
    np.testing.assert_allclose(inner.seen[Signal.VALID_LOSS], [4.0, 2.0])
    mixer.observe(StepStats(1, np.array([0, 0, 8]), {Signal.LEARNING_RATE: np.array(1e-3)}))
    assert inner.seen[Signal.LEARNING_RATE] == 1e-3
