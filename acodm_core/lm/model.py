"""Language models: any Hugging Face causal LM, built from a config and initialised from a seed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from acodm_core.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


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
        UserError: a model_type or field that transformers does not know.
    """
    from transformers import AutoConfig

    fields = dict(config)
    kind = fields.pop("model_type", None)
    try:
        defaults = AutoConfig.for_model(kind)
    except (ValueError, KeyError):
        raise UserError(
            f"transformers knows no causal LM of type {kind!r}",
            where="models.*.config.model_type",
            fix="e.g. gpt_neox or llama",
        ) from None
    for field in fields:
        if not hasattr(defaults, field):
            raise UserError(f"a {kind} config has no field {field!r}", where=f"models.*.config.{field}")
    special = dict.fromkeys(("bos_token_id", "eos_token_id"), end_of_text)
    hf = AutoConfig.for_model(
        kind, **{"vocab_size": vocab_size, "max_position_embeddings": context, "use_cache": False, **special, **fields}
    )
    with torch.random.fork_rng(devices=[]), torch.device(device):
        if seed is not None:
            torch.manual_seed(seed)
        return fresh_model(hf)


def fresh_model(config: PretrainedConfig) -> PreTrainedModel:
    """A model of that config, its weights drawn from the global generator, with this project's attention."""
    from transformers import AutoModelForCausalLM

    from acodm_core.lm import attention, neox

    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    neox.use_in(model)
    return model


def matching_layers(model: torch.nn.Module, pattern: str, *, where: str) -> list[torch.nn.Linear]:
    """The Linear layers whose name contains a match of ``pattern``, bottom to top; UserError when there are none."""
    expression = re.compile(pattern + r"\b")
    found = [m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and expression.search(name)]
    if not found:
        linear = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
        raise UserError(
            f"no Linear layer matches {pattern!r}", where=where, fix=f"layers: {', '.join(linear[:6])}, ..."
        )
    return found


def middle_states(model: PreTrainedModel, tokens_BS: torch.Tensor) -> torch.Tensor:
    """(B, S - 1, H) hidden states half-way up: after layer (L + 1) // 2 of L; the last token is only ever predicted."""
    states = model.base_model(input_ids=tokens_BS[:, :-1], output_hidden_states=True, use_cache=False).hidden_states
    return states[len(states) // 2]  # the first is the token embeddings


def non_embedding_parameters(model: torch.nn.Module) -> int:
    """Parameters outside the token embeddings and the output head: the N of 6ND."""
    skip = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in skip)
