"""The embedding of a domain: what it is the mean of, what it leaves alone, what it costs, and when it is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kept_groups import behind_groups
from tiny_model import CONTEXT, batch, train_step

from acodm_core.files import read_json
from acodm_core.lm.flops import embedding_flops, sequence_flops
from acodm_core.lm.model import build_model
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.train import Trainer
from acodm_core.mixers.find import find_mixer
from acodm_core.mixing import Signal, StepStats
from acodm_core.study.planner import plan

EMBEDDING = frozenset({Signal.EMBEDDING})


class HeldOut(Evaluator):
    """Windows of random tokens: two of the first domain, one of the second, three of the last."""

    def __init__(self, rows: int) -> None:
        drawn = batch((2, 1, 0, 3), seed=7)
        self._tokens_NS, self._rows, self._domains = torch.from_numpy(drawn.tokens_BS), rows, 3
        self._domain_N = np.array([0, 0, 1, 2, 2, 2])
        self._count_K = np.bincount(self._domain_N) * CONTEXT


@pytest.mark.parametrize("kind", ["gpt_neox", "llama"])
@pytest.mark.parametrize("rows", [1, 4])
def test_is_the_mean_over_tokens_of_the_layer_half_way_up(kind: str, rows: int) -> None:
    mine, held_out = train_step(kind), HeldOut(rows)
    layer = mine.model.base_model.layers[1]  # of three: hidden_states[2], where [0] are the token embeddings
    seen: list[np.ndarray] = []
    hook = layer.register_forward_hook(
        lambda module, given, out: seen.append((out if torch.is_tensor(out) else out[0]).detach().double().numpy())
    )
    with torch.no_grad():
        for tokens_S in held_out._tokens_NS:
            mine.model(input_ids=tokens_S[None, :-1])
    hook.remove()
    state_NTH = np.concatenate(seen)
    assert state_NTH.shape == (6, CONTEXT, 32)
    expected_KH = [state_NTH[held_out._domain_N == k].mean((0, 1)) for k in range(3)]
    np.testing.assert_allclose(held_out.embeddings(mine.model, mine.autocast()), expected_KH, rtol=1e-4, atol=1e-6)


def test_measuring_changes_neither_model_nor_random_stream_and_is_counted_where_asked_for() -> None:
    plain, asked = train_step("gpt_neox"), train_step("gpt_neox", needs=EMBEDDING)
    asked.tools.held_out = HeldOut(4)
    asked.tools.held_out_flops = {Signal.EMBEDDING: 6 * embedding_flops(asked.model, CONTEXT)}
    before = torch.get_rng_state()
    for step, wants in enumerate([EMBEDDING, frozenset(), EMBEDDING]):
        one, other = plain.step(batch(seed=step), step, frozenset()), asked.step(batch(seed=step), step, wants)
        assert one.loss == other.loss and one.grad_norm == other.grad_norm
        assert (Signal.EMBEDDING in other.signals) == bool(wants)
    assert torch.equal(torch.get_rng_state(), before) and asked.model.training
    assert asked.signal_flops == 12 * embedding_flops(asked.model, CONTEXT)
    forward = sequence_flops(asked.model, CONTEXT, backward=False)
    head = 2 * CONTEXT * asked.model.get_output_embeddings().weight.numel()
    assert embedding_flops(asked.model, CONTEXT) == forward - head


def test_a_groups_embedding_is_that_of_its_mixture_whatever_was_drawn() -> None:
    inner, mixer = behind_groups(Signal.EMBEDDING)
    embedding_KH = np.array([[1.0, 0.0], [5.0, 8.0], [2.0, 2.0]])
    mixer.observe(StepStats(0, np.array([0, 0, 8]), {Signal.EMBEDDING: embedding_KH}))
    np.testing.assert_allclose(inner.seen[Signal.EMBEDDING], [[4.0, 6.0], [2.0, 2.0]])


def test_a_run_measures_it_once_after_its_last_step_on_the_validation_splits_end(
    experiment_of, corpus, tmp_path: Path, monkeypatch
) -> None:
    recipe = {"steps": 6, "batch": 4, "checkpoint_every": 4}
    planned = plan(experiment_of(compare=["chameleon"], baseline="chameleon", training=recipe))
    (proxy, target) = planned.runs.values()
    seen: dict[int, np.ndarray] = {}
    mixer, observe = find_mixer("chameleon"), find_mixer("chameleon").observe

    def watching(self, stats: StepStats) -> None:
        if Signal.EMBEDDING in stats:
            seen[stats.step] = stats[Signal.EMBEDDING]
        observe(self, stats)

    monkeypatch.setattr(mixer, "observe", watching)
    trainer = Trainer(proxy, corpus, tmp_path / "proxy")
    assert trainer.run() == "finished"
    (step,) = seen
    assert step == 5
    last = Evaluator(corpus, "valid", sequences=16, context=proxy.training.context, rows=4, last=True)
    np.testing.assert_allclose(seen[5], last.embeddings(trainer.model, trainer.train_step.autocast()))
    model = build_model(proxy.model.config, vocab_size=corpus.vocab_size, context=proxy.training.context, seed=0)
    manifest = read_json(tmp_path / "proxy" / "manifest.json")
    assert manifest["method_flops"] == last.sequences * embedding_flops(model, proxy.training.context)
    weights = read_json(tmp_path / "proxy" / "weights.json")
    drawn = Trainer(target, corpus, tmp_path / "target", {"weights": tmp_path / "proxy"}).mixer.sampling_weights(0)
    np.testing.assert_allclose(drawn, [weights[name] for name in corpus.domains])
    assert np.ptp(drawn) > 0
