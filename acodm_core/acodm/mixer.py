"""AC-ODM as a mixer: warm up on the prior, then let the actor decide and learn from the gradients' agreement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acodm_core.acodm.replay import Replay
from acodm_core.acodm.reward import Importance, relative_alignment
from acodm_core.acodm.state import Normaliser, StateTracker
from acodm_core.errors import UserError
from acodm_core.mixing import Mixer, Signal, Start, StepStats, simplex

ACTOR_FILE = "actor.safetensors"


@dataclass
class AcOdm(Mixer):
    """An actor-critic decides the mixture of every step, rewarded where domains' gradients agree.

    Idea:
        A domain whose gradient points where the others' point helps them all; learn from the training state when to draw it.
    Update:
        r_i <- xi r_i + (1 - xi) W_i with W_i = <g_i, sum_{j != i} g_j>; (s, a, r, s') goes to the replay buffer; the critic
        regresses r + gamma Q'(s', mu'(s')), the actor ascends sum_i mu_i(s) Q_i(s, mu(s)); a^{t+1} = mu(s^t) plus noise.
        ``learn: false`` loads the actor of the input run ``actor`` (proxy mode) and only decides.
    Source:
        arXiv 2505.23878, sections on the MDP and on DDPG; release at e95863e, megatron/data/agent.py.
    Differences:
        From the paper: W is measured in units of the mean squared gradient norm, not divided by the share by default
        (``importance``), rewards and state are normalised over time, the untrained policy is uniform, noise is on logits,
        a declared ``floor``. From the release: the actor's optimiser is stepped and its objective is weighted by the mixture,
        rewards are not standardised over domains, deltas are between steps, no forced micro-batches, any number of domains.
        Constants that the paper leaves open (xi, gamma, tau, sizes, learning rates) are ours.
    """

    learn: bool = True
    warmup: float = 0.02  # share of the steps drawn from the prior (paper: 833 of 41,667)
    warmup_noise: float = 0.02  # standard deviation of the noise on the prior (paper: N(0, 0.02))
    xi: float = 0.9  # memory of the reward's moving average
    importance: Importance = "none"
    gamma: float = 0.5
    tau: float = 0.01
    floor: float = 0.25  # share of the mixture spread evenly
    noise: tuple[float, float] = (0.3, 0.05)  # standard deviation on the logits, first and last step
    hidden: int = 64
    layers: int = 2
    actor_lr: float = 1e-3
    critic_lr: float = 3e-3
    replay: int = 10_000
    minibatch: int = 32
    min_pool: int = 8  # transitions before the first update

    cite = "acodm2026"

    @property
    def needs(self) -> frozenset[Signal]:
        """A frozen actor computes no reward, so it asks for no gradients."""
        return frozenset({Signal.LOSS, Signal.PARAM_NORM} | ({Signal.GRAD_GRAM} if self.learn else set()))

    def __post_init__(self) -> None:
        for name in ("xi", "gamma", "floor", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.importance not in ("none", "sum", "literal"):
            raise ValueError(f"importance must be none, sum or literal, got {self.importance!r}")

    def required_inputs(self) -> tuple[str, ...]:
        return () if self.learn else ("actor",)

    def start(self, start: Start) -> None:
        from acodm_core.acodm.agent import Agent  # torch is imported only where a run starts

        k = len(start.domains)
        self._domains, self._prior, self._total = start.domains, start.prior, start.total_steps
        self._warmup_steps = round(self.warmup * start.total_steps) if self.learn else 0
        self.rng_ = start.rng
        self.tracker_ = StateTracker(k, start.total_steps)
        self.state_normaliser_ = Normaliser(self.tracker_.size)
        self.agent_ = Agent(
            self.tracker_.size, k, hidden=self.hidden, layers=self.layers, actor_lr=self.actor_lr,
            critic_lr=self.critic_lr, gamma=self.gamma, tau=self.tau, floor=self.floor, seed=int(self.rng_.integers(2**31)),
        )  # fmt: skip
        if not self.learn:
            self._load_actor(start.input("actor"))
        self.replay_ = Replay(min(self.replay, start.total_steps) if self.learn else 1, self.tracker_.size, k)
        self.reward_normaliser_ = Normaliser(1)
        self.reward_ = np.full(k, np.nan)
        self.state_: np.ndarray | None = None
        self.share_ = self._warm_share() if self._warmup_steps else np.full(k, 1 / k)
        self.found_: dict[str, float] = {}

    def sampling(self, step: int) -> np.ndarray:
        return self.share_

    def observe(self, stats: StepStats) -> None:
        state = self.tracker_.observe(stats.step, stats.tokens, stats[Signal.LOSS], stats[Signal.PARAM_NORM])
        self.state_normaliser_.update(state)
        state = self.state_normaliser_(state)
        if self.learn:
            self._learn(state, stats[Signal.GRAD_GRAM])
        self.state_ = state
        before = self.share_
        if stats.step + 1 < self._warmup_steps:
            self.share_ = self._warm_share()
        else:
            self.share_ = simplex(self.agent_.act(state, self._noise(stats.step)))
        self.found_["entropy"] = float(-(self.share_ * np.log(self.share_)).sum())
        self.found_["moved"] = float(np.abs(self.share_ - before).sum() / 2)

    def _learn(self, state: np.ndarray, gram_KK: np.ndarray) -> None:
        fresh_K = relative_alignment(gram_KK, self.share_, self.importance)
        known_K = np.where(np.isnan(self.reward_), fresh_K, self.xi * self.reward_ + (1 - self.xi) * fresh_K)
        self.reward_ = np.where(np.isfinite(fresh_K), known_K, self.reward_)  # absent: hold the last reward
        reward_K = np.nan_to_num(
            self.reward_, nan=float(np.nanmean(self.reward_)) if np.isfinite(self.reward_).any() else 0.0
        )
        for value in reward_K:
            self.reward_normaliser_.update(np.array([value]))
        if self.state_ is not None:
            scaled_K = (reward_K - self.reward_normaliser_.mean) / self._reward_std()
            self.replay_.add(state=self.state_, action=self.share_, reward=scaled_K, next_state=state)
        if len(self.replay_) >= self.min_pool:
            self.found_ |= self.agent_.update(*self.replay_.sample(self.minibatch, self.rng_))
        self.found_["reward"] = float(self.share_ @ reward_K)

    def _reward_std(self) -> float:
        normaliser = self.reward_normaliser_
        return float(np.sqrt(normaliser.m2[0] / max(1, normaliser.count - 1))) + 1e-6

    def _warm_share(self) -> np.ndarray:
        noisy = self._prior + self.rng_.normal(0, self.warmup_noise, len(self._prior))
        return simplex(np.maximum(noisy, 1e-4))

    def _noise(self, step: int) -> np.ndarray | float:
        if not self.learn:
            return 0.0
        first, last = self.noise
        sigma = first + (last - first) * min(1.0, step / self._total)
        return self.rng_.normal(0, sigma, len(self._domains))

    def diagnostics(self) -> dict[str, float]:
        return self.found_

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        tensors = {f"actor.{name}": value.numpy() for name, value in self.agent_.actor.state_dict().items()}
        tensors |= {"state.mean": self.state_normaliser_.mean, "state.m2": self.state_normaliser_.m2}
        tensors |= {"state.count": np.array(self.state_normaliser_.count)}
        save_file(
            tensors, folder / ACTOR_FILE, metadata={"domains": json.dumps(self._domains), "hidden": str(self.hidden)}
        )

    def _load_actor(self, folder: Path) -> None:
        import torch
        from safetensors import safe_open

        path = folder / ACTOR_FILE
        if not path.exists():
            raise UserError(
                "no actor here", where=str(path), fix="inputs: {actor: NAME} must name a method whose mixer is AC-ODM"
            )
        with safe_open(path, "numpy") as file:
            domains = tuple(json.loads(file.metadata()["domains"]))
            if domains != self._domains:
                raise UserError(
                    f"the actor was learned on domains {list(domains)}, this run has {list(self._domains)}",
                    where=str(path),
                    fix="train the proxy on the same domains in the same order",
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        actor = {n.removeprefix("actor."): torch.from_numpy(t) for n, t in tensors.items() if n.startswith("actor.")}
        try:
            self.agent_.actor.load_state_dict(actor)
        except RuntimeError:
            raise UserError(
                f"the actor was learned with other networks than hidden {self.hidden}, layers {self.layers}",
                where=str(path),
                fix="give this method the options `hidden` and `layers` of the run that learned it",
            ) from None
        self.state_normaliser_.load_state_dict({n: tensors[f"state.{n}"] for n in ("count", "mean", "m2")})
        self.state_normaliser_.frozen = True
