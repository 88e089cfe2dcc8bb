"""A run's checkpoint with its tokenizer: loaded in this process, or exported as a Hugging Face folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from acodm_core.data.corpus import Corpus
from acodm_core.data.manifest import TOKENIZER
from acodm_core.errors import UserError
from acodm_core.files import digest
from acodm_core.lm.signals.reference_model import frozen_model
from acodm_core.lm.train import snapshot_name
from acodm_core.results.finished_run import read_manifest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A frozen model with the tokenizer of its corpus.

    Attributes:
        run: name of the run's folder.
        step: optimiser steps behind the weights.
        digest: of weights, configuration and tokenizer; equal digests give equal scores.
        context: tokens per sequence that the model was trained on.
    """

    run: str
    step: int
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    digest: str
    context: int

    @classmethod
    def load(
        cls, folder: Path, corpus: Corpus, *, device: str | torch.device = "cpu", step: int | None = None
    ) -> Checkpoint:
        """The model that a finished run left in ``folder``; with ``step``, its snapshot of that step.

        Raises:
            UserError: no finished run there, no such snapshot, a damaged file, or a run on another corpus.
        """
        manifest = read_manifest(folder)
        if manifest["corpus"] != corpus.digest:
            raise UserError(
                "this run was trained on another corpus, so the tokenizer may differ",
                where=str(corpus.folder),
                fix=f"--corpus data/corpora/{manifest['spec']['corpus']}",
            )
        weights = WEIGHTS if step is None else snapshot_name(step)
        model = frozen_model(folder, weights=weights).to(device)
        context = manifest["spec"]["training"]["context"]
        files = manifest["artefacts"]
        parts = [files[weights], files["config.json"], corpus.manifest.files[TOKENIZER]]
        return cls(
            run=manifest["run"],
            step=manifest["steps"] if step is None else step,
            model=model,
            tokenizer=hf_tokenizer(corpus, context),
            digest=digest(parts, 64),
            context=context,
        )


def hf_tokenizer(corpus: Corpus, context: int) -> PreTrainedTokenizerFast:
    """The corpus's tokenizer as transformers wants it: the same tokens for the same text, none added.

    Text that spells the end-of-text token is encoded as text, as it was in training.
    """
    from transformers import PreTrainedTokenizerFast

    from acodm_core.data.tokens.tokenizer import load_tokenizer

    end = load_tokenizer(corpus.tokenizer_path).id_to_token(corpus.end_of_text)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(corpus.tokenizer_path),
        bos_token=end,
        eos_token=end,
        pad_token=end,
        model_max_length=context,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def export(checkpoint: Checkpoint, out: Path) -> Path:
    """Write ``out``: config.json, model.safetensors and tokenizer files that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    Raises:
        UserError: ``out`` exists.
    """
    if out.exists():
        raise UserError("exists", where=str(out), fix="name a folder that does not exist")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        checkpoint.model.config.use_cache = True  # training has no use for it, generation has
        checkpoint.model.save_pretrained(temporary)
        checkpoint.tokenizer.save_pretrained(temporary)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out
