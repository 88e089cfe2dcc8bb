"""Language models: Hugging Face causal LMs of the types in ``study.model_types``, built from a config and a seed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from acodm_core.errors import UserError
from acodm_core.study.model_types import check_model_type

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# Fields of a config that are not the user's to set, and why.
OURS = {
    "vocab_size": "the vocabulary is the corpus's",
    "bos_token_id": "the end-of-text token is the corpus's",
    "eos_token_id": "the end-of-text token is the corpus's",
    "pad_token_id": "nothing is padded",
    "dtype": "weights are float32; products are in training.precision",
    "torch_dtype": "weights are float32; products are in training.precision",
    "use_bidirectional_attention": "a token must not see those after it",
    "is_decoder": "a token must not see those after it",
}
SHAPE = ("hidden_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings")


def build_model(
    config: dict[str, Any],
    *,
    vocab_size: int,
    context: int,
    seed: int | None,
    device: str = "cpu",
    end_of_text: int = 0,
) -> PreTrainedModel:
    """A freshly initialised causal LM in float32.

    Args:
        config: ``model_type`` and its Hugging Face fields.
        seed: of the initial weights; None leaves the global generator alone (for the meta device).

    Raises:
        UserError: a type that is not trained here, a field that it does not have, or a shape that cannot be.
    """
    hf = _hf_config(config, vocab_size=vocab_size, context=context, end_of_text=end_of_text)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        if seed is not None:
            torch.manual_seed(seed)
        return fresh_model(hf)


def _hf_config(config: dict[str, Any], *, vocab_size: int, context: int, end_of_text: int) -> PretrainedConfig:
    from transformers import AutoConfig

    where, fields = "models.*.config", dict(config)
    kind = fields.pop("model_type", None)
    check_model_type(kind, where=f"{where}.model_type")
    defaults = AutoConfig.for_model(kind)
    for field in fields:
        if field in OURS:
            raise UserError(OURS[field], where=f"{where}.{field}", fix="leave it out")
        if field.startswith("_") or not hasattr(defaults, field) or callable(getattr(defaults, field)):
            raise UserError(f"a {kind} config has no field {field!r}", where=f"{where}.{field}")
    own_name = defaults.attribute_map  # what a type calls what others call otherwise
    fields = {own_name.get(field, field): value for field, value in fields.items()}
    fields = {own_name.get("max_position_embeddings", "max_position_embeddings"): context, **fields}
    _check_shape(
        {name: fields.get(own_name.get(name, name)) for name in SHAPE},
        context,
        heads_fill=not hasattr(defaults, "head_dim"),
    )
    # The token that padding is made of would learn nothing, and many types have one where our text has another.
    ours = {"vocab_size": vocab_size, "bos_token_id": end_of_text, "eos_token_id": end_of_text, "pad_token_id": None}
    try:
        return AutoConfig.for_model(kind, **{"use_cache": False, **ours, **fields})
    except Exception as error:  # whatever a type's own checks raise
        raise UserError(f"transformers refuses this config: {' '.join(str(error).split())}", where=where) from error


def _check_shape(given: dict[str, Any], context: int, *, heads_fill: bool) -> None:
    """Refuse in plain words what would fail in the first product, or at the last token of a sequence.

    Args:
        given: name in ``SHAPE`` -> what the config says, None where it says nothing.
        heads_fill: whether the heads together are as wide as the model.
    """
    for name, value in given.items():
        if value is not None and not (type(value) is int and value > 0):
            raise UserError(f"must be a whole number above 0; got {value!r}", where=f"models.*.config.{name}")
    width, heads, groups, positions = given.values()
    if heads_fill and width and heads and width % heads:
        fix = f"a multiple of {heads}, or another num_attention_heads"
        raise UserError(f"{width} cannot be cut into {heads} heads", where="models.*.config.hidden_size", fix=fix)
    if heads and groups and heads % groups:
        fix = f"a divisor of num_attention_heads, {heads}"
        raise UserError(f"{heads} heads cannot share {groups}", where="models.*.config.num_key_value_heads", fix=fix)
    if positions and positions < context:
        what = f"{positions} positions are fewer than training.context, {context}"
        raise UserError(what, where="models.*.config.max_position_embeddings", fix="leave it out: it is the context")


def fresh_model(config: PretrainedConfig) -> PreTrainedModel:
    """A model of that config, its weights drawn from the global generator, with the attention that its type has here.

    Raises:
        UserError: a type that is not trained here.
    """
    from transformers import AutoModelForCausalLM

    from acodm_core.lm.kernels import attention, neox

    trained = check_model_type(config.model_type, where="model_type")
    name = attention.NAME if trained.attention == "short" else "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=name, dtype=torch.float32)
    neox.use_in(model)
    return model


def matching_layers(model: torch.nn.Module, pattern: str, *, where: str) -> list[torch.nn.Linear]:
    """The Linear layers whose name contains a match of ``pattern``, bottom to top.

    Raises:
        UserError: no regular expression, none of them, or a match with a layer of weights that is no Linear.
    """
    try:
        expression = re.compile(rf"(?:{pattern})\b")
    except re.error as error:
        raise UserError(f"{pattern!r} is no regular expression: {error}", where=where) from None
    linear = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    found = [name for name in linear if expression.search(name)]
    fix = f"Linear layers: {', '.join([*linear][:6]) or 'none'}" + (", ..." if len(linear) > 6 else "")
    for name, module in model.named_modules():
        matrices = any(weight.ndim > 1 for weight in module.parameters(recurse=False))
        if matrices and name not in linear and expression.search(name):
            kind = type(module).__name__
            raise UserError(f"{pattern!r} matches {name}, a {kind}, and only Linear is measured", where=where, fix=fix)
    if not found:
        raise UserError(f"no Linear layer matches {pattern!r}", where=where, fix=fix)
    return [linear[name] for name in found]


def middle_states(model: PreTrainedModel, tokens_BS: torch.Tensor) -> torch.Tensor:
    """(B, S - 1, H) hidden states half-way up: after layer (L + 1) // 2 of L; the last token is only ever predicted."""
    states = model.base_model(input_ids=tokens_BS[:, :-1], output_hidden_states=True, use_cache=False).hidden_states
    return states[len(states) // 2]  # the first is the token embeddings


def non_embedding_parameters(model: torch.nn.Module) -> int:
    """Parameters outside the token embeddings and the output head: the N of 6ND."""
    skip = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in skip)
