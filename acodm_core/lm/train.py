"""The training loop: decide, draw, train, observe, evaluate, checkpoint."""

from __future__ import annotations

import math
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.errors import UserError
from acodm_core.files import clear_leftovers, exclusive, writable, write_json
from acodm_core.lm.distributed import random_state
from acodm_core.lm.distributed.ranks import on_any_rank, rank, ranks, sum_over_ranks
from acodm_core.lm.distributed.sharding import load
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.mixed_step import MixedStep, mixed_step
from acodm_core.lm.model import build_model, non_embedding_parameters
from acodm_core.lm.run import checkpoint
from acodm_core.lm.run.interrupts import Interrupted, Stop
from acodm_core.lm.run.journal import Journal
from acodm_core.lm.run.progress import Progress
from acodm_core.lm.run.setup import held_out_of, reference_of, rows, start_mixer
from acodm_core.lm.run.signals_table import kept
from acodm_core.lm.signals.adapters import adapter_losses_of
from acodm_core.lm.signals.held_out import Evaluation, Evaluator
from acodm_core.lm.step import TrainStep, resolve_precision
from acodm_core.lm.weights import save_weights
from acodm_core.measure import provenance
from acodm_core.measure.clock import Clock
from acodm_core.measure.energy import Meter
from acodm_core.mixers.find import mixer_module
from acodm_core.mixing import Inputs, Signal, Source
from acodm_core.seals import checksums, verify
from acodm_core.streams import WEIGHTS, stream_seed
from acodm_core.study.identity import check_current
from acodm_core.study.planner import RunSpec


@dataclass
class Trainer:
    """One run from its spec to its folder. ``run()`` starts it, or continues it from its last checkpoint.

    Under torchrun every rank has a trainer. All draw the same batch and train on their part of it; the first rank's mixer
    decides, and the first rank alone writes.

    Args:
        corpus: the sealed corpus that the spec names.
        folder: the run's folder; ``folder/state`` holds what is needed to continue.
        inputs: role -> folder of a finished run, or the folders of a swarm's.
        sharded: cut the model among the ranks, where one device cannot hold it.
    """

    spec: RunSpec
    corpus: Corpus
    folder: Path
    inputs: Inputs = field(default_factory=dict)
    device: str = "cpu"
    sharded: bool = False

    def __post_init__(self) -> None:
        spec, training = self.spec, self.spec.training
        check_current(spec)
        self.code = provenance.code(mixer_module(spec.mixer))  # as it is now: it may be edited while the run goes on
        if tuple(self.corpus.domains) != spec.domains:
            raise UserError(f"corpus has domains {list(self.corpus.domains)}, the run wants {list(spec.domains)}")
        self.corpus.require_context(training.context)
        if (sealed := self.corpus.manifest.spec.id) != spec.corpus:
            fix = f"--corpus data/corpora/{spec.corpus}"
            raise UserError(
                f"this is corpus {sealed}, the run wants {spec.corpus}", where=str(self.corpus.folder), fix=fix
            )
        self.corpus.verify()
        self.leads = rank() == 0
        self.clock, self.meter = Clock(), Meter(self.device)
        self.model = build_model(
            spec.model.config,
            vocab_size=self.corpus.vocab_size,
            context=training.context,
            seed=stream_seed(spec.seed, WEIGHTS),
            end_of_text=self.corpus.end_of_text,
        ).to(self.device)
        self.sequence_flops = sequence_flops(self.model, training.context)  # while the model is whole
        self.mixer = start_mixer(spec, self.corpus, self.inputs, self.model)
        held_out = held_out_of(spec, self.mixer, self.corpus)
        self.train_step = TrainStep(
            self.model,
            spec.model,
            training,
            domains=len(spec.domains),
            needs=self.mixer.needs,
            clock=self.clock,
            seed=spec.seed,
            reference=reference_of(spec, self.mixer, self.corpus, self.inputs, self.device),
            held_out=held_out,
            adapters=adapter_losses_of(spec, self.mixer, self.corpus, self.model, held_out, sharded=self.sharded),
            sharded=self.sharded,
        )
        self.sampler = Sampler(
            self.corpus, seed=spec.seed, batch=training.batch, context=training.context, draw=training.draw
        )
        self.state_folder = self.folder / "state"
        self.diverged: dict[str, Any] | None = None  # what was no number, and in which step

    def run(self) -> str:
        """Train to the horizon and write the run's tables, weights and, last, its manifest. Returns the status.

        A run that diverges says in its manifest where; the checkpoints before that stay, so that it can be looked at again.

        Raises:
            UserError: another process trains in this folder, it cannot be written, or its checkpoint does not fit.
            Interrupted: SIGTERM, SIGINT or SIGHUP; a checkpoint was written.
        """
        fix = "make room, or mend the folder's rights, and run the same command: it continues from the last checkpoint"
        with writable(self.folder, fix=fix), Stop() as stop, ExitStack() as held:
            if self.leads:
                held.enter_context(exclusive(self.state_folder, "training this run"))
                clear_leftovers(self.folder)
            first = self._resume()
            if self.leads:
                held.enter_context(closing(self.journal))
                self.progress = held.enter_context(Progress(self.spec, first))
            status = self._loop(first, stop)
            if status == "finished":
                self._record(_evaluator(self.spec, self.corpus, "test"), self.spec.training.steps)
            self._finish(status)
        return status

    def _loop(self, first: int, stop: Stop) -> str:
        training, lap = self.spec.training, self.clock.lap
        evaluator = _evaluator(self.spec, self.corpus, "valid")
        snapshots = self.spec.evaluation.snapshot_steps(training.steps)
        if first == 0:
            self._record(evaluator, 0)
            self._snapshot(0, snapshots)
        for step in range(first, training.steps):
            taken = mixed_step(self.mixer, self.sampler, self.train_step, step, name=self.spec.mixer)
            done = step + 1
            if not taken.result.finite():
                self.diverged = evidence_of(done, taken)
                return "diverged"
            if self.leads:
                self._write_down(done, taken)
                if step == first:
                    self.mixer.state_dict()  # found now, not at the first checkpoint, if it cannot be saved
            if (done % self.spec.evaluation.every == 0 or done == training.steps) and not self._record(evaluator, done):
                return "diverged"
            self._snapshot(done, snapshots)  # before the checkpoint, which no run continues from without them
            stopping = on_any_rank(stop.requested)
            if done % training.checkpoint_every == 0 or done == training.steps or stopping:
                with lap("checkpoint"):
                    self._save(done)
            if stopping:
                message = f"stopped at step {done} of {training.steps}; run the same command to continue"
                raise Interrupted(message, stop.status)
        return "finished"

    def _write_down(self, done: int, taken: MixedStep) -> None:
        """The step's line in the journal."""
        training, result, mixture_K = self.spec.training, taken.result, taken.decision.mixture_K
        found = self.mixer.diagnostics()
        self.journal.append(
            "step",
            step=done,
            tokens=done * training.batch * training.context,
            requested=mixture_K,
            drawn=taken.batch.counts_K / training.batch,
            loss=result.loss,
            grad_norm=result.grad_norm,
            lr=result.lr,
            domain_loss=result.signals[Signal.LOSS],
            diagnostics={name: value for name, value in found.items() if not np.ndim(value)},
            signals=kept(taken.stats, found),
        )
        self.progress.step(done, result.loss, mixture_K)

    def _record(self, evaluator: Evaluator, done: int) -> bool:
        """Evaluate and write down; whether every domain's loss is a number."""
        with self.clock.lap("evaluation"):
            scores: Evaluation = evaluator(self.model, self.train_step.autocast())
        training = self.spec.training
        if self.leads:
            self.journal.append(
                "evaluation",
                split=evaluator.split,
                step=done,
                tokens=done * training.batch * training.context,
                loss=scores.loss_K,
                bits_per_byte=scores.bits_per_byte_K,
            )
            self.progress.evaluation(evaluator.split, done, scores.loss_K)
        finite = bool(np.isfinite(scores.loss_K).all())
        if not finite:
            self.diverged = {"step": done, "split": evaluator.split, "loss": [str(loss) for loss in scores.loss_K]}
        return finite

    def _snapshot(self, done: int, snapshots: frozenset[int]) -> None:
        if done in snapshots:
            with self.clock.lap("checkpoint"):
                save_weights(self.folder / snapshot_name(done), self.model)

    def _save(self, done: int) -> None:
        state = {
            "spec": self.spec.digest,
            "step": done,
            "model": self.model.state_dict(),
            "optimiser": self.train_step.optimiser.state_dict(),
            "drawn": self.sampler.drawn_K,
            "mixer": self.mixer.state_dict(),
            "random": random_state.states(self.train_step.device),
            "journal": self.journal.offset() if self.leads else 0,
            "seconds": dict(self.clock.seconds),
            "joules": self._joules(),
            "signal_flops": self.train_step.signal_flops,
        }
        checkpoint.save(self.state_folder, done, state)

    def _resume(self) -> int:
        state = checkpoint.load_latest(self.state_folder)
        random_state.begin(self.spec.seed)
        if state is None:
            self._open_journal(0)
            return 0
        with checkpoint.readable_mismatch(self.state_folder):
            if state.get("spec", self.spec.digest) != self.spec.digest:
                raise ValueError("its spec.json was another one")
            load(self.model, self.train_step.optimiser, state["model"], state["optimiser"])
            self.sampler.drawn_K[:] = state["drawn"]
            self.mixer.load_state_dict(state["mixer"])
            random_state.restore(state["random"], self.train_step.device)
            self.clock.seconds.update(state["seconds"])
            self.meter.resume(state.get("joules") if self.leads else 0.0)
            self.train_step.signal_flops = state["signal_flops"]
            self._open_journal(state["journal"])
            return state["step"]

    def _open_journal(self, offset: int) -> None:
        if self.leads:
            self.journal = Journal(self.state_folder / "journal.jsonl", offset, self.spec.digest)

    def _joules(self) -> float | None:
        """Of the devices of all ranks; None where one has no meter."""
        mine = self.meter.joules()
        joules = float(sum_over_ranks(torch.tensor(math.nan if mine is None else mine, dtype=torch.float64)))
        return None if math.isnan(joules) else joules

    def _finish(self, status: str) -> None:
        spec, joules = self.spec, self._joules()
        save_weights(self.folder / "weights.safetensors", self.model)
        if not self.leads:
            return
        paths = self.journal.write_tables(self.folder, spec.run, spec.domains, tuple(spec.groups or ()))
        steps = sum(line["kind"] == "step" for line in self.journal.lines())
        self.model.config.save_pretrained(self.folder)
        names = ["config.json", "weights.safetensors", *(path.name for path in paths)]
        names += sorted(str(path.relative_to(self.folder)) for path in self.folder.glob("snapshots/*.safetensors"))
        written = checksums(self.folder, names)
        saved = self.mixer.save(self.folder) or ()
        fix = "the mixer's `save` writes into the folder that it is given, and nowhere else; run the same command again"
        verify(self.folder, written, fix=fix)
        parameters = sum(p.numel() for p in self.model.parameters())
        manifest: dict[str, Any] = {
            "protocol": spec.protocol,
            "run": spec.run,
            "status": status,
            "diverged": self.diverged,
            "steps": steps,
            "tokens": steps * spec.training.batch * spec.training.context,
            "parameters": parameters,
            "parameters_non_embedding": non_embedding_parameters(self.model),
            "model_flops": steps * spec.training.batch * self.sequence_flops,
            "method_flops": self.train_step.signal_flops,
            "precision": resolve_precision(spec.training.precision, torch.device(self.device)),
            "seconds": dict(self.clock.seconds),
            "joules": joules,
            "ranks": ranks(),
            "memory": provenance.peak_memory(self.device),
            "spec": spec.model_dump(mode="json"),
            "inputs": {
                role: str(path) if isinstance(path, Path) else list(map(str, path))
                for role, path in self.inputs.items()
            },
            "corpus": self.corpus.digest,
            "code": self.code,
            "environment": provenance.environment(),
            "hardware": provenance.hardware(self.device),
            "artefacts": written | checksums(self.folder, saved),
        }
        write_json(self.folder / "manifest.json", manifest)


def _evaluator(spec: RunSpec, corpus: Corpus, split: str) -> Evaluator:
    """The evaluation on ``split``, ``valid`` or ``test``, that all runs share."""
    sequences = getattr(spec.evaluation, f"{split}_sequences")
    return Evaluator(corpus, split, sequences=sequences, context=spec.training.context, rows=rows(spec))


def evidence_of(done: int, taken: MixedStep) -> dict[str, Any]:
    """What a manifest keeps of the step in which a run diverged. Numbers that may be none are text: JSON has no NaN."""
    result, requested = taken.result, taken.decision.mixture_K.tolist()
    norms = {s: str(value) for s, value in result.signals.items() if s.info.source is Source.WEIGHTS}
    measured = {"loss": str(result.loss), "grad_norm": str(result.grad_norm), **norms}
    return {"step": done, **measured, "requested": requested, "sequences": taken.batch.counts_K.tolist()}


def snapshot_name(step: int) -> str:
    """Where a run's folder holds the weights as they were after ``step`` steps."""
    return f"snapshots/step-{step:06d}.safetensors"
