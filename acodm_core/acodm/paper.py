"""AC-ODM as its paper writes it."""

from __future__ import annotations

from dataclasses import dataclass

from acodm_core.acodm.mixer import AcOdm, Anchor
from acodm_core.acodm.reward import Importance, Kind, Scale
from acodm_core.acodm.state import Form


@dataclass
class AcOdmPaper(AcOdm):
    """AC-ODM with the paper's state, reward, importance correction, warm-up and objective, nothing repaired.

    Idea:
        A domain whose gradient points where the others' point helps them all; learn from the training state when to draw it.
    Update:
        W_i = <g_i, sum_{j != i} g_j>; r_i <- xi r_i + (1 - xi) W_i / P_i with P the mixture that was drawn; state (n, t, l, dl,
        |w|, |dw|) of dimension 3K + 2L + 1; y = r + gamma Q'(s', mu'(s')); the actor ascends J = sum_i a_i Q_i(s, a). The first
        2 % of the steps are drawn from the natural shares plus N(0, 0.02). No floor, no noise after the warm-up.
    Source:
        arXiv 2505.23878, MDP, DDPG and warm-up as its sources state them.
    Differences:
        W is divided by the mean squared gradient norm times K - 1, which no ranking depends on: without it the critic's targets
        move with the loss's scale. Whether Q is a vector is not stated; the release's is. Left open by the paper and taken from
        the release: gamma .95, tau .001, buffer 10,000, networks of five blocks of width 1024 ("17M parameters"), minibatch 32
        (what its eight ranks draw, all the same), learning rate 1e-4 (which its optimisers are built with). xi is open
        everywhere; .9 is ours. Whether 0.02 is a deviation or a variance is open; a deviation here.
    """

    warmup: float = 0.02
    reward: Kind = "alignment"
    shrink: bool = False
    importance: Importance = "literal"
    scale: Scale = "raw"
    form: Form = "paper"
    anchor: Anchor = "uniform"
    temperature: float = 0.0
    floor: float = 0.0
    noise: tuple[float, float] = (0.0, 0.0)
    hidden: int = 1024
    layers: int = 5
    zero_head: bool = False
    actor_lr: float = 1e-4
    critic_lr: float = 1e-4
    gamma: float = 0.95
    tau: float = 0.001
    replay: int = 10_000
    min_pool: int = 32
