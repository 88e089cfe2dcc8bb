"""A mixer in the Hugging Face Trainer.

    python examples/hf_trainer.py [MIXER] [STEPS] [BATCH] [ACCUMULATE]

The Trainer asks for a step's batches when it is about to train on them, so the mixture is never a step late: the loader is a plain
iterator. With gradient accumulation each of them is drawn by the same counts.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from texts import CONTEXT, domains, draw, small_model
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from acodm_core.lm.dropin import Mix


class Drawn(IterableDataset):
    """Batches by the mixer's counts."""

    def __init__(self, text: dict[str, np.ndarray], mix: Mix) -> None:
        self.text, self.mix, self.rng = text, mix, np.random.default_rng(0)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield {"input_ids": draw(self.text, self.mix.counts(), self.rng)}


class MixTrainer(Trainer):
    """The Trainer with a mixer: its loss, and the domains' gradients measured in its own backward pass."""

    def __init__(self, mix: Mix, **arguments) -> None:
        super().__init__(**arguments)
        self.mix = mix

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_dataset, batch_size=None)

    def training_step(self, *arguments, **options) -> torch.Tensor:
        with self.mix.step():
            return super().training_step(*arguments, **options)

    def compute_loss(self, model, inputs, **_) -> torch.Tensor:
        tokens_BS = inputs["input_ids"]
        logits = model(tokens_BS[:, :-1]).logits
        return self.mix.loss(cross_entropy(logits.transpose(1, 2), tokens_BS[:, 1:], reduction="none"))


class Observe(TrainerCallback):
    """After each optimiser step the mixer learns from it."""

    def __init__(self, mix: Mix) -> None:
        self.mix = mix

    def on_optimizer_step(self, *_, **__) -> None:
        self.mix.observe()


def train(mixer: str = "odm", steps: int = 60, batch: int = 8, accumulate: int = 1) -> Mix:
    torch.manual_seed(0)
    text, model = domains(), small_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    constant = torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)
    sizes = {name: len(tokens) for name, tokens in text.items()}
    layers = r"query_key_value|dense\w*"
    passes = {"batch": batch // accumulate, "accumulate": accumulate}
    mix = Mix(mixer, sizes, model, optimiser, layers=layers, steps=steps, context=CONTEXT, **passes)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            max_steps=steps,
            gradient_accumulation_steps=accumulate,
            use_cpu=True,
            logging_steps=10,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        MixTrainer(
            mix,
            model=model,
            args=settings,
            train_dataset=Drawn(text, mix),
            optimizers=(optimiser, constant),
            callbacks=[Observe(mix)],
        ).train()
    print("  ".join(f"{name} {share:.3f}" for name, share in zip(mix.domains, mix.share(), strict=True)))
    return mix


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(*sys.argv[1:2], *map(int, sys.argv[2:5]))
