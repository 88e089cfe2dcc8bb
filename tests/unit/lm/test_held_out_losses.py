"""Held-out losses against what a known model must score."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from acodm_core.lm.signals.held_out import Evaluator

CONTEXT = 16


class Guess(torch.nn.Module):
    """The same logits for every token, whatever came before."""

    def __init__(self, logits_V: torch.Tensor) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, len(logits_V), bias=False)
        self.head.weight = torch.nn.Parameter(logits_V[:, None])

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.head

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(torch.ones(*input_ids.shape, 1)))


def windows(corpus, split: str, domain: str, count: int) -> np.ndarray:
    """(count, CONTEXT) targets: the first tokens of the split after the very first, without overlap."""
    return np.asarray(corpus.tokens(split, domain))[1 : count * CONTEXT + 1].reshape(count, CONTEXT)


def test_a_uniform_guess_costs_the_logarithm_of_the_vocabulary(corpus):
    scores = Evaluator(corpus, "valid", sequences=3, context=CONTEXT, rows=2)(
        Guess(torch.zeros(corpus.vocab_size)), nullcontext()
    )
    assert scores.loss_K == pytest.approx([np.log(corpus.vocab_size)] * len(corpus.domains), rel=1e-6)


def test_losses_and_bits_a_byte_are_those_of_the_first_windows_of_each_domain(corpus):
    logits_V = torch.randn(corpus.vocab_size, generator=torch.Generator().manual_seed(0))
    scores = Evaluator(corpus, "test", sequences=3, context=CONTEXT, rows=4)(Guess(logits_V), nullcontext())
    cost_V = -logits_V.double().log_softmax(0).numpy()
    for k, name in enumerate(corpus.domains):
        targets = windows(corpus, "test", name, 3)
        assert scores.loss_K[k] == pytest.approx(cost_V[targets].mean(), rel=1e-5)
        bits = cost_V[targets].sum() / np.log(2) / np.asarray(corpus.token_bytes)[targets].sum()
        assert scores.bits_per_byte_K[k] == pytest.approx(bits, rel=1e-5)


def test_rows_a_pass_change_nothing(corpus):
    logits_V = torch.randn(corpus.vocab_size, generator=torch.Generator().manual_seed(1))
    one, many = (
        Evaluator(corpus, "valid", sequences=3, context=CONTEXT, rows=rows)(Guess(logits_V), nullcontext())
        for rows in (1, 64)
    )
    assert np.array_equal(one.loss_K, many.loss_K)
