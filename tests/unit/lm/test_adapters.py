"""Losses of merged adapters: what they are, that they leave everything else alone, and what they cost."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kept_groups import behind_groups

from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.kernels.fused_loss import token_losses, weighted_loss
from acodm_core.lm.model import build_model
from acodm_core.lm.signals import adapters as lora
from acodm_core.lm.train import Trainer
from acodm_core.mixers.find import find_mixer
from acodm_core.mixing import Adapters, Signal, StepStats
from acodm_core.study.planner import RunSpec, plan

STEPS = 20
LLAMA = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 2, "intermediate_size": 48}  # fmt: skip
DROPOUT = {"model_type": "gpt_neox", "hidden_dropout": 0.2}


@pytest.fixture
def spec_of(experiment_of):
    def spec(method: str = "opmix", config: dict | None = None, **recipe) -> RunSpec:
        training = {"steps": STEPS, "checkpoint_every": 6} | recipe
        overlay = {"models": {"tiny": {"config": config}}} if config else {}
        if config and config["model_type"] == "llama":
            layers = r"layers\.(0|1)\.mlp\.down_proj"
            overlay["models"]["tiny"] |= {"gradient_layers": layers, "norm_layers": layers}
        (found,) = plan(experiment_of(overlay, compare=[method], baseline=method, training=training)).runs.values()
        return found

    return spec


@pytest.fixture
def trainer_of(spec_of, corpus, tmp_path: Path):
    def trainer(*arguments, **options) -> Trainer:
        spec = spec_of(*arguments, **options)
        return Trainer(spec, corpus, tmp_path / spec.run)

    return trainer


def measuring(trainer: Trainer, weight_MA: np.ndarray, **changes) -> lora.AdapterLosses:
    """The trainer's own, asked for other models."""
    losses, asked = trainer.train_step.tools.adapters, trainer.mixer.adapters()
    losses.asked = Adapters(asked.mixture_AK, weight_MA, **({"steps": 6} | changes))
    return losses


@pytest.mark.parametrize("config", [None, LLAMA], ids=["gpt_neox", "llama"])
def test_a_model_merged_of_one_adapter_is_the_model_that_the_adapter_made(trainer_of, config) -> None:
    trainer = trainer_of(config=config)
    autocast = trainer.train_step.autocast()
    losses = measuring(trainer, np.eye(5)[[2]])
    factors = losses._trained(losses.asked.mixture_AK[2], autocast)
    with lora._beside(trainer.model, factors, 2.0):
        expected_K = trainer.train_step.tools.held_out(trainer.model, autocast).loss_K
    plain_K = trainer.train_step.tools.held_out(trainer.model, autocast).loss_K
    found_K = losses(autocast)[:, 0]
    np.testing.assert_allclose(found_K, expected_K, rtol=1e-5)
    assert np.abs(found_K - plain_K).max() > 0.05, "the adapter did something"


def test_merging_interpolates_the_adapters_products(trainer_of) -> None:
    model = trainer_of().model
    pairs = [lora._fresh(model, 3, seed) for seed in (1, 2)]
    for factors in pairs:
        for _, out in factors:
            out.data.normal_()
    layers = lora.adapted_layers(model)
    before = [layer.weight.clone() for layer in layers]
    with lora._merged(model, pairs, np.array([0.5, 2.0])):
        for index, (layer, weight) in enumerate(zip(layers, before, strict=True)):
            (into, out), (other_into, other_out) = pairs[0][index], pairs[1][index]
            expected = weight + 0.5 * out @ into + 2.0 * other_out @ other_into
            torch.testing.assert_close(layer.weight, expected.detach(), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(layers, before, strict=True))


def test_an_adapter_learns_its_domain(trainer_of) -> None:
    trainer = trainer_of()
    autocast = trainer.train_step.autocast()
    loss_KM = measuring(trainer, np.eye(5)[1:], steps=30)(autocast)  # column j: the adapter of domain j
    assert (loss_KM.argmin(1) == np.arange(4)).all()
    assert (np.diag(loss_KM) < trainer.train_step.tools.held_out(trainer.model, autocast).loss_K - 0.05).all()


def test_every_linear_but_the_head_is_adapted(trainer_of) -> None:
    model = trainer_of().model
    assert len(lora.adapted_layers(model)) == 2 * 4  # query_key_value, dense, and the two of the MLP
    assert model.get_output_embeddings() not in lora.adapted_layers(model)


def test_a_model_without_linear_layers_is_refused() -> None:
    model = build_model({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 1}, vocab_size=9, context=4, seed=0)
    with pytest.raises(UserError, match="GPT2LMHeadModel has no Linear layers"):
        lora.adapted_layers(model)


@pytest.mark.parametrize("config", [None, DROPOUT], ids=["plain", "dropout"])
def test_measuring_leaves_everything_as_it_was(trainer_of, config) -> None:
    trainer = trainer_of(config=config)
    train_step, model = trainer.train_step, trainer.model
    train_step.step(trainer.sampler.next(np.full(4, 0.25), 0), 0, frozenset())  # so that the optimiser has moments

    def state():
        return deepcopy([model.state_dict(), train_step.optimiser.state_dict(), trainer.sampler.drawn_K.tolist(),
                         torch.get_rng_state()])  # fmt: skip

    before, places = state(), [weight.data_ptr() for weight in model.parameters()]
    one, other = (train_step.tools.adapters(train_step.autocast()) for _ in range(2))
    np.testing.assert_array_equal(one, other), "and says the same again"
    assert repr(before) == repr(state())
    for mine, theirs in zip(before[0].values(), model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(before[3], torch.get_rng_state())
    assert places == [weight.data_ptr() for weight in model.parameters()]
    assert model.training and all(w.requires_grad and w.grad is None for w in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_run_that_measures_and_does_not_listen_is_the_run_that_does_not_measure(
    trainer_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: the mixture stays uniform, and a look at adapters changes nothing else."""
    plain = trainer_of("uniform")
    monkeypatch.setattr(find_mixer("opmix"), "observe", lambda *_: None)
    measuring = trainer_of("opmix")
    assert plain.run() == measuring.run() == "finished"
    mine, its = ((one.folder / "weights.safetensors").read_bytes() for one in (plain, measuring))
    assert mine == its
    mine, its = (pd.read_parquet(one.folder / "metrics.parquet").value for one in (plain, measuring))
    assert mine.equals(its)
    assert (
        read_json(measuring.folder / "manifest.json")["method_flops"] == measuring.train_step.tools.adapters.flops > 0
    )


def test_micro_batches_change_no_adapter_but_by_rounding(trainer_of) -> None:
    whole, parts = trainer_of(), trainer_of(micro_batch=2)
    one, other = (trainer.train_step.tools.adapters(trainer.train_step.autocast()) for trainer in (whole, parts))
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_a_frozen_head_gets_no_gradient_and_costs_no_product(trainer_of) -> None:
    model = trainer_of().model
    tokens_BS = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(0))
    flops, gradients = [], []
    for frozen in (False, True):
        head = model.get_output_embeddings().weight.requires_grad_(not frozen)
        with lora.counting(model) as counter:
            total, loss_BT = weighted_loss(model, tokens_BS, torch.full((2,), 0.1))
            total.backward()
        assert (head.grad is None) == frozen
        torch.testing.assert_close(loss_BT, token_losses(model, tokens_BS))
        gradients.append(model.get_input_embeddings().weight.grad.clone())
        flops.append(counter.get_total_flops())
        model.zero_grad(set_to_none=True)
    assert torch.equal(*gradients)
    assert flops[0] - flops[1] == 2 * 2 * 8 * head.numel()


def test_what_it_costs(trainer_of) -> None:
    """Of an adapter's step: forward, and backward without the model's own weight gradients; of a model: a forward pass."""
    trainer = trainer_of()
    asked, training = trainer.mixer.adapters(), trainer.spec.training
    forward, both = (sequence_flops(trainer.model, training.context, backward=b) for b in (False, True))
    products = 2 * training.context * sum(w.numel() for w in trainer.model.parameters() if w.ndim == 2)
    factors = sum(16 * (layer.in_features + layer.out_features) for layer in lora.adapted_layers(trainer.model))
    flops = partial(lora.adapter_flops, trainer.model, training=training)
    none, some = (flops(Adapters(asked.mixture_AK, asked.weight_MA, s), sequences=0) for s in (0, 1))
    merging = (
        len(asked.weight_MA) * 2 * 5 * 16 * sum(layer.weight.numel() for layer in lora.adapted_layers(trainer.model))
    )
    assert none == merging
    step = (some - none) / (5 * training.batch)
    embeddings = 2 * training.context * trainer.model.get_input_embeddings().weight.numel()
    first = lora.adapted_layers(trainer.model)[0:4:2]  # read the embeddings, which need no gradient
    spared = sum(2 * training.context * (layer.weight.numel() + 16 * layer.in_features) for layer in first)
    assert step == both - (products - embeddings) + 6 * training.context * factors - spared
    assert flops(asked, sequences=7) - flops(asked, sequences=6) == len(asked.weight_MA) * forward


def test_groups_are_adapted_as_they_are_drawn_and_their_losses_are_their_mixtures() -> None:
    inner, mixer = behind_groups(Signal.ADAPTER_LOSS)
    np.testing.assert_allclose(mixer.adapters().mixture_AK, [[0.225, 0.675, 0.1], [0.0, 0.0, 1.0]])
    loss_KM = np.array([[1.0, 2.0], [5.0, 2.0], [3.0, 4.0]])
    mixer.observe(StepStats(0, np.array([0, 0, 8]), {Signal.ADAPTER_LOSS: loss_KM}))
    np.testing.assert_allclose(inner.seen[Signal.ADAPTER_LOSS], [[4.0, 2.0], [3.0, 4.0]])


def test_a_mixer_that_names_no_adapters_is_refused(trainer_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_mixer("opmix"), "adapters", lambda self: None)
    with pytest.raises(UserError, match="adapters names none"):
        trainer_of()
