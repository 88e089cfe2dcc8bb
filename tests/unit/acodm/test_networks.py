"""The layers of the agents' networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_signals import weights

from acodm_core.acodm.networks import perceptron


def test_networks_of_the_release_have_the_size_it_has() -> None:
    """22 domains, 9 tensors, five blocks of 1024: 4,319,254 and 4,341,782 parameters (release at e95863e, agent.py)."""
    actor, critic = (perceptron(width, 1024, 5, 22, np.random.default_rng(0)) for width in (85, 85 + 22))
    assert weights(actor).size == 4_319_254 and weights(critic).size == 4_341_782


def test_first_values_have_the_law_of_torchs() -> None:
    ours = perceptron(70, 80, 1, 50, np.random.default_rng(5))
    torch.manual_seed(5)
    theirs = [torch.nn.Linear(70, 80), torch.nn.LayerNorm(80), torch.nn.ReLU(), torch.nn.Linear(80, 50)]
    for name, expected in torch.nn.Sequential(*theirs).state_dict().items():
        value = ours.state_dict()[name]
        assert value.shape == expected.shape
        for statistic in (torch.min, torch.max, torch.std):
            assert statistic(value) == pytest.approx(statistic(expected).item(), rel=0.1), name
