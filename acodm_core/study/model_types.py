"""The types of language model that this project trains. Tests train, resume, save and measure each, so no other one is accepted.

A type that is not here may look as if it trained: some read the tokens that they are to predict where attention is not their own,
some cannot be saved, some change their logits in ways that are not counted. To add one, add its line here and its shape to
``tests/unit/lm/test_model_types.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from acodm_core.errors import UserError


@dataclass(frozen=True)
class ModelType:
    """How transformers' type is trained here."""

    title: str
    # short: this project's attention on a CPU, torch's kernels elsewhere. own: as transformers writes it out, for a type
    # that does something to attention's weights that kernels cannot, or has no attention.
    attention: Literal["short", "own"] = "short"
    note: str = ""


_CONV1D = (
    "Its head is its only Linear layer: the others are Conv1D, which are not measured. Of a head that is tied to the embeddings"
    " the gradient by its use as a head is measured. "
)
_DROPOUT = "Drops 10 % of its activations unless its config says otherwise: {}."
MODEL_TYPES: Mapping[str, ModelType] = {
    "gpt_neox": ModelType("GPT-NeoX, Pythia"),
    "gpt2": ModelType("GPT-2", note=_CONV1D + _DROPOUT.format("`resid_pdrop: 0, embd_pdrop: 0, attn_pdrop: 0`")),
    "gpt_neo": ModelType("GPT-Neo", "own"),
    "gptj": ModelType("GPT-J", "own"),
    "opt": ModelType("OPT", note=_DROPOUT.format("`dropout: 0`")),
    "bloom": ModelType("BLOOM", "own"),
    "falcon": ModelType("Falcon", "own"),
    "llama": ModelType("Llama 1 to 3"),
    "mistral": ModelType("Mistral"),
    "qwen2": ModelType("Qwen 2 and 2.5"),
    "qwen3": ModelType("Qwen 3"),
    "gemma": ModelType("Gemma"),
    "gemma2": ModelType("Gemma 2", "own", "Caps its logits, so all of a batch's are made at once."),
    "gemma3_text": ModelType("Gemma 3"),
    "phi": ModelType("Phi 1 and 2"),
    "phi3": ModelType("Phi 3 and 4"),
    "olmo": ModelType("OLMo"),
    "olmo2": ModelType("OLMo 2"),
    "stablelm": ModelType("StableLM"),
    "starcoder2": ModelType("StarCoder 2"),
    "granite": ModelType("Granite"),
    "cohere": ModelType("Command R"),
    "smollm3": ModelType("SmolLM 3"),
    "mamba": ModelType("Mamba", "own", "Has no attention. Its scan is no product of matrices, and not in the FLOPs."),
}


def check_model_type(kind: object, *, where: str) -> ModelType:
    """The type's entry.

    Raises:
        UserError: no type, or one that is not trained here; with the list.
    """
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        fix = f"tested are: {', '.join(sorted(MODEL_TYPES))} (docs/reference/models.md)"
        raise UserError(f"no models of type {kind!r} are tested here, so none are trained", where=where, fix=fix)
    return MODEL_TYPES[kind]
