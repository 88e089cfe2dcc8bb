"""Every type of model that is accepted: trained, stopped and gone on with, saved, read again, measured and counted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from killable_runs import assert_same_bytes
from tiny_model import CONTEXT, VOCABULARY, batch, separate_gram, train_step

from acodm_core.downstream.checkpoint import Checkpoint, export
from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.kernels.fused_loss import token_losses
from acodm_core.lm.model import build_model, matching_layers
from acodm_core.lm.signals.reference_model import frozen_model
from acodm_core.lm.step import TrainStep
from acodm_core.lm.train import Trainer, snapshot_name
from acodm_core.lm.trial import try_out
from acodm_core.lm.weights import load_weights, save_weights
from acodm_core.mixing import Signal
from acodm_core.planning import operation_counts
from acodm_core.settings.yaml_files import shipped
from acodm_core.study.config import CORE, ModelConfig
from acodm_core.study.model_trials import check_models
from acodm_core.study.model_types import MODEL_TYPES
from acodm_core.study.planner import RunSpec, plan

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FED = {**WIDE, "intermediate_size": 48}
GROUPED = {**FED, "num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4}
NEO = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
SHAPES = {  # fields of the config, and the layers that are measured
    "gpt_neox": (FED, r"dense_4h_to_h"),
    "gpt2": (GPT, r"lm_head"),
    "gpt_neo": (NEO, r"attention\.out_proj"),
    "gptj": ({**GPT, "rotary_dim": 4}, r"h\.\d\.mlp\.fc_out"),
    "opt": ({**WIDE, "ffn_dim": 48, "word_embed_proj_dim": 32}, r"fc2"),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, r"dense_4h_to_h"),
    "falcon": (WIDE, r"dense_4h_to_h"),
    "llama": ({**GROUPED, "tie_word_embeddings": True}, r"down_proj"),
    "mistral": ({**GROUPED, "sliding_window": 6}, r"o_proj"),
    "qwen2": ({**GROUPED, "tie_word_embeddings": True}, r"k_proj|down_proj"),
    "qwen3": ({**GROUPED, "head_dim": 8, "tie_word_embeddings": True}, r"down_proj"),
    "gemma": ({**GROUPED, "head_dim": 8}, r"down_proj"),
    "gemma2": ({**GROUPED, "head_dim": 8, "sliding_window": 6}, r"down_proj"),
    "gemma3_text": ({**GROUPED, "head_dim": 8, "sliding_window": 6}, r"down_proj"),
    "phi": (FED, r"fc2"),
    "phi3": (GROUPED, r"down_proj"),
    "olmo": (FED, r"down_proj"),
    "olmo2": (FED, r"down_proj"),
    "stablelm": (GROUPED, r"down_proj"),
    "starcoder2": (GROUPED, r"c_proj"),
    "granite": (GROUPED, r"down_proj"),
    "cohere": (FED, r"down_proj"),
    "smollm3": (GROUPED, r"down_proj"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2}, r"x_proj|out_proj"),
}
STILL = {  # autograd's own passes would drop others, and cannot tell a tied head from the embeddings
    "gpt2": {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "tie_word_embeddings": False},
    "opt": {"dropout": 0.0},
}
SIGNALS = frozenset({Signal.GRAD_GRAM, Signal.ADAM_SKETCH})
STEPS = 4


def test_every_accepted_type_is_tested() -> None:
    assert list(SHAPES) == list(MODEL_TYPES)


def model_of(kind: str, **fields) -> torch.nn.Module:
    config = {"model_type": kind, **SHAPES[kind][0], **fields}
    model = build_model(config, vocab_size=VOCABULARY, context=CONTEXT, seed=0)
    with torch.no_grad():  # as drawn, a token hardly minds the others
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    return model.eval()


@pytest.fixture(scope="module")
def spec_of(experiment_of):
    def make(kind: str) -> RunSpec:
        fields, layers = SHAPES[kind]
        model = {"config": {"model_type": kind, **fields}, "lr": 1e-2, "gradient_layers": layers, "norm_layers": layers}
        experiment = experiment_of(
            models={kind: model},
            roles={"target": kind},
            compare=["measured"],
            baseline="measured",
            training={"steps": STEPS, "checkpoint_every": 2},
            evaluation={"every": 2, "snapshots": [0.5]},
            methods={"measured": {"mixer": "doge"}},
        )
        (spec,) = plan(experiment).runs.values()
        return spec

    return make


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_a_type_trains_goes_on_after_a_stop_is_saved_and_exported(kind, spec_of, corpus, tmp_path, monkeypatch) -> None:
    from transformers import AutoModelForCausalLM

    spec = spec_of(kind)
    whole = Trainer(spec, corpus, tmp_path / "whole")
    assert whole.run() == "finished"
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "step", stops_at(3, TrainStep.step))
        with pytest.raises(KeyboardInterrupt):
            Trainer(spec, corpus, tmp_path / "stopped").run()
    torch.rand(7)  # another process's random state
    assert Trainer(spec, corpus, tmp_path / "stopped").run() == "finished"
    assert_same_bytes(tmp_path / "stopped", tmp_path / "whole")

    signals = pd.read_parquet(tmp_path / "whole" / "signals.parquet")
    assert signals.loc[signals["name"] == "grad_gram", "value"].abs().max() > 0
    trained = whole.model.eval()
    tokens_BS = torch.from_numpy(batch().tokens_BS)
    losses_BT = token_losses(trained, tokens_BS)
    torch.testing.assert_close(token_losses(frozen_model(tmp_path / "whole"), tokens_BS), losses_BT)
    early = frozen_model(tmp_path / "whole", weights=snapshot_name(2))
    assert not torch.equal(token_losses(early, tokens_BS), losses_BT)
    out = export(Checkpoint.load(tmp_path / "whole", corpus), tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager").eval()
    torch.testing.assert_close(token_losses(theirs, tokens_BS), losses_BT, rtol=1e-4, atol=1e-4)
    one = operation_counts.passes(spec.model, context=spec.training.context, vocabulary=corpus.vocab_size)
    assert read_json(tmp_path / "whole" / "manifest.json")["model_flops"] == STEPS * spec.training.batch * one.both


def stops_at(last: int, plain):
    def step(self, drawn, number, *rest):
        if number == last:
            raise KeyboardInterrupt
        return plain(self, drawn, number, *rest)

    return step


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_a_token_is_predicted_from_those_before_it_alone_as_in_transformers(kind: str) -> None:
    model, tokens_BS = model_of(kind), torch.from_numpy(batch().tokens_BS)
    other_BS, at = tokens_BS.clone(), CONTEXT // 2
    other_BS[:, at] = (other_BS[:, at] + 1) % VOCABULARY
    mine_BT, its_BT = token_losses(model, tokens_BS), token_losses(model, other_BS)
    torch.testing.assert_close(mine_BT[:, : at - 1], its_BT[:, : at - 1])
    assert ((mine_BT - its_BT).abs()[:, at:].amax(0) > 1e-4).all(), "all later tokens see it"
    model.set_attn_implementation("eager")
    torch.testing.assert_close(token_losses(model, tokens_BS), mine_BT, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_a_types_domains_have_the_gradients_that_autograd_gives_each(kind: str) -> None:
    fields, layers = SHAPES[kind]
    fields = fields | STILL.get(kind, {})
    mine = train_step(kind, shape=(fields, layers), needs=SIGNALS, micro_batch=4)
    expected = separate_gram(mine.model, layers, batch())
    found = mine.step(batch(), 0, SIGNALS).signals[Signal.GRAD_GRAM]
    present = np.isfinite(expected)
    assert np.array_equal(np.isfinite(found), present)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((found - expected) / scale)[present].max() < 1e-4


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_tied_head_is_written_once_and_read_as_one(kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model, path = model_of(kind), tmp_path / "weights.safetensors"
    save_weights(path, model)
    assert not any(name.startswith("lm_head") for name in load_file(path))
    other = build_model({"model_type": kind, **SHAPES[kind][0]}, vocab_size=VOCABULARY, context=CONTEXT, seed=1).eval()
    load_weights(path, other)
    assert other.get_output_embeddings().weight is other.get_input_embeddings().weight
    tokens_BS = torch.from_numpy(batch().tokens_BS)
    assert torch.equal(token_losses(other, tokens_BS), token_losses(model, tokens_BS))


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, model_of("llama"))
    for other in (
        model_of("llama", tie_word_embeddings=False),
        model_of("llama", intermediate_size=40),
        model_of("gpt2"),
    ):
        with pytest.raises(UserError, match="another model's weights") as error:
            load_weights(path, other)
        assert str(path) in str(error.value)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a file of weights"):
        load_weights(path, model_of("llama"))


REFUSED = {
    "an untested type": ({"model_type": "mixtral"}, "no models of type 'mixtral' are tested.*qwen3"),
    "no type": ({"model_type": None}, "no models of type None"),
    "a type that is a list": ({"model_type": ["llama"]}, "no models of type"),
    "heads that do not fill it": ({"model_type": "gpt_neox", "hidden_size": 66}, "66 cannot be cut into 4 heads"),
    "heads that do not fill a llama": ({"hidden_size": 66}, "66.*not a multiple"),
    "keys that heads cannot share": ({"num_key_value_heads": 3}, "4 heads cannot share 3"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads: must be a whole number above 0; got 0"),
    "a size in words": ({"hidden_size": "64"}, "hidden_size.*got '64'"),
    "odd heads": ({"head_dim": 15}, "even rotary dimension"),
    "no width between": ({"intermediate_size": 0}, "would not be trained"),
    "an unknown activation": ({"hidden_act": "foo"}, "cannot be trained.*foo"),
    "an unknown field": ({"hiden_size": 64}, "no field 'hiden_size'"),
    "a method of the config": ({"to_dict": 1}, "no field 'to_dict'"),
    "a vocabulary": ({"vocab_size": 10}, "vocab_size: the vocabulary is the corpus's"),
    "half precision": ({"dtype": "bfloat16"}, "training.precision"),
    "few positions": ({"max_position_embeddings": 8}, "8 positions are fewer"),
    "too much dropout": ({"attention_dropout": 2.0}, "between 0 and 1"),
    "no tensors out": ({"return_dict": False}, "cannot be trained"),
}
PATTERNS = {
    "matches nothing": ("nosuch", "no Linear layer matches 'nosuch'.*q_proj"),
    "matches norms alone": ("norm", "no Linear layer matches"),
    "matches the embeddings": ("embed_tokens", "model.embed_tokens, a Embedding"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_trained_is_refused_in_words(fault: str) -> None:
    fields, message = REFUSED[fault]
    config = {"model_type": "llama", **FED, **fields}
    with pytest.raises(UserError, match=f"(?s){message}") as error:
        try_out(ModelConfig(config=config, lr=1, gradient_layers=".*", norm_layers=".*"), 16, ())
    assert error.value.where.startswith("models.*.config")


@pytest.mark.parametrize("field", ["gradient_layers", "norm_layers"])
@pytest.mark.parametrize("fault", PATTERNS)
def test_a_pattern_of_layers_that_cannot_be_measured_is_refused(fault: str, field: str) -> None:
    pattern, message = PATTERNS[fault]
    patterns = {"gradient_layers": "down_proj", "norm_layers": "down_proj"} | {field: pattern}
    with pytest.raises(UserError, match=f"(?s){message}") as error:
        try_out(ModelConfig(config={"model_type": "llama", **FED}, lr=1, **patterns), 16, ())
    assert error.value.where == f"models.*.{field}"


def test_a_drop_ins_pattern_that_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(UserError, match="no regular expression: missing"):
        matching_layers(model_of("llama"), r"layers\.(0", where="layers")


@pytest.mark.parametrize("pattern", ["c_fc", "c_proj|lm_head"])
def test_gpt2s_layers_that_are_no_linear_are_refused_also_beside_one_that_is(pattern: str) -> None:
    with pytest.raises(UserError, match="a Conv1D, and only Linear is measured"):
        try_out(
            ModelConfig(config={"model_type": "gpt2", **GPT}, lr=1, gradient_layers=pattern, norm_layers="lm_head"),
            16,
            (),
        )


def test_a_type_without_layers_for_adapters_is_refused_where_a_mixer_wants_them() -> None:
    config = ModelConfig(config={"model_type": "gpt2", **GPT}, lr=1, gradient_layers="lm_head", norm_layers="lm_head")
    try_out(config, 16, ())
    with pytest.raises(UserError, match="no Linear layers for adapters"):
        try_out(config, 16, {Signal.ADAPTER_LOSS})


def test_the_plan_tries_a_model_once_and_refuses_what_cannot_be_trained(experiment_of, tmp_path, monkeypatch) -> None:
    """In a process of its own; what passed is remembered, by all that decides it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    planned = plan(experiment_of())
    check_models(planned)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        check_models(planned)
        check_models(plan(experiment_of(roles={"target": "cpu-femto"})))  # shipped: tried by the tests
        with pytest.raises(UserError, match="could not be tried"):
            check_models(plan(experiment_of(training={"context": 8})))
        with pytest.raises(UserError, match="no models of type 'bert'") as error:
            check_models(plan(experiment_of(models={"tiny": {"config": {"model_type": "bert"}}})))
        assert error.value.where == "models.tiny.config.model_type"
    with pytest.raises(UserError, match="66 cannot be cut into 4 heads") as error:
        check_models(plan(experiment_of(models={"tiny": {"config": {"hidden_size": 66, "num_attention_heads": 4}}})))
    assert error.value.where == "models.tiny.config.hidden_size"


@pytest.mark.parametrize("name", shipped(CORE / "lm" / "models.yaml"))
def test_every_shipped_model_can_be_trained_at_its_full_size(name: str) -> None:
    config = ModelConfig.model_validate(shipped(CORE / "lm" / "models.yaml")[name])
    try_out(config, 2048, {Signal.ADAPTER_LOSS, Signal.EMBEDDING})


def test_memory_is_counted_where_attentions_weights_or_a_scan_are_kept() -> None:
    """By the formula of the other types it would be a tenth for Mamba; Gemma 2 keeps the square of the context."""

    def kept(kind: str, context: int) -> int:
        config = ModelConfig(config={"model_type": kind, **SHAPES[kind][0]}, lr=1, gradient_layers=".", norm_layers=".")
        return operation_counts.passes(config, context=context, vocabulary=VOCABULARY).kept_bytes

    formula = {context: kept("llama", context) for context in (16, 64)}
    assert formula[64] == 4 * formula[16]
    assert kept("mamba", 16) > 5 * formula[16]
    assert kept("gemma2", 64) > 5 * kept("gemma2", 16)
