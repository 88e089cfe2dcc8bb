"""``acodm plan``: counts, times and sums up what an experiment will cost. Needs no corpus, no network and no finished run.

Mixers are asked what they want at each step: they are started with made-up runs in the place of their inputs, as the contract's
checks do, and what they compute themselves is timed on made-up signals.
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from acodm_core.contract import case
from acodm_core.data.corpus import Corpus
from acodm_core.data.manifest import MANIFEST
from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Adapters, Signal
from acodm_core.planning import estimate
from acodm_core.planning import operation_counts as counting
from acodm_core.planning.estimate import Counts, Estimate, Noise
from acodm_core.planning.timing import OWN_PASSES, TOO_SLOW_SECONDS, Pace, first_guess, pace
from acodm_core.study.config import Experiment, ModelConfig
from acodm_core.study.planner import Plan, RunSpec

WARM, TIMED = 40, 10  # made-up steps of a mixer: the first 40, in which agents only collect, are not timed

STAND_IN_SECONDS = 2.0  # of a step on one sequence, by the first guess, that a shape is extrapolated from


@dataclass(frozen=True)
class Asks:
    """What one run's mixer asks for and costs by itself."""

    needs: frozenset[Signal]
    wants: counting.Wants
    state_bytes: int
    saved_bytes: int  # what it leaves for later runs
    seconds: float  # a step, of its own computing
    adapters: Adapters | None = None  # what it names for ADAPTER_LOSS


class Estimator:
    """Estimates ``planned``, the plan of ``experiment``."""

    def __init__(self, experiment: Experiment, planned: Plan) -> None:
        self.experiment, self.plan = experiment, planned
        self.notes: list[str] = []
        self._passes: dict[str, counting.Passes] = {}
        self.run_of = {name: runs[0] for name, runs in planned.alike().items()}  # "METHOD", or "METHOD to N" steps

    def estimate(self, *, probe: bool, rate: float | None, device: str, noise: Noise | None) -> Estimate:
        """The whole estimate.

        Args:
            probe: time each model shape on ``device``.
            rate: FLOP a second to divide by instead; None: a probe or no seconds.
        """
        counts = self.counts
        if rate:
            flops = {m: c.model_flops + c.method_flops + c.evaluation_flops for m, c in counts.items()}
            seconds = {method: one / rate for method, one in flops.items()}
            self.notes.append(f"Hours: FLOPs over the given {rate:.3g} a second; mixers' own computing is not in them.")
        else:
            seconds = self.seconds(device) if probe else {}
        seeds = len(self.experiment.seeds)
        return Estimate(
            experiment=self.experiment.experiment,
            rows=estimate.table(self.plan, counts, seconds),
            corpus_bytes=self.corpus_bytes(),
            seeds=seeds,
            detectable=estimate.detectable(seeds, noise),
            noise=noise,
            jobs=estimate.jobs(self.experiment),
            notes=tuple(self.notes),
        )

    @cached_property
    def counts(self) -> dict[str, Counts]:
        """Method -> what one of its runs does."""
        return {method: self._count(run, self.asks[method]) for method, run in self.run_of.items()}

    def _count(self, run: str, asks: Asks) -> Counts:
        spec = self.plan.runs[run]
        return counting.counts(
            spec,
            vocabulary=self.vocabulary,
            own=self.passes(spec),
            method_flops=self._extra_flops(spec, asks, asks.needs, asks.wants),
            state_bytes=asks.state_bytes,
            saved_bytes=asks.saved_bytes,
        )

    def _extra_flops(self, spec: RunSpec, asks: Asks, needs: frozenset[Signal], wants: counting.Wants) -> int:
        reference = next((self.plan.runs[one] for role, one in spec.needed() if role == "reference"), None)
        return counting.extra_flops(
            spec, needs, wants, vocabulary=self.vocabulary, own=self.passes(spec),
            reference=self.passes(reference) if reference else None, adapters=asks.adapters,
        )  # fmt: skip

    def passes(self, spec: RunSpec) -> counting.Passes:
        if spec.model_name not in self._passes:
            self._passes[spec.model_name] = counting.passes(
                spec.model, context=spec.training.context, vocabulary=self.vocabulary
            )
        return self._passes[spec.model_name]

    @cached_property
    def asks(self) -> dict[str, Asks]:
        """Method -> what its mixer asks for."""
        return {method: self._asks(run) for method, run in self.run_of.items()}

    def _asks(self, run: str) -> Asks:
        import torch

        spec, buffer = self.plan.runs[run], io.BytesIO()
        domains = tuple(spec.groups or spec.domains)
        needs = build_mixer(spec.mixer, spec.options).needs
        every_step = Counter({needs: spec.training.steps})
        if not needs and not spec.inputs:
            return Asks(needs, every_step, 0, 0, 0.0)
        made_up = case.case_of_run(self.plan.runs, run)
        try:
            mixer = case.start(made_up, domains, steps=spec.training.steps)
            wants = Counter(mixer.wants(step) for step in range(spec.training.steps))
            short = case.start(made_up, domains, steps=WARM + TIMED)
            case.run(short, range(WARM), domains)
            began = time.perf_counter()
            case.run(short, range(WARM, WARM + TIMED), domains)
            seconds = (time.perf_counter() - began) / TIMED
        except (UserError, ValueError, KeyError) as error:  # a mixer that reads more of its inputs than is made up
            self.notes.append(f"{spec.method}: counted as if it measured all it needs at every step ({error}).")
            return Asks(needs, every_step, 0, 0, 0.0)
        torch.save(short.state_dict(), buffer)
        with TemporaryDirectory() as folder:
            short.save(Path(folder))
            saved = sum(path.stat().st_size for path in Path(folder).iterdir())
        return Asks(needs, wants, len(buffer.getvalue()), saved, seconds, mixer.adapters())

    # --- seconds ---

    def seconds(self, device: str) -> dict[str, float]:
        """Method -> seconds of one of its runs on this machine, from a probe of each shape that fits."""
        paces, rates = self.paces(device)
        found = {}
        for method, run in self.run_of.items():
            spec, asks, count = self.plan.runs[run], self.asks[method], self.counts[method]
            own = asks.seconds * spec.training.steps
            known = paces.get(spec.model_name)
            if known is None:
                flops = count.model_flops + count.method_flops + count.evaluation_flops
                found[method] = flops / rates + own
                continue
            measured = sum(
                steps * known.extra_seconds.get(asked - OWN_PASSES, 0.0) for asked, steps in asks.wants.items()
            )
            forward = count.evaluation_flops + self._forward_flops(spec, asks)
            step = spec.training.steps * known.step_seconds
            found[method] = step + measured + forward / known.forward_flops_per_second + own
        return found

    def _forward_flops(self, spec: RunSpec, asks: Asks) -> int:
        """Operations of the passes of their own that the mixer has measured."""
        wants = Counter()
        for asked, steps in asks.wants.items():
            wants[asked & OWN_PASSES] += steps
        return self._extra_flops(spec, asks, asks.needs & OWN_PASSES, wants)

    def paces(self, device: str) -> tuple[dict[str, Pace], float]:
        """Model -> its pace, of those that this machine trains; and the FLOP a second of the largest shape that it does."""
        from rich.console import Console
        from rich.progress import Progress

        training = self.experiment.training
        specs = {self.plan.runs[run].model_name: self.plan.runs[run] for run in self.run_of.values()}
        asked = {
            model: {one for m, r in self.run_of.items() if self.plan.runs[r].model_name == model
                    for one in self.asks[m].wants}
            for model in specs
        }  # fmt: skip
        by_size = sorted(specs, key=lambda model: self.passes(specs[model]).both)
        paces: dict[str, Pace] = {}
        rate = first_guess()
        with Progress(console=Console(file=sys.stderr), transient=True) as bar:
            total = sum(1 + len({one - OWN_PASSES for one in asked[model]} - {frozenset()}) for model in by_size)
            task = bar.add_task("Timing steps", total=total)
            for model in by_size:
                size, spec = self.passes(specs[model]), specs[model]
                step_flops = training.batch * size.both
                if step_flops / rate > TOO_SLOW_SECONDS or not self._fits(spec, device):
                    continue
                bar.update(task, description=f"Timing {model}")
                paces[model] = pace(
                    spec.model, training, domains=len(spec.domains), vocabulary=self.vocabulary, asked=asked[model],
                    step_flops=step_flops, forward_flops=size.forward, device=device,
                    tick=lambda: bar.advance(task),
                )  # fmt: skip
                rate = paces[model].flops_per_second
        timed = ", ".join(f"{model} {one.step_seconds:.3g} s ({one.steps} steps)" for model, one in paces.items())
        if timed:
            self.notes.append(
                f"Hours: steps timed here on {device} with random tokens, {timed}; with mixers' own computing and"
                " evaluations, without building the corpus, starting programs, downstream tasks and the overhead probe."
            )
        if missing := [model for model in by_size if model not in paces]:
            name = by_size[len(paces) - 1] if paces else ""
            if not paces:
                name, rate = self._stand_in(rate, device)
            self.notes.append(
                f"Extrapolated: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} too large to try here; hours are"
                f" FLOPs over the {rate:.3g} FLOP a second of {name}, the largest shape that was timed. On the device that it"
                " is meant for: --rate FLOPS."
            )
        return paces, rate

    def _stand_in(self, rate: float, device: str) -> tuple[str, float]:
        """Name and FLOP a second of the largest model of the catalogue that trains one sequence in a few seconds here."""
        training = self.experiment.training.model_copy(update={"batch": 1, "micro_batch": None})

        def operations(config: ModelConfig) -> float:  # roughly: to choose by
            width, layers = (counting.size_of(config.config, name) for name in ("hidden_size", "num_hidden_layers"))
            return 6 * training.context * (12 * layers * width**2 + self.vocabulary * width)

        sizes = {name: operations(config) for name, config in self.experiment.models.items()}
        quick = {name: size for name, size in sizes.items() if size / rate < STAND_IN_SECONDS}
        name = max(quick, key=quick.__getitem__) if quick else min(sizes, key=sizes.__getitem__)
        config = self.experiment.models[name]
        size = counting.passes(config, context=training.context, vocabulary=self.vocabulary)
        found = pace(
            config, training, domains=len(self.experiment.corpus.domains), vocabulary=self.vocabulary, asked=(),
            step_flops=size.both, forward_flops=size.forward, device=device, budget_seconds=3.0,
        )  # fmt: skip
        return f"{name} on one sequence", found.flops_per_second

    def _fits(self, spec: RunSpec, device: str) -> bool:
        import torch

        free = torch.cuda.mem_get_info()[0] if device.startswith("cuda") else psutil.virtual_memory().available
        method = next(m for m, r in self.run_of.items() if self.plan.runs[r].model_name == spec.model_name)
        return self.counts[method].memory_bytes < 0.8 * free

    # --- the corpus ---

    @cached_property
    def corpus(self) -> Corpus | None:
        """The corpus, where it is built already."""
        folder = Path("data/corpora") / self.experiment.corpus.id
        return Corpus.open(folder) if (folder / MANIFEST).is_file() else None

    @cached_property
    def vocabulary(self) -> int:
        """Tokens in the vocabulary; of a tokenizer that only its name is known of, what transformers has for the target's type."""
        if self.corpus:
            return self.corpus.vocab_size
        tokenizer = self.experiment.corpus.tokenizer
        if hasattr(tokenizer, "vocab_size"):
            return tokenizer.vocab_size
        from transformers import AutoConfig

        kind = self.experiment.models[self.experiment.roles["target"]].config["model_type"]
        size = AutoConfig.for_model(kind).vocab_size
        self.notes.append(f"Vocabulary: {tokenizer.name} is not looked up; {size:,} as transformers has for {kind}.")
        return size

    def corpus_bytes(self) -> int | None:
        """Documents and tokens on disk, where they lie there; None where the corpus is not built."""
        if self.corpus is None:
            self.notes.append("Disk: the corpus is not built yet, and not in it.")
            return None
        return sum(path.stat().st_size for path in self.corpus.folder.rglob("*") if path.is_file())
