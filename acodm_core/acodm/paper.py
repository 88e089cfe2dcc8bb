"""AC-ODM as its paper writes it."""

from __future__ import annotations

from dataclasses import dataclass

from acodm_core.acodm.mixer import AcOdm, Anchor
from acodm_core.acodm.reward import Importance, Kind, Scale
from acodm_core.acodm.state import Form


@dataclass
class AcOdmPaper(AcOdm):
    """AC-ODM with the paper's state, reward, importance correction, warm-up, losses and objective, nothing repaired.

    Idea:
        A domain whose gradient points where the others' point helps them all; learn from the training state when to draw it.
    Update:
        W_i = <g_i, sum_{j != i} g_j>; r_i <- xi r_i + (1 - xi) W_i / P_i with P the mixture that was drawn; state (n, t, l, dl,
        |w|, |dw|) of dimension 3K + 2L + 1; y = r + gamma Q'(s', mu'(s')); the critic descends the mean of (y - Q(s, a))^2; the
        actor ascends J = sum_i a_i Q_i(s, a). The first 2 % of the steps are drawn from the natural shares plus N(0, 0.02). No
        uniform part, no noise after the warm-up.
    Source:
        arXiv 2505.23878v2 (2026; v1 is of May 2025), MDP, DDPG and warm-up as notes on it state them; its whole text was not at
        hand. What it leaves open is the release's at e95863e, megatron/data/agent.py, unless named below.
    Differences:
        W is divided by the mean squared gradient norm times K - 1, which no ranking depends on: without it the critic's targets
        move with the loss's scale. P_i counts as 1e-6 at least; the warm-up draws each domain with 1e-4 at least, before all are
        renormalised.
        From the release: the state's scale (blocks standardised over their entries; without it an untrained actor cannot see its
        losses next to the counts), Q as a vector, networks of five blocks of width 1024 ("17M parameters"), minibatch 32 (what its
        eight ranks draw, all the same). Its gamma .95, tau .001 and buffer of 10,000 are those of 41,667 steps, and the same
        fractions of any other run: in 300 steps gamma is 3e-4 to 1e-3, tau .13, the buffer 72. ``reference_steps: 0`` takes them
        as they are.
        Ours: xi .9; 0.02 as a deviation, not a variance. A domain that a step misses keeps its average reward and its last
        loss, and one never drawn has the others' mean (the release forces every domain into each step). Updates begin with the
        first transition, in the warm-up, on minibatches drawn with replacement; no weight decay; learning rate 1e-4 in runs of
        any length. The release builds its optimisers with that, but its scheduler then sets .01, falling to .001: a third of
        these weights' first values in one step.
    """

    warmup: float = 0.02
    reward: Kind = "alignment"
    shrinkage: bool = False
    importance: Importance = "literal"
    reward_scale: Scale = "raw"
    state_form: Form = "paper"
    anchor: Anchor = "uniform"
    temperature: float = 0.0
    uniform_fraction: float = 0.0
    exploration_noise: tuple[float, float] = (0.0, 0.0)
    hidden_size: int = 1024
    hidden_layers: int = 5
    start_at_anchor: bool = False
    actor_lr: float = 1e-4
    critic_lr: float = 1e-4
    discount: float = 0.95
    target_rate: float = 0.001
    replay_size: int = 10_000
    min_transitions: int = 1
    reference_steps: int = 41_667
    robust: bool = False
