"""A mixer in a plain PyTorch loop: four lines of it are the mixer's.

    python examples/own_loop.py [MIXER] [STEPS]

Trains a small transformer on bytes of three domains that every Python has: source code, prose and digits at random.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from texts import CONTEXT, domains, draw, small_model
from torch.nn.functional import cross_entropy

from acodm_core.lm.dropin import Mix


def train(mixer: str = "odm", steps: int = 60, batch: int = 8) -> Mix:
    torch.manual_seed(0)
    text = domains()
    model = small_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = np.random.default_rng(0)
    sizes = {name: len(tokens) for name, tokens in text.items()}
    layers = r"query_key_value|dense\w*"
    mix = Mix(mixer, sizes, model, optimiser, layers=layers, steps=steps, batch=batch, context=CONTEXT)  # 1
    for step in range(steps):
        tokens_BS = draw(text, mix.counts(), rng)  # 2
        with mix.step():  # 3
            logits = model(tokens_BS[:, :-1]).logits
            loss = mix.loss(cross_entropy(logits.transpose(1, 2), tokens_BS[:, 1:], reduction="none"))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        mix.observe()  # 4
        if step % 10 == 9:
            shares = "  ".join(f"{name} {share:.3f}" for name, share in zip(mix.domains, mix.share(), strict=True))
            print(f"step {step + 1:3d}  loss {loss.item():.3f}  {shares}")
    return mix


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(*sys.argv[1:2], *map(int, sys.argv[2:3]))
