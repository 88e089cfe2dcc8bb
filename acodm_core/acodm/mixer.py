"""AC-ODM as a mixer: measure, reward, learn, decide. Variants of the method are its options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from acodm_core.acodm import controls, transfer
from acodm_core.acodm.agent import Ddpg, MeanDdpg, Sac
from acodm_core.acodm.replay import Transition
from acodm_core.acodm.reward import SIGNALS, Importance, Kind, Reward, Scale, mean
from acodm_core.acodm.state import BLOCKS, Block, Form, StateTracker
from acodm_core.mixers.horizon import rescaled
from acodm_core.mixing import Mixer, Signal, Start, StepStats, build_mixer, simplex

Agent = Literal["ddpg", "ddpg_mean", "sac", "frozen", "mirror", "bandit", "random"]
LARGEST_LR = np.array([3e-4, 1e-2])  # what `pace_lr` makes of the actor's and the critic's at most, for both to train
OBJECTIVE_SPREAD = 0.1  # share of the anchor `objective` that is spread evenly
Anchor = Literal["objective", "uniform", "prior"]
ACTORS = ("ddpg", "ddpg_mean", "sac", "frozen")  # agents with a network that another run can load
TRACKED = frozenset({Signal.LOSS, Signal.PARAM_NORM, Signal.PARAM_STEP_NORM})  # what the state follows in every step


@dataclass
class AcOdm(Mixer):
    """An actor-critic decides the mixture of every step, rewarded for what lowers the loss one compares by.

    Idea:
        Learn from the state of training which domain's gradient helps the others, and draw it more.
    Update:
        r_i <- xi r_i + (1 - xi) W_i; (s, a, r, s') goes to the replay buffer; the critic regresses r + gamma Q'(s', mu'(s')); the
        actor ascends sum_i a_i Q_i(s, a) - temperature KL(a || anchor) at a = mu(s), whose optimum is a_i ~ anchor_i
        exp(Q_i / temperature); a^{t+1} = mu(s^t) with noise on the logits, above a floor. ``learn: false`` loads the actor of
        the input run ``actor`` (proxy mode) and only decides.
    Source:
        arXiv 2505.23878, sections on the MDP and on DDPG; release at e95863e, megatron/data/agent.py.
    Differences:
        This is the repaired method; ``acodm_core.acodm.paper`` and ``.released`` are the others. The reward is the first-order
        decrease of the compared loss in AdamW's metric, <g_i, sum_j w_j m_j> with m_j the average of domain j's earlier
        gradients, where the paper has W_i = <g_i, sum_{j != i} g_j>, which ranks domains by how typical they are and not by
        what they teach. It is relative to its mean size and shrunk by its noise, not divided by the share. The divergence
        term keeps the policy off the corners that a linear objective has. The untrained policy is the anchor: by default the
        objective weights, so read this row beside ``objective``, which draws by them and learns
        nothing. Only recent transitions are replayed. State and rewards mean the same in every model, so an actor moves
        between sizes. Floor and noise are declared. Constants that the paper leaves open are ours, tuned on seeds and a split
        of the corpus that no comparison uses (DECISIONS.md), in runs of about 300 steps: gamma, tau and replay are the same
        shares of a run of any other length. Averages that take noise out of measurements (xi, memory) count measurements.
    """

    learn: bool = True
    every: int = 1  # steps between measurements and decisions
    warmup: float = 0.0  # share of the steps that are not drawn by the actor (paper: 833 of 41,667)
    warmup_mixer: str = ""  # what draws them; default: the prior with noise
    warmup_options: Mapping[str, Any] = field(default_factory=dict)
    warmup_noise: float = 0.02  # standard deviation of the noise on the prior (paper: N(0, 0.02))
    # reward
    reward: Kind = "descent"
    xi: float = 0.9  # memory of the reward's moving average
    memory: float = 0.9  # memory of `descent`'s gradients and of `progress`'s losses
    shrink: bool = True  # draw together what noise could explain
    importance: Importance = "none"
    scale: Scale = "relative"
    # state
    form: Form = "relative"
    blocks: tuple[Block, ...] = BLOCKS
    # decision
    agent: Agent = "ddpg"
    anchor: Anchor = "objective"  # the mixture of an untrained policy
    temperature: float = 1.0  # weight of the divergence from the anchor, in units of the reward
    floor: float = 0.1  # share of the mixture spread evenly
    noise: tuple[float, float] = (0.1, 0.02)  # standard deviation on the logits, first and last step
    subtract: float = 0.0  # the release's noise: shares lose up to this much each
    rate: float = 0.05  # step size of `mirror`
    spread: float = 0.35  # deviation of the logits of `random`
    # networks
    horizon: int = 300  # steps of the run that gamma, tau and replay are stated for; 0: they are taken as they are
    hidden: int = 64
    layers: int = 2
    zero_head: bool = True  # start at the anchor; else at a random mixture
    actor_lr: float = 1e-3
    critic_lr: float = 3e-3
    gamma: float = 0.5
    tau: float = 0.01
    replay: int = 64  # transitions kept: rewards age with the model
    minibatch: int = 32
    min_pool: int = 8  # transitions before the first update
    updates: int = 1  # gradient steps a measurement
    robust: bool = True  # Huber loss, and gradients held to a norm of 1; else squared errors, and gradients as they are
    pace_lr: bool = False  # learning rates are stated for the horizon, too

    cite = "acodm2026"

    @property
    def learns(self) -> bool:
        """Whether rewards are measured at all: an actor in transfer, or one that nobody trains, has no use for them."""
        return self.learn and self.agent not in ("frozen", "random")

    @property
    def needs(self) -> frozenset[Signal]:
        """Only what the options look at."""
        return self.agent_needs | self._warm_needs

    @cached_property
    def agent_needs(self) -> frozenset[Signal]:
        """What state and rewards are made of."""
        needs = {Signal.LOSS, Signal.PARAM_NORM} | ({Signal.PARAM_STEP_NORM} if self.form != "relative" else set())
        return frozenset(needs | (SIGNALS[self.reward] if self.learns else set()))

    def wants(self, step: int) -> frozenset[Signal]:
        needs = self.agent_needs
        if not self._decides(step):
            needs &= TRACKED
        return needs | self.warm_.wants(step) if self.warm_ and self._warms(step + 1) else needs

    def __post_init__(self) -> None:
        for name in ("xi", "memory", "gamma", "floor", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("every", "layers", "hidden", "minibatch", "min_pool", "updates", "replay"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.horizon < 0:
            raise ValueError(f"horizon is a number of steps, or 0, got {self.horizon}")
        if self.replay < self.min_pool:
            raise ValueError(f"replay {self.replay} never holds the min_pool {self.min_pool} of the first update")
        self._warm_needs = (
            build_mixer(self.warmup_mixer, self.warmup_options).needs if self.warmup_mixer else frozenset()
        )
        if self.importance != "none" and self.reward not in ("alignment", "self", "cosine", "adam"):
            raise ValueError(
                f"importance {self.importance!r} corrects rewards made of a Gram matrix, not {self.reward!r}"
            )
        if not self.learn and self.agent not in ACTORS:
            raise ValueError(f"agent {self.agent!r} leaves no actor to load: learn must be true")

    def required_inputs(self) -> tuple[str, ...]:
        return () if self.learn else ("actor",)

    def built_mixers(self) -> tuple[str, ...]:
        return (*((self.warmup_mixer,) if self.warmup_mixer else ()), *(("odm",) if self.agent == "bandit" else ()))

    def start(self, start: Start) -> None:
        k = len(start.domains)
        self._domains, self._prior, self._total = start.domains, start.prior, start.total_steps
        self._warmup_steps = round(self.warmup * start.total_steps)
        self.rng_ = start.rng
        self.tracker_ = StateTracker(
            k, start.total_steps, form=self.form, blocks=self.blocks, tensors=start.tensors, memory=self.memory
        )
        # Some weight for every domain: one that is not compared by may help those that are.
        objective = (1 - OBJECTIVE_SPREAD) * start.objective_weights + OBJECTIVE_SPREAD / k
        anchors = {"objective": objective, "uniform": np.full(k, 1 / k), "prior": start.prior}
        self.agent_ = self._build_agent(anchors[self.anchor])
        if not self.learn:
            transfer.load(start.input("actor") / transfer.FILE, self, start.domains)
        self.reward_ = Reward(
            self.reward,
            start.objective_weights,
            importance=self.importance,
            xi=self.xi,
            scale=self.scale,
            memory=self.memory,
            shrink=self.shrink,
        )
        self.warm_ = build_mixer(self.warmup_mixer, self.warmup_options) if self.warmup_mixer else None
        if self.warm_ is not None:
            self.warm_.start(start)
        self.state_: np.ndarray | None = None
        self.mixture_ = self._warm_share(0) if self._warms(0) else self._decide(np.zeros(self.tracker_.size), 0)
        self.found_: dict[str, float | np.ndarray] = {}

    def _build_agent(self, anchor_K: np.ndarray) -> Any:
        match self.agent:
            case "mirror":
                return controls.MirrorAscent(anchor_K, floor=self.floor, rate=self.rate)
            case "bandit":
                return controls.Bandit(anchor_K, floor=self.floor, total_steps=self._total)
            case "random":
                return controls.RandomSoftmax(anchor_K, floor=self.floor, spread=self.spread, rng=self.rng_)
        run = self._total
        of = self.horizon or run
        gamma = 1 - rescaled(1 - self.gamma, of=of, to=run)
        replay = max(self.min_pool, round(self.replay * run / of))
        lrs = np.array([self.actor_lr, self.critic_lr])
        paced = lrs * of / run if self.pace_lr else lrs
        actor_lr, critic_lr = np.minimum(paced, np.maximum(lrs, LARGEST_LR)).tolist()
        settings = dict(
            hidden=self.hidden, layers=self.layers, actor_lr=actor_lr, critic_lr=critic_lr, gamma=gamma,
            tau=rescaled(self.tau, of=of, to=run), floor=self.floor, zero_head=self.zero_head,
            minibatch=self.minibatch, min_pool=self.min_pool, replay=min(replay, run) if self.learns else 1,
            updates=self.updates, robust=self.robust, seed=int(self.rng_.integers(2**31)),
        )  # fmt: skip
        if self.agent == "sac":
            return Sac(self.tracker_.size, anchor_K, temperature_lr=float(paced[0]), **settings)
        ddpg = MeanDdpg if self.agent == "ddpg_mean" else Ddpg
        # In units of the reward: returns are 1 / (1 - gamma) of them.
        temperature = self.temperature * (1 - self.gamma) / (1 - gamma)
        return ddpg(self.tracker_.size, anchor_K, temperature=temperature, **settings)

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def observe(self, stats: StepStats) -> None:
        step_norm_L = stats[Signal.PARAM_STEP_NORM] if self.form != "relative" else np.empty(0)
        state = self.tracker_.observe(
            stats.step, stats.tokens, stats[Signal.LOSS], stats[Signal.PARAM_NORM], step_norm_L
        )
        ahead = stats.step + 1
        if self.warm_ and self._warms(ahead):
            self.warm_.observe(stats)
        if not self._decides(stats.step):
            return
        before = self.mixture_
        if self.learns:
            reward_K = self.rewards(stats)
            if self.state_ is not None:
                self.found_ |= self.agent_.learn(Transition(self.state_, before, reward_K, state), self.rng_)
            apart_K = reward_K - mean(reward_K)
            self.found_ |= {"reward": float(before @ reward_K), "rewards": reward_K}
            self.found_ |= {
                "reward_std": math.sqrt(apart_K @ apart_K / len(apart_K)),
                "certainty": self.reward_.certainty,
            }
        self.state_ = state
        self.mixture_ = self._warm_share(ahead) if self._warms(ahead) else self._decide(state, ahead)
        self.found_["entropy"] = -float(self.mixture_ @ np.log(np.maximum(self.mixture_, 1e-300)))
        self.found_["from_uniform"] = float(np.add.reduce(np.abs(self.mixture_ - 1 / len(self.mixture_)))) / 2
        self.found_["moved"] = float(np.add.reduce(np.abs(self.mixture_ - before))) / 2

    def rewards(self, stats: StepStats) -> np.ndarray:
        """(K,) what this step is worth to the agent, domain by domain."""
        return self.reward_.observe(stats, self.mixture_)

    def _decides(self, step: int) -> bool:
        return step % self.every == 0

    def _warms(self, step: int) -> bool:
        return step < self._warmup_steps

    def _decide(self, state: np.ndarray, step: int) -> np.ndarray:
        first, last = self.noise if self.learns else (0.0, 0.0)
        sigma = first + (last - first) * min(1.0, step / self._total)
        mixture_K = self.agent_.act(state, self.rng_.normal(0, sigma, len(self._domains)) if sigma else 0.0)
        if self.subtract:  # below the floor, which the release adds as whole micro-batches
            free_K = (mixture_K - self.floor / len(mixture_K)) / (1 - self.floor)
            free_K = np.maximum(free_K - self.subtract * self.rng_.random(len(mixture_K)), 0.0)
            return self._above_floor(simplex(free_K))
        return mixture_K

    def _above_floor(self, mixture_K: np.ndarray) -> np.ndarray:
        return (1 - self.floor) * mixture_K + self.floor / len(mixture_K)

    def _warm_share(self, step: int) -> np.ndarray:
        if self.warm_ is not None:
            mixture_K = self.warm_.sampling_weights(step)
        else:
            noisy_K = self._prior + self.rng_.normal(0, self.warmup_noise, len(self._prior))
            mixture_K = simplex(np.maximum(noisy_K, 1e-4))
        return self._above_floor(mixture_K)

    def diagnostics(self) -> dict[str, float | np.ndarray]:
        return self.found_

    def save(self, folder: Path) -> None:
        if self.agent in ACTORS:
            transfer.save(folder / transfer.FILE, self, self._domains)
