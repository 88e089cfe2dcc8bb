"""What a run begins with besides its model: a mixer, and what that one asks to have measured."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from acodm_core.data.corpus import Corpus
from acodm_core.errors import UserError
from acodm_core.lm.model import matching_layers
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.signals.reference_model import Reference
from acodm_core.mixers.find import build_mixer
from acodm_core.mixers.grouped import Grouped
from acodm_core.mixers.guarded import Guarded
from acodm_core.mixing import Inputs, Mixer, Signal, Source, Start
from acodm_core.results.finished_run import require
from acodm_core.results.schemas import TABLES
from acodm_core.streams import MIXER, stream
from acodm_core.study.planner import RunSpec

# What a run's folder holds beside what its mixer saves.
OWN_FILES = frozenset({"manifest.json", "spec.json", "config.json", "generation_config.json", "weights.safetensors"})
OWN_FILES |= {"signals.parquet", *(f"{name}.parquet" for name in TABLES), "state", "snapshots", "downstream"}


def start_mixer(spec: RunSpec, corpus: Corpus, inputs: Inputs, model: torch.nn.Module) -> Mixer:
    """The spec's mixer, started on the corpus's domains, to decide what ``model`` is trained on. Its answers are checked.

    Raises:
        UserError: a run that it needs is another one, unfinished or damaged; the mixer does not start.
    """
    _check_inputs(spec, inputs)
    mixer = Guarded(build_mixer(spec.mixer, spec.options), spec.method, reserved=OWN_FILES)
    if spec.groups:
        mixer = Grouped(mixer, spec.groups)
    tokens_K = np.asarray(corpus.train_tokens, dtype=np.float64)
    rng = stream(spec.seed, MIXER)
    objective_K = spec.evaluation.objective_vector(spec.domains, tokens_K)
    prior_K = tokens_K / tokens_K.sum()
    norms = any(signal.info.source is Source.WEIGHTS for signal in mixer.needs)
    tensors = len(matching_layers(model, spec.model.norm_layers, where="models.*.norm_layers")) if norms else 0
    mixer.start(
        Start(
            domains=spec.domains,
            prior=prior_K,
            tokens_available=tokens_K,
            total_steps=spec.training.steps,
            rng=rng,
            inputs=dict(inputs),
            objective_weights=objective_K,
            tensors=tensors,
            tokens_per_step=spec.training.batch * spec.training.context,
        )
    )
    return mixer


def _check_inputs(spec: RunSpec, inputs: Inputs) -> None:
    """Check every file that the runs in ``inputs`` left, and that they are the runs which the spec names."""
    for role, folders in inputs.items():
        given = [require(folder)["run"] for folder in (folders if isinstance(folders, tuple) else (folders,))]
        named = [run for its_role, run in spec.needed() if its_role == role]
        if given != named:
            raise UserError(
                f"the input {role!r} is {', '.join(given)}, and this run was planned with {', '.join(named) or 'none'}",
                where=str(folders[0] if isinstance(folders, tuple) else folders),
                fix=f"--input {role}=FOLDER of that run",
            )


def reference_of(spec: RunSpec, mixer: Mixer, corpus: Corpus, inputs: Inputs, device: str) -> Reference | None:
    """What EXCESS_LOSS is measured against, if ``mixer`` may ask for it: the model of its input run ``reference``."""
    if Signal.EXCESS_LOSS not in mixer.needs:
        return None
    if not isinstance(inputs.get("reference"), Path):
        raise UserError(
            f"mixer {spec.mixer!r} measures losses in excess of those of one input run 'reference', and has none or many",
            fix="add  inputs: {reference: NAME_OF_A_METHOD}, and the role to the mixer's required_inputs",
        )
    context = spec.training.context
    return Reference(inputs["reference"], context=context, vocab_size=corpus.vocab_size, device=device)


def held_out_of(spec: RunSpec, mixer: Mixer, corpus: Corpus) -> Evaluator | None:
    """What the signals of held-out text are measured on, if ``mixer`` may ask for one: the validation split's last sequences.

    The curve's sequences are its first ones, so a mixer sees those only in a domain too small to have others. About two
    batches of the run, because losses are asked for again and again; sixteen where a mixer wants embeddings, once.
    """
    if not any(signal.info.source is Source.HELD_OUT for signal in mixer.needs):
        return None
    sequences = held_out_sequences(spec, mixer.needs)
    return Evaluator(corpus, "valid", sequences=sequences, context=spec.training.context, rows=rows(spec), last=True)


def held_out_sequences(spec: RunSpec, needs: Collection[Signal]) -> int:
    """How many sequences of each domain ``held_out_of`` measures on."""
    batches = 16 if Signal.EMBEDDING in needs else 2
    return math.ceil(batches * spec.training.batch / len(spec.domains))


def rows(spec: RunSpec) -> int:
    """Sequences a forward pass."""
    return spec.training.micro_batch or spec.training.batch
