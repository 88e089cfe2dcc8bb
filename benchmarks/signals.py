"""What per-domain gradients cost a training step: the ways to get them, side by side on one model and random tokens.

    python benchmarks/signals.py                                        # all shapes and ways: hours on a CPU
    python benchmarks/signals.py --shapes cpu-mini --domains 8          # minutes
    python benchmarks/signals.py --shapes pythia-160m --domains 22 --arms plain sketch agent --steps 1

Ways (the first is what the others are compared to):
    plain      the training step as it is
    exact      GRAD_GRAM: the backward pass splits the weight gradients by domain
    sketch     GRAD_SKETCH: random projections of both factors of the weight gradients
    agent      AC-ODM with its default options: its signals (from sketches) and its networks
    backwards  a backward pass a domain down to the probed layers, then the one that trains
    release    a micro-batch a domain; differences of the accumulated gradients go into a K x P matrix on the host, as in
               AC-ODM's released code (arXiv 2505.23878; release at e95863e)

All ways train the same model in blocks of a few steps, each block in a new random order and the next in its reverse. Printed:
median milliseconds a step, ratio of medians to plain with its 95 % bootstrap interval, time inside signals and agent by
component timers in percent of the plain step (plain's own share is the losses by domain), and the peak memory of fresh processes
for each way, the median of some, because the heap's peak differs by a percent from one to the next. The two slow ways run
--slow-blocks only; the column n says how many blocks a row stands on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from side_by_side import peak_of_fresh_process, print_peak, synchronise

from acodm_core.data.sampler import Batch
from acodm_core.lm.kernels.device import prepare
from acodm_core.lm.kernels.fused_loss import weighted_loss
from acodm_core.lm.model import build_model, matching_layers
from acodm_core.lm.step import TrainStep
from acodm_core.measure import provenance
from acodm_core.measure.clock import Clock
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Signal, Start, StepStats
from acodm_core.settings.yaml_files import shipped
from acodm_core.study.config import CORE, ModelConfig, TrainingConfig

ARMS = ("plain", "exact", "sketch", "agent", "backwards", "release")
SLOW = ("backwards", "release")
SHAPES = ("cpu-mini", "pythia-31m", "pythia-70m", "pythia-160m")
VOCABULARY = {"cpu-mini": 4096}  # Pythia's own elsewhere
PYTHIA_VOCABULARY = 50304
AGENT_WARMUP = 32  # transitions that the agent has before it is timed, so that it learns at every step


class Ways:
    """One model and optimiser, trained in turn by every way; ``self.seconds`` collects what the component timers say."""

    def __init__(self, shape: str, domains: int, options: argparse.Namespace) -> None:
        catalogue = ModelConfig.model_validate(shipped(CORE / "lm" / "models.yaml")[shape])
        self.recipe = TrainingConfig(
            steps=100_000, batch=options.batch, context=options.context, precision=options.precision
        )
        self.vocabulary = VOCABULARY.get(shape, PYTHIA_VOCABULARY)
        self.domains, self.clock, self.step = domains, Clock(), 0
        self.rng = np.random.default_rng(0)
        self.counts_K = np.array([len(part) for part in np.array_split(np.arange(options.batch), domains)])
        self.model = build_model(catalogue.config, vocab_size=self.vocabulary, context=options.context, seed=0)
        self.model.to(options.device)
        self.mixer = build_mixer("acodm_core.acodm", {})
        mixture_K = np.full(domains, 1 / domains)
        names = tuple(f"domain {k}" for k in range(domains))
        self.mixer.start(
            Start(
                domains=names,
                prior=mixture_K,
                tokens_available=mixture_K * 1e9,
                total_steps=1000,
                rng=np.random.default_rng(0),
            )
        )

        def train_step(needs: frozenset[Signal], gram: str) -> TrainStep:
            config = catalogue.model_copy(update={"gram": gram})
            return TrainStep(self.model, config, self.recipe, domains=domains, needs=needs, clock=self.clock)

        self.sketched = train_step(self.mixer.needs | {Signal.GRAD_SKETCH}, "sketch")
        self.exact = train_step(frozenset({Signal.GRAD_GRAM}), "exact")
        self.exact.optimiser = self.optimiser = self.sketched.optimiser
        layers = matching_layers(self.model, catalogue.gradient_layers, where=shape)
        self.probed = [layer.weight for layer in layers]

    def run(self, arm: str) -> None:
        """One step of ``arm`` on fresh tokens."""
        shape = (self.recipe.batch, self.recipe.context + 1)
        batch = Batch(self.rng.integers(0, self.vocabulary, shape), self.counts_K)
        {
            "plain": lambda: self.sketched.step(batch, self.step, frozenset()),
            "exact": lambda: self.exact.step(batch, self.step, {Signal.GRAD_GRAM}),
            "sketch": lambda: self.sketched.step(batch, self.step, {Signal.GRAD_SKETCH}),
            "agent": lambda: self._agent(batch),
            "backwards": lambda: self._backwards(batch),
            "release": lambda: self._release(batch),
        }[arm]()
        self.step += 1

    def components(self) -> dict[str, float]:
        """Seconds so far of signals, inside and after the backward pass, and of the agent."""
        inside = (self.sketched.tools.gradients.seconds + self.exact.tools.gradients.seconds).total()
        return {"signals": self.clock.seconds["signals"] + inside, "agent": self.clock.seconds["mixer"]}

    def fill_agent(self) -> None:
        """Give the agent what it needs to learn, by showing it one step's signals with noise again and again."""
        batch = Batch(
            self.rng.integers(0, self.vocabulary, (self.recipe.batch, self.recipe.context + 1)), self.counts_K
        )
        signals = self.sketched.step(batch, self.step, self.mixer.needs).signals
        for step in range(AGENT_WARMUP):
            noisy = {s: v * self.rng.uniform(0.9, 1.1) for s, v in signals.items() if s in self.mixer.needs}
            self.mixer.sampling_weights(step)
            self.mixer.observe(StepStats(step, self.counts_K * self.recipe.context, noisy))
        self.step = AGENT_WARMUP

    def _agent(self, batch: Batch) -> None:
        with self.clock.lap("mixer"):
            self.mixer.sampling_weights(self.step)  # the batch stays the same for every way
            wants = self.mixer.wants(self.step)
        signals = self.sketched.step(batch, self.step, wants).signals
        with self.clock.lap("mixer"):
            wanted = {s: v for s, v in signals.items() if s in wants}
            self.mixer.observe(StepStats(self.step, self.counts_K * self.recipe.context, wanted))

    def _backwards(self, batch: Batch) -> None:
        tokens_BS = torch.from_numpy(batch.tokens_BS).to(self.sketched.device)
        with self.sketched.autocast():
            logits_BTV = self.model(input_ids=tokens_BS[:, :-1], use_cache=False).logits
            losses_BT = F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BS[:, 1:].flatten(), reduction="none")
        losses_BT = losses_BT.view(len(tokens_BS), -1)
        gradients = []
        for part_BT in losses_BT.split(self.counts_K.tolist()):
            parts = torch.autograd.grad(part_BT.mean(), self.probed, retain_graph=True)
            gradients.append(torch.cat([p.flatten() for p in parts]))
        matrix_KP = torch.stack(gradients)
        (matrix_KP @ matrix_KP.T).cpu()
        del gradients, matrix_KP
        losses_BT.mean().backward()
        self._update()

    def _release(self, batch: Batch) -> None:
        matrix_KP = np.empty((self.domains, sum(w.numel() for w in self.probed)), np.float32)
        before_P = np.zeros(matrix_KP.shape[1], np.float32)
        tokens = torch.from_numpy(batch.tokens_BS).to(self.sketched.device).split(self.counts_K.tolist())
        even_B = torch.full((len(batch.tokens_BS),), 1 / (len(batch.tokens_BS) * self.recipe.context)).to(
            self.sketched.device
        )
        for k, tokens_BS in enumerate(tokens):
            with self.sketched.autocast():
                weighted_loss(self.model, tokens_BS, even_B[: len(tokens_BS)])[0].backward()
            after_P = torch.cat([w.grad.flatten() for w in self.probed]).cpu().numpy()
            np.subtract(after_P, before_P, out=matrix_KP[k])
            before_P = after_P
        matrix_KP @ matrix_KP.T
        self._update()

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def measure_time(shape: str, domains: int, options: argparse.Namespace, tick: Callable[[], None]) -> pd.DataFrame:
    """Rows (block, arm, step, signals, agent): seconds a step."""
    ways, rows, order = Ways(shape, domains, options), [], []
    if "agent" in options.arms:
        ways.fill_agent()
    for arm in options.arms:
        ways.run(arm)
        tick()
    rng = np.random.default_rng(0)
    for block in range(options.blocks):
        order = order[::-1] if block % 2 else list(rng.permutation(options.arms))
        for arm in order:
            if arm in SLOW and block >= options.slow_blocks:
                continue
            before = ways.components()
            synchronise(options.device)
            start = time.perf_counter()
            for _ in range(options.steps):
                ways.run(arm)
            synchronise(options.device)
            total = {"step": time.perf_counter() - start}
            total |= {name: seconds - before[name] for name, seconds in ways.components().items()}
            rows.append({"block": block, "arm": arm, **{name: s / options.steps for name, s in total.items()}})
            tick()
    return pd.DataFrame(rows)


def print_memory(options: argparse.Namespace) -> None:
    """In the fresh process: train, print the peaks."""
    shape, domains, arm = options.memory_of
    ways = Ways(shape, int(domains), options)
    ways.fill_agent()  # in every process, so that all have taken as many steps
    for _ in range(2):  # AdamW's moments exist from the first
        ways.run(arm)
    print_peak(options.device)


def summarise(timed: pd.DataFrame, peaks: dict[str, int]) -> Iterator[dict[str, object]]:
    """A row an arm; ratios are of the blocks in which the arm ran."""
    wide = {name: timed.pivot(index="block", columns="arm", values=name) for name in ("step", "signals", "agent")}
    plain = wide["step"]["plain"]
    for arm in (a for a in ARMS if a in wide["step"]):
        ran = wide["step"][arm].dropna()
        ratio, low, high = ratio_of_medians(ran.to_numpy(), plain[ran.index].to_numpy())
        share = {n: 100 * wide[n][arm].median() / plain.median() for n in ("signals", "agent")}
        yield {
            "way": arm,
            "n": len(ran),
            "milliseconds": 1e3 * ran.median(),
            "ratio": ratio,
            "low": low,
            "high": high,
            "signals_percent": share["signals"],
            "agent_percent": share["agent"],
            "peak_bytes": peaks.get(arm),
            "memory_ratio": peaks[arm] / peaks["plain"] if arm in peaks else None,
        }


def show(frame: pd.DataFrame, title: str) -> Table:
    table = Table(title=title)
    for name in ("way", "n", "ms a step", "ratio to plain", "signals %", "agent %", "peak MB", "of plain"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for row in frame.itertuples():
        memory = (f"{row.peak_bytes / 1e6:,.0f}", f"{row.memory_ratio:.3f}") if row.peak_bytes else ("-", "-")
        inside = ("-", "-") if row.way in SLOW else (f"{row.signals_percent:.2f}", f"{row.agent_percent:.2f}")
        ratio = f"{row.ratio:.3f} [{row.low:.3f}, {row.high:.3f}]"
        table.add_row(row.way, str(row.n), f"{row.milliseconds:,.1f}", ratio, *inside, *memory)
    return table


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="SHAPE", help="of acodm_core/lm/models.yaml")
    parser.add_argument("--domains", nargs="+", type=int, default=(8, 22), metavar="K")
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS, help="plain must be among them")
    parser.add_argument("--blocks", type=int, default=5, help="blocks of each way (5)")
    parser.add_argument("--slow-blocks", type=int, default=2, help="blocks of backwards and release (2)")
    parser.add_argument("--steps", type=int, default=2, help="steps of a way in a block (2)")
    parser.add_argument("--batch", type=int, default=22, help="sequences a step; at least one a domain (22)")
    parser.add_argument("--context", type=int, default=256, help="tokens a sequence (256)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--memory-runs", type=int, default=3, help="processes for each way's memory (3); 0: time only")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table here as well")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if "plain" not in options.arms:
        parser.error("--arms: plain must be among them, it is what the others are compared to")
    if max(options.domains) > options.batch:
        parser.error(f"--batch {options.batch}: every one of {max(options.domains)} domains needs a sequence")
    return options


def main() -> None:
    options = options_of()
    prepare(options.device, options.threads)
    if options.memory_of:
        print_memory(options)
        return
    console, frames = Console(width=120), []
    console.print(f"{provenance.hardware(options.device)}")
    slow = sum(arm in SLOW for arm in options.arms)
    blocks = options.blocks * (len(options.arms) - slow) + min(options.slow_blocks, options.blocks) * slow
    each = len(options.arms) * (2 if options.memory_runs else 1) + blocks
    with Progress(console=console, transient=True) as progress:
        for shape in options.shapes:
            for domains in options.domains:
                task = progress.add_task(f"{shape}, {domains} domains", total=each)
                timed = measure_time(shape, domains, options, lambda task=task: progress.advance(task))
                peaks = {}
                for arm in options.arms if options.memory_runs else ():
                    again = range(options.memory_runs)
                    found = [peak_of_fresh_process(__file__, shape, str(domains), arm) for _ in again]
                    peaks[arm] = int(np.median(found))
                    progress.advance(task)
                frame = pd.DataFrame(summarise(timed, peaks))
                progress.remove_task(task)
                title = f"{shape}, {domains} domains, {options.batch} x {options.context} tokens"
                console.print(show(frame, title))
                frames.append(frame.assign(shape=shape, domains=domains))
                if options.out:
                    pd.concat(frames).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
