"""AC-ODM as a mixer: measure, reward, learn, decide. Variants of the method are its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from acodm_core.acodm.controls import Bandit, MirrorAscent, RandomSoftmax
from acodm_core.acodm.interface import Agent, Settings, Transition
from acodm_core.acodm.reward import SIGNALS, Importance, Kind, Reward, Scale
from acodm_core.acodm.state import BLOCKS, Block, Form, StateTracker
from acodm_core.acodm.transfer import FILE, load_actor, save_actor
from acodm_core.mixers.find import build_mixer
from acodm_core.mixers.horizon import rescaled
from acodm_core.mixing import Mixer, Signal, Start, StepStats, simplex

AgentName = Literal["ddpg", "ddpg_mean", "sac", "frozen", "mirror", "bandit", "random"]
LARGEST_LR = np.array(
    [3e-4, 1e-2]
)  # what `rescale_lr` makes of the actor's and the critic's at most, for both to train
EVEN_ANCHOR = 0.1  # part of the anchor `objective` that is spread evenly
Anchor = Literal["objective", "uniform", "prior"]
POSITIVE = (
    "decision_interval",
    "hidden_layers",
    "hidden_size",
    "minibatch_size",
    "min_transitions",
    "updates_per_transition",
    "replay_size",
)  # fmt: skip - options of at least 1
ACTORS = ("ddpg", "ddpg_mean", "sac", "frozen")  # agents with a network that another run can load
TRACKED = frozenset({Signal.LOSS, Signal.PARAM_NORM, Signal.PARAM_STEP_NORM})  # what the state follows in every step


@dataclass
class AcOdm(Mixer):
    """An actor-critic decides the mixture of every step, rewarded for what lowers the objective loss.

    Idea:
        Learn from the state of training which domain's gradient helps the others, and draw it more.
    Update:
        r_i <- xi r_i + (1 - xi) W_i; (s, a, r, s') goes to the replay buffer. The critic regresses r + gamma Q'(s', mu'(s')). The
        actor ascends sum_i a_i Q_i(s, a) - temperature KL(a || anchor) at a = mu(s), whose optimum is a_i ~ anchor_i
        exp(Q_i / temperature). Then a^{t+1} = mu(s^t) with noise on the logits, above a uniform part. ``learn: false`` loads the
        actor of the input run ``actor`` (proxy mode) and only decides. In options, xi is ``reward_decay``, gamma ``discount``,
        tau ``target_rate``.
    Source:
        arXiv 2505.23878, sections on the MDP and on DDPG; release at e95863e, megatron/data/agent.py.
    Differences:
        This is the repaired method; ``acodm_core.acodm.paper`` and ``.released`` are the others. The reward is the first-order
        decrease of the objective loss in AdamW's metric, <g_i, sum_j w_j m_j> with m_j the average of domain j's earlier
        gradients. The paper has W_i = <g_i, sum_{j != i} g_j>. It ranks domains by how typical they are and not by
        what they teach. It is relative to its mean size and shrunk by its noise, not divided by the mixture. The divergence
        term keeps the policy off the corners that a linear objective has. The untrained policy is the anchor: by default the
        objective weights, so read this row beside ``objective``, which draws by them and learns
        nothing. Only recent transitions are replayed. State and rewards mean the same in every model, so an actor moves
        between sizes. The uniform part and the noise are declared. Constants that the paper leaves open are ours, tuned on
        seeds and a split of the corpus that no comparison uses (DECISIONS.md), in runs of about 300 steps: ``discount``,
        ``target_rate`` and ``replay_size`` are the same fractions of a run of any other length. Averages that take noise out of
        measurements (``reward_decay``, ``signal_decay``) count measurements.
    """

    learn: bool = True
    decision_interval: int = 1  # steps per measurement and decision
    warmup: float = 0.0  # fraction of the steps that are not drawn by the actor (paper: 833 of 41,667)
    warmup_mixer: str = ""  # what draws them; default: the prior with noise
    warmup_options: Mapping[str, Any] = field(default_factory=dict)
    warmup_noise: float = 0.02  # standard deviation of the noise on the prior (paper: N(0, 0.02))
    # reward
    reward: Kind = "descent"
    reward_decay: float = 0.9  # xi: what the reward's moving average keeps of itself per measurement
    signal_decay: float = 0.9  # the same of averages of what is measured: `descent`'s gradients, the state's losses
    shrinkage: bool = True  # draw rewards together as far as noise could explain their differences
    importance: Importance = "none"
    reward_scale: Scale = "relative"
    # state
    state_form: Form = "relative"
    state_blocks: tuple[Block, ...] = BLOCKS
    # decision
    agent: AgentName = "ddpg"
    anchor: Anchor = "objective"  # the mixture of an untrained policy
    temperature: float = 1.0  # weight of the divergence from the anchor, in units of the reward
    uniform_fraction: float = 0.1  # part of the mixture spread evenly: each domain keeps at least uniform_fraction / K
    exploration_noise: tuple[float, float] = (0.1, 0.02)  # standard deviation on the logits, first and last step
    subtracted_noise: float = 0.0  # the release's noise: each domain's part of the mixture loses up to this much
    mirror_step_size: float = 0.05  # of agent `mirror`
    logit_std: float = 0.35  # of agent `random`: standard deviation of its logits
    # networks
    reference_steps: int = 300  # T that discount, target_rate and replay_size are stated for; 0: take them as they are
    hidden_size: int = 64
    hidden_layers: int = 2
    start_at_anchor: bool = True  # the head starts at zero; else the untrained policy is a random mixture
    actor_lr: float = 1e-3
    critic_lr: float = 3e-3
    discount: float = 0.5  # gamma
    target_rate: float = 0.01  # tau: by which target networks follow, per update
    replay_size: int = 64  # transitions kept: rewards age with the model
    minibatch_size: int = 32  # transitions drawn per update
    min_transitions: int = 8  # before the first update
    updates_per_transition: int = 1
    robust: bool = True  # Huber loss, and gradients held to a norm of 1; else squared errors, and gradients as they are
    rescale_lr: bool = False  # learning rates, too, are stated for reference_steps

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
        needs = {Signal.LOSS, Signal.PARAM_NORM} | (
            {Signal.PARAM_STEP_NORM} if self.state_form != "relative" else set()
        )
        return frozenset(needs | (SIGNALS[self.reward] if self.learns else set()))

    def wants(self, step: int) -> frozenset[Signal]:
        needs = self.agent_needs
        if not self._decides(step):
            needs &= TRACKED
        return needs | self.warm_.wants(step) if self.warm_ and self._warms(step + 1) else needs

    def __post_init__(self) -> None:
        for name in ("reward_decay", "signal_decay", "discount", "uniform_fraction", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.reference_steps < 0:
            raise ValueError(f"reference_steps is a number of steps, or 0, got {self.reference_steps}")
        if self.replay_size < self.min_transitions:
            raise ValueError(
                f"replay_size {self.replay_size} never holds the min_transitions {self.min_transitions} of the first update"
            )
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
            k,
            start.total_steps,
            form=self.state_form,
            blocks=self.state_blocks,
            tensors=start.tensors,
            signal_decay=self.signal_decay,
        )
        # Some weight for every domain: one without objective weight may help those that have it.
        objective = (1 - EVEN_ANCHOR) * start.objective_weights + EVEN_ANCHOR / k
        anchors = {"objective": objective, "uniform": np.full(k, 1 / k), "prior": start.prior}
        self.agent_ = self._build_agent(anchors[self.anchor])
        if not self.learn:
            weights, statistics = load_actor(start.input("actor") / FILE, self._shape(), start.domains)
            self.agent_.actor.network.load_state_dict(weights)
            self.tracker_.normaliser.load_state_dict(statistics)
            self.tracker_.normaliser.frozen = True
        self.reward_ = Reward(
            self.reward,
            start.objective_weights,
            importance=self.importance,
            reward_decay=self.reward_decay,
            scale=self.reward_scale,
            signal_decay=self.signal_decay,
            shrinkage=self.shrinkage,
        )
        self.warm_ = build_mixer(self.warmup_mixer, self.warmup_options) if self.warmup_mixer else None
        if self.warm_ is not None:
            self.warm_.start(start)
        self.state_: np.ndarray | None = None
        self.mixture_ = self._warm_mixture(0) if self._warms(0) else self._decide(np.zeros(self.tracker_.size), 0)
        self.found_: dict[str, float | np.ndarray] = {}

    def _build_agent(self, anchor_K: np.ndarray) -> Agent:
        match self.agent:
            case "mirror":
                return MirrorAscent(anchor_K, uniform_fraction=self.uniform_fraction, step_size=self.mirror_step_size)
            case "bandit":
                return Bandit(anchor_K, uniform_fraction=self.uniform_fraction, total_steps=self._total)
            case "random":
                return RandomSoftmax(
                    anchor_K, uniform_fraction=self.uniform_fraction, logit_std=self.logit_std, rng=self.rng_
                )
        from acodm_core.acodm.agent import Ddpg, MeanDdpg, Sac  # torch, which planning does without

        build = {"sac": Sac, "ddpg_mean": MeanDdpg}.get(self.agent, Ddpg)
        rng = np.random.default_rng(self.rng_.integers(2**31))
        return build(self.tracker_.size, anchor_K, self._settings(), rng)

    def _settings(self) -> Settings:
        """What networks are told: constants stated for ``reference_steps`` become those of this run's length."""
        run = self._total
        of = self.reference_steps or run
        discount = 1 - rescaled(1 - self.discount, of=of, to=run)
        replay_size = min(run, max(self.min_transitions, round(self.replay_size * run / of))) if self.learns else 1
        lrs = np.array([self.actor_lr, self.critic_lr])
        rescaled_lrs = lrs * of / run if self.rescale_lr else lrs
        actor_lr, critic_lr = np.minimum(rescaled_lrs, np.maximum(lrs, LARGEST_LR)).tolist()
        return Settings(
            hidden_size=self.hidden_size,
            layers=self.hidden_layers,
            actor_lr=actor_lr,
            critic_lr=critic_lr,
            discount=discount,
            target_rate=rescaled(self.target_rate, of=of, to=run),
            uniform_fraction=self.uniform_fraction,
            start_at_anchor=self.start_at_anchor,
            # Returns are 1 / (1 - discount) times the reward.
            temperature=self.temperature * (1 - self.discount) / (1 - discount),
            temperature_lr=float(rescaled_lrs[0]),
            replay_size=replay_size,
            minibatch_size=self.minibatch_size,
            min_transitions=self.min_transitions,
            updates=self.updates_per_transition,
            robust=self.robust,
        )

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def observe(self, stats: StepStats) -> None:
        step_norm_L = stats[Signal.PARAM_STEP_NORM] if self.state_form != "relative" else np.empty(0)
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
            self.found_ |= {"reward": float(before @ reward_K), "rewards": reward_K}
            self.found_ |= {"reward_std": float(reward_K.std()), "certainty": self.reward_.certainty}
        self.state_ = state
        self.mixture_ = self._warm_mixture(ahead) if self._warms(ahead) else self._decide(state, ahead)
        self.found_["entropy"] = -float(self.mixture_ @ np.log(np.maximum(self.mixture_, 1e-300)))
        self.found_["from_uniform"] = float(np.abs(self.mixture_ - 1 / len(self.mixture_)).sum()) / 2
        self.found_["moved"] = float(np.abs(self.mixture_ - before).sum()) / 2

    def rewards(self, stats: StepStats) -> np.ndarray:
        """(K,) what this step is worth to the agent, domain by domain."""
        return self.reward_.observe(stats, self.mixture_)

    def _decides(self, step: int) -> bool:
        return step % self.decision_interval == 0

    def _warms(self, step: int) -> bool:
        return step < self._warmup_steps

    def _decide(self, state: np.ndarray, step: int) -> np.ndarray:
        first, last = self.exploration_noise if self.learns else (0.0, 0.0)
        sigma = first + (last - first) * min(1.0, step / self._total)
        mixture_K = self.agent_.act(state, self.rng_.normal(0, sigma, len(self._domains)) if sigma else 0.0)
        if self.subtracted_noise:  # without the uniform part, which the release adds as whole micro-batches
            free_K = (mixture_K - self.uniform_fraction / len(mixture_K)) / (1 - self.uniform_fraction)
            free_K = np.maximum(free_K - self.subtracted_noise * self.rng_.random(len(mixture_K)), 0.0)
            return self._with_uniform_part(simplex(free_K))
        return mixture_K

    def _with_uniform_part(self, mixture_K: np.ndarray) -> np.ndarray:
        return (1 - self.uniform_fraction) * mixture_K + self.uniform_fraction / len(mixture_K)

    def _warm_mixture(self, step: int) -> np.ndarray:
        if self.warm_ is not None:
            mixture_K = self.warm_.sampling_weights(step)
        else:
            noisy_K = self._prior + self.rng_.normal(0, self.warmup_noise, len(self._prior))
            mixture_K = simplex(np.maximum(noisy_K, 1e-4))
        return self._with_uniform_part(mixture_K)

    def diagnostics(self) -> dict[str, float | np.ndarray]:
        return self.found_

    def save(self, folder: Path) -> None:
        if self.agent in ACTORS:
            weights, statistics = self.agent_.actor.network.state_dict(), self.tracker_.normaliser.state_dict()
            save_actor(folder / FILE, weights, statistics, self._shape(), self._domains)

    def _shape(self) -> dict[str, Any]:
        """What decides which actor fits this mixer; ``tensors`` counts those that its state lists."""
        names = ("agent", "anchor", "hidden_size", "hidden_layers", "state_form")
        shape = {name: getattr(self, name) for name in names} | {"state_blocks": self.tracker_.blocks}
        return shape | {"tensors": self.tracker_.tensors}
