"""This trainer beside the Hugging Face Trainer and a bare PyTorch loop: one model, one precision, one recipe, taking turns.

    python benchmarks/throughput.py CORPUS_FOLDER                                  # cpu-mini, pythia-14m and pythia-31m
    python benchmarks/throughput.py CORPUS_FOLDER --models pythia-160m --device cuda --batch 32 --context 2048

Arms:
    ours     the trainer's own step and sampler, uniform mixture
    trainer  transformers.Trainer as it comes: its loss, fused AdamW, no logging, evaluation or checkpoints
    bare     what one writes by hand: random windows, cross_entropy, clipping, fused AdamW
    compiled the bare loop under torch.compile

Each arm trains a model of its own from the same initial weights on text of the corpus, in a process of its own, so that each has
the allocator and the attention it comes with. Arms take turns: blocks of a few steps, each block in a new random order and the
next in its reverse; who waits, sleeps. Before the blocks an arm takes two steps, printed as its warm-up. Beside the blocks the
rate of plain matrix products in the same precision is measured: what one could hope for is 100 % of that. Operations are counted
as everywhere here (matrix products, attention in full). Memory is the peak of the arm's process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from side_by_side import synchronise
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.kernels.device import prepare
from acodm_core.lm.model import build_model
from acodm_core.lm.step import TrainStep, resolve_precision
from acodm_core.measure import provenance
from acodm_core.measure.clock import Clock
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.settings.yaml_files import shipped
from acodm_core.study.config import CORE, ModelConfig, TrainingConfig

PYTHIA_VOCABULARY = 50304  # of models of that name; others have the corpus's
WARM_UP = 2  # steps: AdamW's moments exist from the first
# Dense bfloat16 operations a second that the maker states; elsewhere the measured rate of products has to do.
STATED = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


class Setting:
    """What every arm gets: a fresh model, the recipe, the corpus."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.catalogue = ModelConfig.model_validate(shipped(CORE / "lm" / "models.yaml")[name])
        self.recipe = TrainingConfig(
            steps=100_000, batch=options.batch, context=options.context, precision=options.precision
        )
        self.corpus, self.device = Corpus.open(options.corpus), options.device
        self.bf16 = resolve_precision(options.precision, torch.device(options.device)) == "bfloat16"
        self.vocabulary = PYTHIA_VOCABULARY if name.startswith("pythia") else self.corpus.vocab_size
        self.tokens_per_step = options.batch * options.context

    def model(self) -> torch.nn.Module:
        model = build_model(self.catalogue.config, vocab_size=self.vocabulary, context=self.recipe.context, seed=0)
        return model.to(self.device)

    def stock_model(self) -> torch.nn.Module:
        """The same with the attention that transformers takes by itself."""
        model = self.model()
        model.set_attn_implementation("sdpa")
        return model

    def optimiser(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        recipe = self.recipe
        return torch.optim.AdamW(
            model.parameters(), lr=self.catalogue.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
        )

    def windows(self, count: int, length: int, rng: np.random.Generator) -> torch.Tensor:
        """(count, length) tokens from anywhere in the first domain."""
        tokens = self.corpus.tokens("train", self.corpus.domains[0])
        starts = rng.integers(0, len(tokens) - length, count)
        return torch.from_numpy(np.stack([tokens[s : s + length] for s in starts]).astype(np.int64))


class Turn:
    """An arm's side of the pipe: is told a number of steps, answers with the seconds that they took, then sleeps."""

    def __init__(self, pipe: Connection, device: str) -> None:
        self.pipe, self.device = pipe, device

    def wait(self) -> int:
        """Steps to take now; 0 at the end."""
        steps = self.pipe.recv()
        self.start = time.perf_counter()
        return steps

    def done(self) -> None:
        synchronise(self.device)
        self.pipe.send(time.perf_counter() - self.start)


def ours(setting: Setting, turn: Turn) -> None:
    prepare(setting.device, torch.get_num_threads())
    corpus, recipe, done = setting.corpus, setting.recipe, 0
    train_step = TrainStep(
        setting.model(), setting.catalogue, recipe, domains=len(corpus.domains), needs=(), clock=Clock()
    )
    sampler = Sampler(corpus, seed=0, batch=recipe.batch, context=recipe.context)
    mixture_K = np.full(len(corpus.domains), 1 / len(corpus.domains))
    while steps := turn.wait():
        for step in range(done, done := done + steps):
            train_step.step(sampler.next(mixture_K, step), step, ())
        turn.done()


def bare(
    setting: Setting, turn: Turn, wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model
) -> None:
    recipe, rng, plain = setting.recipe, np.random.default_rng(0), setting.stock_model()
    optimiser, model = setting.optimiser(plain), wrap(plain)
    while steps := turn.wait():
        for _ in range(steps):
            batch = setting.windows(recipe.batch, recipe.context + 1, rng).to(setting.device)
            with torch.autocast(torch.device(setting.device).type, torch.bfloat16, enabled=setting.bf16):
                logits = model(input_ids=batch[:, :-1], use_cache=False).logits
            F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        turn.done()


def compiled(setting: Setting, turn: Turn) -> None:
    bare(setting, turn, torch.compile)


class Windows(torch.utils.data.IterableDataset):
    """Windows without end, with themselves as labels, as the Trainer wants them."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.rng = setting, np.random.default_rng(0)

    def __iter__(self):
        while True:
            window = self.setting.windows(1, self.setting.recipe.context, self.rng)[0]
            yield {"input_ids": window, "labels": window}


class TakeTurns(TrainerCallback):
    """Holds the Trainer between two steps while it is not its turn."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn

    def on_train_begin(self, *_, **__) -> None:
        self.left = self.turn.wait()

    def on_step_end(self, settings, state, control, **_) -> None:
        self.left -= 1
        if not self.left:
            self.turn.done()
            self.left = self.turn.wait()
            control.should_training_stop = not self.left


def trainer(setting: Setting, turn: Turn) -> None:
    recipe, model = setting.recipe, setting.stock_model()
    constant = torch.optim.lr_scheduler.ConstantLR(optimiser := setting.optimiser(model), 1.0)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            max_steps=1 << 20,
            per_device_train_batch_size=recipe.batch,
            max_grad_norm=recipe.clip,
            bf16=setting.bf16,
            use_cpu=setting.device == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            model,
            settings,
            train_dataset=Windows(setting),
            optimizers=(optimiser, constant),
            callbacks=[TakeTurns(turn)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


ARMS = {arm.__name__: arm for arm in (ours, trainer, bare, compiled)}


def run_arm(arm: str, name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """An arm's process. After its last turn it sends its peak bytes, the device's or else the host's."""
    torch.set_num_threads(options.threads)
    ARMS[arm](Setting(name, options), Turn(pipe, options.device))
    peaks = provenance.peak_memory(options.device)
    pipe.send(peaks["device_bytes"] or peaks["host_bytes"])


class Process:
    """An arm, from the side of who tells it when to run."""

    def __init__(self, arm: str, name: str, options: argparse.Namespace) -> None:
        self.pipe, its_end = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        context.Process(target=run_arm, args=(arm, name, options, its_end), daemon=True).start()
        its_end.close()

    def steps(self, count: int) -> float:
        """Seconds that ``count`` steps took; with 0 the process's peak bytes, and its end."""
        self.pipe.send(count)
        return self.pipe.recv()


def product_rate(setting: Setting) -> float:
    """Operations a second of one large product in the precision that is trained in."""
    size = 8192 if setting.device.startswith("cuda") else 1024
    a = torch.ones(size, size, dtype=torch.bfloat16 if setting.bf16 else torch.float32, device=setting.device)
    synchronise(setting.device)
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    synchronise(setting.device)
    return 10 * 2 * size**3 / (time.perf_counter() - start)


def measure(name: str, options: argparse.Namespace, tick: Callable[[], None]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows (block, arm, seconds a step), the warm-up as block -1 and plain products as an arm; and the arms' peak bytes."""
    setting, rows, arms, order = Setting(name, options), [], {}, []
    rng = np.random.default_rng(0)

    def block(number: int, arm: str, steps: int) -> None:
        rows.append({"block": number, "arm": arm, "seconds": arms[arm].steps(steps) / steps})
        tick()

    for arm in options.arms:
        arms[arm] = Process(arm, name, options)
        block(-1, arm, WARM_UP)
    product_rate(setting)
    for number in range(options.blocks):
        order = order[::-1] if number % 2 else list(rng.permutation(options.arms))
        for arm in order:
            block(number, arm, options.steps)
        rows.append({"block": number, "arm": "products", "seconds": 1 / product_rate(setting)})
    return pd.DataFrame(rows), {arm: int(process.steps(0)) for arm, process in arms.items()}


def summarise(timed: pd.DataFrame, setting: Setting, peaks: dict[str, int]) -> pd.DataFrame:
    """A row an arm."""
    flops = setting.recipe.batch * sequence_flops(setting.model(), setting.recipe.context)
    blocks = timed[timed.block >= 0].pivot(index="block", columns="arm", values="seconds")
    warm_up = timed[timed.block < 0].set_index("arm").seconds * WARM_UP
    products = 1 / blocks.products.median()
    stated = next(
        (rate for kind, rate in STATED.items() if kind in str(provenance.hardware(setting.device)["gpu"])), None
    )
    rows = []
    for arm in (arm for arm in ARMS if arm in blocks):
        seconds = blocks[arm].to_numpy()
        rate = flops / np.median(seconds)
        ratio, low, high = ratio_of_medians(seconds, blocks.ours.to_numpy())
        rows.append(
            {
                "arm": arm,
                "tokens_per_second": setting.tokens_per_step / np.median(seconds),
                "ours_over": ratio,
                "low": low,
                "high": high,
                "flops_per_second": rate,
                "of_products": rate / products,
                "mfu": rate / stated if stated and setting.bf16 else None,
                "peak_bytes": peaks[arm],
                "warm_up_seconds": warm_up[arm],
            }
        )
    return pd.DataFrame(rows)


def show(frame: pd.DataFrame, title: str) -> Table:
    table = Table(title=title)
    for name in ("arm", "tokens/s", "ours, times this", "GFLOP/s", "of products", "MFU", "peak MB", "warm-up (s)"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for row in frame.itertuples():
        table.add_row(
            row.arm,
            f"{row.tokens_per_second:,.0f}",
            "" if row.arm == "ours" else f"{row.ours_over:.2f} [{row.low:.2f}, {row.high:.2f}]",
            f"{row.flops_per_second / 1e9:,.0f}",
            f"{row.of_products:.0%}",
            "-" if row.mfu is None else f"{row.mfu:.1%}",
            f"{row.peak_bytes / 1e6:,.0f}",
            f"{row.warm_up_seconds:.1f}",
        )
    return table


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of a built corpus: data/corpora/ID")
    parser.add_argument("--models", nargs="+", default=("cpu-mini", "pythia-14m", "pythia-31m"), metavar="MODEL")
    parser.add_argument("--arms", nargs="+", default=("ours", "trainer", "bare"), choices=tuple(ARMS))
    parser.add_argument("--blocks", type=int, default=5, help="blocks of each arm (5)")
    parser.add_argument("--steps", type=int, default=2, help="steps of an arm in a block (2)")
    parser.add_argument("--batch", type=int, default=16, help="sequences a step (16)")
    parser.add_argument("--context", type=int, default=256, help="tokens a sequence (256)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table here as well")
    options = parser.parse_args()
    if "ours" not in options.arms:
        parser.error("--arms: ours must be among them, the others are compared to it")
    return options


def main() -> None:
    options = options_of()
    torch.set_num_threads(options.threads)
    console, frames = Console(width=120), []
    console.print(f"{provenance.hardware(options.device)}")
    with Progress(console=console, transient=True) as progress:
        for name in options.models:
            task = progress.add_task(name, total=len(options.arms) * (options.blocks + 1))
            timed, peaks = measure(name, options, lambda task=task: progress.advance(task))
            setting = Setting(name, options)
            frame = summarise(timed, setting, peaks)
            progress.remove_task(task)
            precision = "bfloat16" if setting.bf16 else "float32"
            console.print(show(frame, f"{name}, {options.batch} x {options.context} tokens, {precision}"))
            frames.append(frame.assign(model=name, precision=precision, threads=options.threads))
            if options.out:
                pd.concat(frames).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
