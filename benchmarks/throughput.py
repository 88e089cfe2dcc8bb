"""This trainer against a bare PyTorch loop: same model, batches, precision and optimiser, in one process, block by block.

    python benchmarks/throughput.py CORPUS_FOLDER [--model cpu-mini] [--blocks 10]

Blocks alternate A B B A, so a drift of the machine meets both alike. Prints tokens a second of each and the ratio of medians
with its 95 % bootstrap interval.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.lm.model import build_model
from acodm_core.lm.step import Learner, resolve_precision
from acodm_core.study.clock import Clock
from acodm_core.study.config import CORE, ModelConfig, TrainingConfig, load_yaml
from acodm_core.study.ratio import ratio_of_medians


class Bare:
    """What one writes without a framework: random windows of one token array, forward, backward, clip, AdamW."""

    def __init__(self, model: torch.nn.Module, config: ModelConfig, recipe: TrainingConfig, corpus: Corpus) -> None:
        self.model, self.recipe = model, recipe
        self.tokens = corpus.tokens("train", corpus.domains[0])
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True
        )
        self.rng = np.random.default_rng(0)
        self.bf16 = resolve_precision(recipe.precision, torch.device("cpu")) == "bfloat16"

    def steps(self, count: int) -> None:
        for _ in range(count):
            starts = self.rng.integers(0, len(self.tokens) - self.recipe.context - 1, self.recipe.batch)
            rows = np.stack([self.tokens[s : s + self.recipe.context + 1] for s in starts]).astype(np.int64)
            batch = torch.from_numpy(rows)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                logits = self.model(input_ids=batch[:, :-1], use_cache=False).logits
            F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)


class Ours:
    """The trainer's own step and sampler, uniform mixture."""

    def __init__(self, model: torch.nn.Module, config: ModelConfig, recipe: TrainingConfig, corpus: Corpus) -> None:
        self.learner = Learner(model, config, recipe, domains=len(corpus.domains), needs=(), clock=Clock())
        self.sampler = Sampler(corpus, seed=0, batch=recipe.batch, context=recipe.context)
        self.share = np.full(len(corpus.domains), 1 / len(corpus.domains))
        self.step = 0

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.learner.step(self.sampler.next(self.share, self.step), self.step, ())
            self.step += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", default="cpu-mini")
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="steps a block")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = Corpus.open(options.corpus)
    config = ModelConfig.model_validate(load_yaml(CORE / "lm" / "models.yaml")[options.model])
    recipe = TrainingConfig(steps=100_000, batch=options.batch, context=options.context, precision=options.precision)

    def model() -> torch.nn.Module:
        return build_model(config.config, vocab_size=corpus.vocab_size, context=options.context, seed=0)

    arms = {"ours": Ours(model(), config, recipe, corpus), "bare": Bare(model(), config, recipe, corpus)}
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm.steps(options.steps)
    for block in range(options.blocks):
        for name in list(arms)[:: 1 if block % 2 == 0 else -1]:
            start = time.perf_counter()
            arms[name].steps(options.steps)
            rates[name].append(options.steps * recipe.batch * recipe.context / (time.perf_counter() - start))
    for name, found in rates.items():
        print(f"{name}: median {np.median(found):,.0f} tokens/s  (best {max(found):,.0f})")
    ratio, low, high = ratio_of_medians(np.array(rates["ours"]), np.array(rates["bare"]), np.random.default_rng(0))
    print(f"ours / bare: {ratio:.3f}  [{low:.3f}, {high:.3f}]  over {options.blocks} blocks")


if __name__ == "__main__":
    main()
