"""The agents' networks: actors that turn states into mixtures, and critics that value mixtures."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

LOG_STD = (-5.0, -1.0)  # limits of a Gaussian actor's log deviations; with larger ones each step draws another mixture
LOG_STD_OF_TARGET = -1.0 - 0.5 * math.log(2 * math.pi * math.e)  # of a Gaussian whose entropy is -1
_KIND = {"device": "cpu", "dtype": torch.float32}  # whatever torch's defaults are


def perceptron(inputs: int, hidden_size: int, layers: int, outputs: int, rng: np.random.Generator) -> nn.Sequential:
    """``layers`` blocks of Linear, LayerNorm, ReLU, and a Linear head (arXiv 2505.23878; release at e95863e, agent.py:106-168)."""
    widths = [inputs] + [hidden_size] * layers
    parts: list[nn.Module] = []
    for width in widths[:-1]:
        parts += [_linear(width, hidden_size, rng), nn.LayerNorm(hidden_size, **_KIND), nn.ReLU()]
    return nn.Sequential(*parts, _linear(widths[-1], outputs, rng))


def _linear(inputs: int, outputs: int, rng: np.random.Generator) -> nn.Linear:
    """A Linear whose first values have the law of torch's: uniform, up to 1 / sqrt(inputs)."""
    layer, bound = nn.utils.skip_init(nn.Linear, inputs, outputs, **_KIND), 1 / math.sqrt(inputs)
    with torch.no_grad():
        for part in layer.parameters():
            part.copy_(torch.from_numpy(rng.uniform(-bound, bound, part.shape)))
    return layer


class Actor(nn.Module):
    """States to mixtures: a softmax of the network's logits, which is ``anchor_K`` at zero, above an even part of the mixture."""

    def __init__(self, network: nn.Sequential, anchor_K: np.ndarray, uniform_fraction: float) -> None:
        super().__init__()
        self.network, self.uniform_fraction = network, uniform_fraction
        self.register_buffer("log_anchor_K", torch.from_numpy(np.log(anchor_K)).float(), persistent=False)

    def mixture(self, logits: Tensor) -> Tensor:
        """(B, K) logits to (B, K) mixtures."""
        softmax = (logits + self.log_anchor_K).softmax(-1)
        return (1 - self.uniform_fraction) * softmax + self.uniform_fraction / logits.shape[-1]

    def forward(self, states: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """(B, S) states to (B, K) mixtures, with ``noise`` on the logits."""
        return self.mixture(self.network(states) + noise)


class GaussianActor(Actor):
    """An actor whose logits are Gaussian: its network gives (B, 2 K), means and log deviations."""

    def forward(self, states: Tensor, noise: Tensor) -> Tensor:
        """(B, S) states to (B, K) mixtures, with ``noise`` in the policy's own deviations."""
        return self.sample(states, noise)[0]

    def sample(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) mixtures that standard normal ``noise`` (B, K) draws, and the (B,) log density of their logits."""
        mean, log_std = self.network(states).chunk(2, -1)
        log_std = log_std.clamp(*LOG_STD)
        density = (-0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
        return self.mixture(mean + log_std.exp() * noise), density


class Critic(nn.Module):
    """States and mixtures to values, by one network or more: (B, S) and (B, K) to (C, B, values)."""

    def __init__(self, *networks: nn.Sequential) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, states: Tensor, mixtures: Tensor) -> Tensor:
        inputs = torch.cat([states, mixtures], -1)
        return torch.stack([network(inputs) for network in self.networks])


@torch.no_grad()
def soft_update(target: nn.Module, network: nn.Module, rate: float) -> None:
    """Move a target network to its network, by ``rate`` of the way."""
    for slow, value in zip(target.parameters(), network.parameters(), strict=True):
        slow.lerp_(value, rate)
