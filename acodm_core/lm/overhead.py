"""What a mixer costs: time in interleaved blocks on one shared model, peak memory in processes of their own.

All arms train the same model in turn, so they differ only in what the mixer asks for. Each block runs every arm once, in a new
random order and then in its reverse, so that neither a drift of the machine nor a neighbour favours one.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.files import read_json
from acodm_core.lm.mixed_step import mixed_step
from acodm_core.lm.model import build_model
from acodm_core.lm.run.setup import held_out_of, reference_of, start_mixer
from acodm_core.lm.signals.adapters import adapter_losses_of
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS
from acodm_core.lm.step import TrainStep
from acodm_core.measure import provenance
from acodm_core.measure.clock import Clock
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.mixing import Inputs, Mixer, Signal, StepStats
from acodm_core.results.schemas import MEMORY_COLUMNS, PROBE_COLUMNS
from acodm_core.study.config import ProbeConfig
from acodm_core.study.planner import Plan, RunSpec

PLAIN = "plain"  # an arm beside the methods: the step as it is
GRADIENTS = "gradients"  # another: the step with all the per-domain gradients' signals that any method asks for, unused
PARTS = ("data", "forward", "backward", "optimiser", "signals", "mixer")
SHOWN = 64  # steps that mixers are shown beside those that are trained: more than any fills a buffer with


class Arms:
    """One model and optimiser, trained in turn by several mixers.

    Args:
        specs: arm -> spec; all of the same model and recipe. The arm "plain" draws uniformly and asks for nothing.
        inputs: arm -> role -> folder or folders, for mixers that need another run.
    """

    def __init__(self, specs: Mapping[str, RunSpec], corpus: Corpus, inputs: Mapping[str, Inputs], device: str) -> None:
        spec = next(iter(specs.values()))
        training = spec.training
        corpus.require_context(training.context)
        self.clock, self.context, self.domains = Clock(), training.context, len(corpus.domains)
        self.taken: Counter[str] = Counter()  # arm -> steps
        self.seen: dict[str, dict[Signal, np.ndarray]] = defaultdict(dict)  # arm -> what its mixer was shown last
        model = build_model(spec.model.config, vocab_size=corpus.vocab_size, context=training.context, seed=0)
        model = model.to(device)
        self.mixers: dict[str, Mixer] = {a: start_mixer(s, corpus, inputs.get(a, {}), model) for a, s in specs.items()}
        self.horizons = {a: s.training.steps for a, s in specs.items()} | {GRADIENTS: training.steps}
        needs = frozenset().union(*(m.needs for m in self.mixers.values()))
        self.gradients = needs & GRADIENT_SIGNALS
        if self.gradients:
            self.mixers[GRADIENTS] = start_mixer(plain_arm(spec), corpus, {}, model)
        self.references = {
            arm: reference_of(spec, self.mixers[arm], corpus, inputs.get(arm, {}), device)
            for arm, spec in specs.items()
        }
        self.held_out = {arm: held_out_of(spec, mixer, corpus) for arm, mixer in self.mixers.items()}
        self.adapters = {
            arm: adapter_losses_of(spec, mixer, corpus, model, self.held_out[arm], sharded=False)
            for arm, mixer in self.mixers.items()
        }
        self.train_step = TrainStep(
            model,
            spec.model,
            training,
            domains=self.domains,
            needs=needs,
            clock=self.clock,
            held_out=next(filter(None, self.held_out.values()), None),
        )
        self.sampler = Sampler(corpus, seed=0, batch=training.batch, context=training.context, draw=training.draw)

    def block(self, arm: str, steps: int) -> dict[str, float]:
        """Run ``steps`` steps of ``arm``; mean seconds a step, the whole and its parts."""
        always = self.gradients if arm == GRADIENTS else frozenset()
        tools = self.train_step.tools
        tools.reference, tools.held_out = self.references.get(arm), self.held_out[arm]
        tools.adapters = self.adapters[arm]
        self.clock.seconds.clear()
        hidden = tools.gradients.seconds if tools.gradients else Counter()
        self._synchronise()
        start = time.perf_counter()
        for _ in range(steps):
            step = self.taken[arm] % self.horizons[arm]  # a mixer sees its own steps, and none past its horizon
            taken = mixed_step(self.mixers[arm], self.sampler, self.train_step, step, name=arm, also=always)
            self.seen[arm] |= taken.stats or {}
            self.taken[arm] += 1
        self._synchronise()
        found = {"step": time.perf_counter() - start, **self.clock.seconds}
        if tools.gradients:  # their extra work happens inside the passes
            for part, inside in (tools.gradients.seconds - hidden).items():
                found[part] -= inside
                found["signals"] += inside
        return {part: seconds / steps for part, seconds in found.items() if part in ("step", *PARTS)}

    def acquaint(self, arm: str) -> None:
        """Show the mixer what it saw last, with noise, as if of ``SHOWN`` more steps, or half its run where that is less.

        An agent learns only when its buffer is full, and until then the probe would time its waiting.
        """
        mixer, rng = self.mixers[arm], np.random.default_rng(0)
        tokens_K = np.full(self.domains, self.context)
        for _ in range(min(SHOWN, self.horizons[arm] // 2)):
            step = self.taken[arm] % self.horizons[arm]
            mixer.sampling_weights(step)
            wants = mixer.wants(step)
            if not wants <= self.seen[arm].keys():  # it asks for something so rarely that warming up did not measure it
                return
            noisy = {signal: self.seen[arm][signal] * rng.uniform(0.9, 1.1) for signal in wants}
            mixer.observe(StepStats(step, tokens_K, noisy))
            self.taken[arm] += 1

    def _synchronise(self) -> None:
        if self.train_step.device.type == "cuda":
            torch.cuda.synchronize()


def specs_by_model(plan: Plan) -> dict[str, dict[str, RunSpec]]:
    """Model -> (arm -> spec): the methods that train it, and the plain arm first."""
    grouped: dict[str, dict[str, RunSpec]] = {}
    for (method, model), run in plan.probed().items():
        spec = plan.runs[run]
        grouped.setdefault(model, {PLAIN: plain_arm(spec)})[method] = spec
    return grouped


def plain_arm(spec: RunSpec) -> RunSpec:
    """``spec`` with a mixer that decides nothing and asks for nothing."""
    return spec.model_copy(update={"method": PLAIN, "mixer": "uniform", "options": {}, "inputs": {}, "groups": None})


def probe_time(plan: Plan, corpus: Corpus, runs: Path, config: ProbeConfig, device: str) -> pd.DataFrame:
    """PROBE_COLUMNS rows: every method against plain, block by block."""
    rows: list[dict[str, Any]] = []
    told = Told(sum(len(specs) + config.blocks for specs in specs_by_model(plan).values()), "probe")
    for model, specs in specs_by_model(plan).items():
        inputs = {arm: spec.input_folders(runs) for arm, spec in specs.items()}
        arms = Arms(specs, corpus, inputs, device)
        for arm in arms.mixers:
            arms.block(arm, config.warmup)
            arms.acquaint(arm)
            if arm in specs:
                told.tick(f"warming up {arm}, {model}")
        rng, order = np.random.default_rng(0), []
        for block in range(config.blocks):
            order = order[::-1] if block % 2 else list(rng.permutation(list(arms.mixers)))
            for arm, parts in {arm: arms.block(arm, config.steps) for arm in order}.items():
                shared = arm in (PLAIN, GRADIENTS)  # stands beside every method: each row has its own comparison
                for method in [m for m in specs if m != PLAIN] if shared else [arm]:
                    at = {"method": method, "model": model, "block": block, "arm": arm if shared else "method"}
                    rows += [at | {"part": part, "seconds": seconds} for part, seconds in parts.items()]
            told.tick(f"time, {model}")
    return _frame(rows, PROBE_COLUMNS, device)


def probe_memory(
    plan: Plan, corpus_folder: Path, runs: Path, config: ProbeConfig, device: str, jobs: int
) -> pd.DataFrame:
    """MEMORY_COLUMNS rows: peaks of fresh processes that each train a few steps of one arm."""

    def measure(model: str, arm: str, spec: RunSpec, repeat: int) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder) / "spec.json", Path(folder) / "memory.json"
            path.write_text(spec.model_dump_json(), encoding="utf-8")
            inputs = [f"--input={role}={runs / run}" for role, run in spec.needed()]
            command = [sys.executable, "-m", "acodm_core.cli", "probe-memory", str(path), f"--corpus={corpus_folder}"]
            subprocess.run(
                [*command, f"--out={out}", f"--device={device}", f"--steps={config.warmup}", *inputs], check=True
            )
            peaks = read_json(out)
        told.tick(f"memory of {arm}, {model}")
        methods = [m for m in grouped[model] if m != PLAIN] if arm == PLAIN else [arm]
        label = PLAIN if arm == PLAIN else "method"
        return [{"method": m, "model": model, "repeat": repeat, "arm": label, **peaks} for m in methods]

    grouped = specs_by_model(plan)
    told = Told(config.memory_repeats * sum(map(len, grouped.values())), "probe of memory")
    with ThreadPoolExecutor(jobs if device == "cpu" else 1) as pool, _cancelled_at_an_error(pool):
        futures = [
            pool.submit(measure, model, arm, spec, repeat)
            for repeat in range(config.memory_repeats)
            for model, specs in grouped.items()
            for arm, spec in specs.items()
        ]
        rows = [row for future in futures for row in future.result()]
    return _frame(rows, MEMORY_COLUMNS, device)


class Told:
    """A plain line on stderr for each of ``total`` measurements that is done."""

    def __init__(self, total: int, of: str) -> None:
        self.total, self.of, self._counted = total, of, itertools.count(1)

    def tick(self, what: str) -> None:
        print(f"{self.of}: {next(self._counted)}/{self.total}  {what}", file=sys.stderr, flush=True)


@contextmanager
def _cancelled_at_an_error(pool: ThreadPoolExecutor) -> Iterator[None]:
    """What has not begun never begins: else an error, or Ctrl-C, would wait for all of it."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _frame(rows: list[dict[str, Any]], columns: Sequence[str], device: str) -> pd.DataFrame:
    """The rows, each with the machine that they were measured on."""
    hardware = provenance.hardware_name(provenance.hardware(device))
    return pd.DataFrame(rows, columns=list(columns)).assign(hardware=hardware)


def memory_of(spec: RunSpec, corpus: Corpus, inputs: Inputs, device: str, steps: int) -> dict[str, int]:
    """Peak bytes of this process after training ``steps`` steps of ``spec``, and showing its mixer more."""
    arms = Arms({spec.method: spec}, corpus, {spec.method: inputs}, device)
    arms.block(spec.method, steps)
    arms.acquaint(spec.method)
    return provenance.peak_memory(device)


def summary(frame: pd.DataFrame) -> list[str]:
    """One line a method: milliseconds a step, and its ratio to the plain step with a 95 % interval; the gradients' signals too."""
    lines: list[str] = []
    steps, seen = frame[frame.part == "step"], set()
    for (model, method), rows in steps.groupby(["model", "method"], sort=False):
        block = rows.pivot(index="block", columns="arm", values="seconds")
        first = model not in seen and GRADIENTS in block
        seen.add(model)
        for arm, name in [*([(GRADIENTS, "per-domain gradients alone")] if first else []), ("method", method)]:
            ratio, low, high = ratio_of_medians(block[arm].to_numpy(), block[PLAIN].to_numpy())
            lines.append(
                f"{model}  {name}: {block[arm].median() * 1e3:.1f} ms a step, {ratio:.4f} of plain [{low:.4f}, {high:.4f}]"
            )
    return lines
