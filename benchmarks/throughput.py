"""This trainer beside the Hugging Face Trainer and a bare PyTorch loop: one model, one precision, one recipe, one process.

    python benchmarks/throughput.py CORPUS_FOLDER                                  # cpu-mini, pythia-14m and pythia-31m
    python benchmarks/throughput.py CORPUS_FOLDER --models pythia-160m --device cuda --batch 32 --context 2048

Arms:
    ours     the trainer's own step and sampler, uniform mixture
    trainer  transformers.Trainer as it comes: its loss, fused AdamW, no logging, evaluation or checkpoints
    bare     what one writes by hand: random windows, cross_entropy, clipping, fused AdamW
    compiled the bare loop under torch.compile

Each arm trains a model of its own from the same initial weights on text of the corpus, in blocks of a few steps that take turns,
each block in a new random order and the next in its reverse. Before the blocks an arm takes two steps, printed as its warm-up.
Beside the blocks the rate of plain matrix products in the same precision is measured: what one could hope for is 100 % of that.
Operations are counted as everywhere here (matrix products, attention in full). Memory is the peak of a fresh process.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from side_by_side import peak_of_fresh_process, print_peak, synchronise
from transformers import Trainer, TrainerCallback, TrainingArguments

from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.model import build_model
from acodm_core.lm.step import Learner, resolve_precision
from acodm_core.study import provenance
from acodm_core.study.clock import Clock
from acodm_core.study.config import CORE, ModelConfig, TrainingConfig, load_yaml
from acodm_core.study.ratio import ratio_of_medians

PYTHIA_VOCABULARY = 50304  # of models of that name; others have the corpus's
WARM_UP = 2  # steps: AdamW's moments exist from the first
# Dense bfloat16 operations a second that the maker states; elsewhere the measured rate of products has to do.
STATED = {"H100": 989e12, "H200": 989e12, "A100": 312e12}


class Setting:
    """What every arm gets: a fresh model, the recipe, the corpus."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.catalogue = ModelConfig.model_validate(load_yaml(CORE / "lm" / "models.yaml")[name])
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


class Ours:
    def __init__(self, setting: Setting) -> None:
        corpus, recipe = setting.corpus, setting.recipe
        self.learner = Learner(
            setting.model(), setting.catalogue, recipe, domains=len(corpus.domains), needs=(), clock=Clock()
        )
        self.sampler = Sampler(corpus, seed=0, batch=recipe.batch, context=recipe.context)
        self.share_K = np.full(len(corpus.domains), 1 / len(corpus.domains))
        self.step = 0

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.learner.step(self.sampler.next(self.share_K, self.step), self.step, ())
            self.step += 1


class Bare:
    def __init__(
        self, setting: Setting, wrap: Callable[[torch.nn.Module], torch.nn.Module] = lambda model: model
    ) -> None:
        self.setting, self.rng, plain = setting, np.random.default_rng(0), setting.model()
        self.optimiser, self.model = setting.optimiser(plain), wrap(plain)

    def steps(self, count: int) -> None:
        setting, recipe = self.setting, self.setting.recipe
        for _ in range(count):
            batch = setting.windows(recipe.batch, recipe.context + 1, self.rng).to(setting.device)
            with torch.autocast(torch.device(setting.device).type, torch.bfloat16, enabled=setting.bf16):
                logits = self.model(input_ids=batch[:, :-1], use_cache=False).logits
            F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)


class Windows(torch.utils.data.IterableDataset):
    """Windows without end, with themselves as labels, as the Trainer wants them."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.rng = setting, np.random.default_rng(0)

    def __iter__(self):
        while True:
            window = self.setting.windows(1, self.setting.recipe.context, self.rng)[0]
            yield {"input_ids": window, "labels": window}


class HuggingFace(TrainerCallback):
    """The Trainer in a thread of its own, which it leaves for no longer than it is told: a callback waits between steps."""

    def __init__(self, setting: Setting) -> None:
        recipe, threads = setting.recipe, torch.get_num_threads()
        model = setting.model()
        constant = torch.optim.lr_scheduler.ConstantLR(optimiser := setting.optimiser(model), 1.0)
        self.may, self.did, self.failed = threading.Semaphore(0), threading.Semaphore(0), None
        self.folder = tempfile.TemporaryDirectory()
        settings = TrainingArguments(
            self.folder.name,
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
            model, settings, train_dataset=Windows(setting), optimizers=(optimiser, constant), callbacks=[self]
        )

        def train() -> None:
            torch.set_num_threads(threads)  # which is a thread's own
            try:
                trainer.train()
            except BaseException as error:
                self.failed = error
                self.did.release()

        threading.Thread(target=train, daemon=True).start()

    def on_train_begin(self, *_, **__) -> None:
        self.may.acquire()

    def on_step_end(self, *_, **__) -> None:
        self.did.release()
        self.may.acquire()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.may.release()
            self.did.acquire()
            if self.failed:
                raise self.failed


ARMS = {"ours": Ours, "trainer": HuggingFace, "bare": Bare, "compiled": lambda setting: Bare(setting, torch.compile)}


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


def measure(name: str, options: argparse.Namespace, tick: Callable[[], None]) -> pd.DataFrame:
    """Rows (block, arm, seconds a step, operations a second of a plain product), and the warm-up as block -1."""
    setting, rows, arms, order = Setting(name, options), [], {}, []
    rng = np.random.default_rng(0)

    def block(number: int, arm: str, steps: int) -> None:
        synchronise(options.device)
        start = time.perf_counter()
        arms[arm].steps(steps)
        synchronise(options.device)
        rows.append({"block": number, "arm": arm, "seconds": (time.perf_counter() - start) / steps})
        tick()

    for arm in options.arms:
        arms[arm] = ARMS[arm](setting)
        block(-1, arm, WARM_UP)
    product_rate(setting)
    for number in range(options.blocks):
        order = order[::-1] if number % 2 else list(rng.permutation(options.arms))
        for arm in order:
            block(number, arm, options.steps)
        rows.append({"block": number, "arm": "products", "seconds": 1 / product_rate(setting)})
    return pd.DataFrame(rows)


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
        ratio, low, high = ratio_of_medians(seconds, blocks.ours.to_numpy(), np.random.default_rng(0))
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
                "peak_bytes": peaks.get(arm),
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
            "-" if pd.isna(row.peak_bytes) else f"{row.peak_bytes / 1e6:,.0f}",
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
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="time only: no process for each arm")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table here as well")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "ours" not in options.arms:
        parser.error("--arms: ours must be among them, the others are compared to it")
    return options


def main() -> None:
    options = options_of()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        name, arm = options.memory_of
        ARMS[arm](Setting(name, options)).steps(WARM_UP + 2)
        print_peak(options.device)
        return
    console, frames = Console(width=120), []
    console.print(f"{provenance.hardware(options.device)}")
    with Progress(console=console, transient=True) as progress:
        for name in options.models:
            task = progress.add_task(name, total=len(options.arms) * (options.blocks + 1 + options.memory))
            timed = measure(name, options, lambda task=task: progress.advance(task))
            peaks = {}
            for arm in options.arms if options.memory else ():
                peaks[arm] = peak_of_fresh_process(__file__, name, arm)
                progress.advance(task)
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
