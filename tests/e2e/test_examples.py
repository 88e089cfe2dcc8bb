"""A mixer in loops that are not ours: the examples run, measure what they say they measure, and agree with each other."""

from __future__ import annotations

import copy
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from workflow_runs import ROOT

from acodm_core.errors import UserError
from acodm_core.lm.dropin import Mix
from acodm_core.mixing import Signal

EXAMPLES = ROOT / "examples"
LAYERS = r"query_key_value|dense\w*"
BATCH, STEPS = 8, 24


@pytest.fixture
def texts(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import texts

    return texts


class Loop:
    """The own loop's parts, so that it can be stopped and gone on with."""

    def __init__(self, texts, mixer: str) -> None:
        torch.manual_seed(0)
        self.texts, self.text, self.model = texts, texts.domains(), texts.small_model()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=2e-3)
        sizes = {name: len(tokens) for name, tokens in self.text.items()}
        self.mix = Mix(
            mixer, sizes, self.model, self.optimiser, layers=LAYERS, steps=STEPS, batch=BATCH, context=texts.CONTEXT
        )

    def losses(self, tokens_BS: torch.Tensor) -> torch.Tensor:
        logits = self.model(tokens_BS[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens_BS[:, 1:], reduction="none")

    def step(self):
        counts_K = self.mix.counts()
        tokens_BS = self.texts.draw(self.text, counts_K, np.random.default_rng(self.mix.taken))
        with self.mix.step():
            self.mix.loss(self.losses(tokens_BS)).backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return tokens_BS, counts_K, self.mix.observe()


@pytest.mark.parametrize("mixer", ["odm", "acodm_core.acodm"])
@pytest.mark.parametrize("script", ["own_loop.py", "hf_trainer.py"])
def test_the_example_runs_and_the_mixture_moves(script: str, mixer: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), mixer, "20"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    words = done.stdout.split()[-6:]
    share = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    assert set(share) == {"code", "prose", "digits"} and sum(share.values()) == pytest.approx(1, abs=0.002)
    assert max(share.values()) - min(share.values()) > 0.005


def test_both_loops_train_the_same(texts) -> None:
    import hf_trainer
    import own_loop

    plain, hugging = own_loop.train("odm", 20, 8), hf_trainer.train("odm", 20, 8)
    assert plain.taken == hugging.taken == 20
    assert plain.share() == pytest.approx(hugging.share(), abs=1e-5)


def test_the_trainer_accumulates(texts) -> None:
    import hf_trainer

    mix = hf_trainer.train("acodm", 4, 8, 2)
    assert mix.taken == 4 and mix.batch == 4 and mix.accumulate == 2


@pytest.mark.parametrize("mixer", ["odm", "acodm_core.acodm"])
def test_what_is_restored_goes_on_the_same(texts, mixer: str) -> None:
    whole, first, second = (Loop(texts, mixer) for _ in range(3))
    for _ in range(STEPS):
        whole.step()
    for _ in range(STEPS // 2):
        first.step()
    state = copy.deepcopy((first.model.state_dict(), first.optimiser.state_dict(), first.mix.state_dict()))
    for part, saved in zip((second.model, second.optimiser, second.mix), state, strict=True):
        part.load_state_dict(saved)
    for _ in range(STEPS - STEPS // 2):
        second.step()
    assert np.array_equal(whole.mix.share(), second.mix.share())


def test_the_gram_is_autograds(texts) -> None:
    loop = Loop(texts, "doge")
    named = loop.model.named_parameters()
    weights = [p for name, p in named if name.endswith("weight") and re.search(LAYERS, name)]
    before = copy.deepcopy(loop.model.state_dict())
    tokens_BS, counts_K, stats = loop.step()
    loop.model.load_state_dict(before)
    assert (counts_K > 0).all()
    grads = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loop.losses(part).mean(), weights)])
        for part in tokens_BS.split(counts_K.tolist())
    ]
    gram_KK = torch.stack(grads) @ torch.stack(grads).T
    assert stats[Signal.GRAD_GRAM] == pytest.approx(gram_KK.numpy(), rel=1e-3)


def test_what_is_not_measured_here_is_refused(texts) -> None:
    with pytest.raises(UserError, match="aioli learns from valid_loss"):
        Loop(texts, "aioli")
    model = texts.small_model()
    with pytest.raises(UserError, match="no Linear layer"):
        Mix("odm", {"a": 1}, model, torch.optim.AdamW(model.parameters()), layers="nosuch", steps=1, batch=1, context=8)


def test_losses_of_another_shape_are_refused(texts) -> None:
    loop = Loop(texts, "odm")
    loop.step()
    with pytest.raises(UserError, match="shape"), loop.mix.step():
        loop.mix.loss(torch.zeros(BATCH, 3))
