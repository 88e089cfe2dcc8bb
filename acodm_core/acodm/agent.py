"""Actors and critics of AC-ODM: deterministic policy gradient (DDPG) and soft actor-critic (SAC) on the simplex."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from acodm_core.acodm.adam import Adam, clip
from acodm_core.acodm.network import Network, Pair, Tape
from acodm_core.acodm.replay import Minibatch, Replay, Transition

LOG_STD = (-5.0, -1.0)  # SAC: limits of the policy's log deviations; with larger ones each step draws another mixture
AT_TARGET = -1.0 - 0.5 * math.log(2 * math.pi * math.e)  # log deviation of a Gaussian whose entropy is -1


class Learner(ABC):
    """Networks, optimisers and replay buffer that both agents share: an actor, critics, and the critics' slow copies.

    Args:
        anchor_K: (K,) the mixture that logits of zero give.
        floor: share of the mixture spread evenly over the domains; every domain keeps at least floor / K.
        gamma, tau: discount, and the rate at which the target networks follow.
        zero_head: start at the anchor; otherwise the untrained policy is a random mixture that depends on ``seed``.
        replay, minibatch, min_pool: transitions kept, drawn an update, and needed before the first update.
        updates: gradient steps a transition.
        robust: errors beyond 1 count linearly (Huber), and gradients are held to a norm of 1; else squared errors, and
            gradients as they are.
    """

    heads = 1  # outputs of the actor a domain
    critics = 1
    slow_actor = False  # whether goals are made with a slow copy of the actor, too

    def __init__(
        self,
        state: int,
        anchor_K: np.ndarray,
        *,
        values: int,
        hidden: int,
        layers: int,
        actor_lr: float,
        critic_lr: float,
        gamma: float,
        tau: float,
        floor: float,
        zero_head: bool,
        replay: int,
        minibatch: int,
        min_pool: int,
        updates: int,
        robust: bool,
        seed: int,
    ) -> None:
        k = len(anchor_K)
        self.robust = robust
        self.gamma, self.tau, self.floor = gamma, tau, floor
        self.minibatch, self.min_pool, self.updates = minibatch, min_pool, updates
        self.log_anchor_K = np.log(anchor_K).astype(np.float32)
        self._over_domains = np.ones((k, 1), np.float32)  # a product with it is faster than numpy's own sum
        self.random = np.random.default_rng(seed)
        actor = Network(state, hidden, layers, k * self.heads, self.random)
        critic = Network(state + k, hidden, layers, values, self.random, self.critics)
        if zero_head:
            for part in actor.head:
                part.fill(0)
        self.actor_optimiser = Adam(actor.flat.shape, actor_lr)
        self.critic_optimiser = Adam(critic.flat.shape, critic_lr)
        self._actors, self._critics = Pair(actor) if self.slow_actor else actor, Pair(critic)
        self.replay = Replay(replay, state=state, action=k, reward=values)

    @property
    def _longest(self) -> float:
        return 1.0 if self.robust else math.inf

    @property
    def actor(self) -> Network:
        return self._actors.network if self.slow_actor else self._actors

    @property
    def critic(self) -> Network:
        return self._critics.network

    @property
    def target_critic(self) -> Network:
        return self._critics.slow

    def policy(self, logits: np.ndarray) -> np.ndarray:
        """Logits to a mixture: softmax around the anchor, above the floor."""
        share = logits + self.log_anchor_K
        share -= np.maximum.reduce(share, -1, keepdims=True)
        np.exp(share, out=share)
        share *= (1 - self.floor) / (share @ self._over_domains)
        share += self.floor / share.shape[-1]
        return share

    def policy_backward(self, mixture: np.ndarray, grad: np.ndarray) -> np.ndarray:
        """The gradient by the logits, from that by the ``mixture`` which they gave. What all domains share, moves nothing."""
        softmax = mixture - self.floor / mixture.shape[-1]  # times 1 - floor
        return softmax * (grad - (softmax * grad) @ self._over_domains / (1 - self.floor))

    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture for ``state``, with ``noise`` on the logits."""
        output = self.actor(state[None].astype(np.float32))[0, 0]
        mixture_K = self.policy(self.disturbed(output, noise)).astype(np.float64)
        return mixture_K / np.add.reduce(mixture_K)

    def disturbed(self, output: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
        """The logits that the actor's ``output`` and ``noise`` give."""
        return output + noise

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        """Store one transition and learn from the buffer; returns diagnostics of the last update."""
        self.replay.add(transition)
        found: dict[str, float] = {}
        if len(self.replay) >= self.min_pool:
            for _ in range(self.updates):
                found = self.update(self.replay.sample(self.minibatch, rng))
        return found

    @abstractmethod
    def update(self, batch: Minibatch) -> dict[str, float]:
        """One critic and one actor step on a minibatch, whose room for mixtures it fills; returns diagnostics."""

    def _regress(self, values: np.ndarray, goal: np.ndarray, tape: Tape) -> dict[str, float]:
        """Step the critics towards ``goal``, down the gradient of their mean losses; diagnostics are the first one's."""
        error = values - goal
        slope = np.minimum(np.maximum(error, -1), 1) if self.robust else 2 * error
        self.critic.backward(tape, slope * (1 / goal.size))
        norm = clip(self.critic.grad, self._longest)
        self.critic_optimiser.step(self.critic.flat, self.critic.grad)
        q, size = float(values[0].sum()) / goal.size, float(np.abs(error[0]).sum()) / goal.size
        return {"q": q, "td_error": size, "critic_grad_norm": norm}

    def _ascend(self, tape: Tape, slope: np.ndarray) -> float:
        """Step the actor up the objective, from its (1, B, outputs) gradient by the outputs; returns the gradient's norm."""
        self.actor.backward(tape, -slope)
        norm = clip(self.actor.grad, self._longest)
        self.actor_optimiser.step(self.actor.flat, self.actor.grad)
        return norm

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self._actors, "critic": self._critics, "replay": self.replay,
            "actor_optimiser": self.actor_optimiser, "critic_optimiser": self.critic_optimiser,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])


class Ddpg(Learner):
    """DDPG with one value a domain: Q(s, a) in R^K, and the actor maximises sum_i a_i Q_i(s, a), the paper's J.

    That objective is linear in the mixture, so its optimum is a corner: one domain, the rest at the floor. ``temperature``
    weighs the divergence from the anchor against it, J - temperature * KL(a || anchor), whose optimum at fixed Q is
    a_i ~ anchor_i exp(Q_i / temperature). The release ascends the plain mean over Q's components (agent.py:538), which has no
    gradient when rewards are standardised over domains.
    """

    slow_actor = True

    def __init__(self, state: int, anchor_K: np.ndarray, *, temperature: float, **settings: Any) -> None:
        super().__init__(state, anchor_K, values=len(anchor_K), **settings)
        self.temperature = temperature

    @property
    def target_actor(self) -> Network:
        return self._actors.slow

    def objective(self, inputs: np.ndarray) -> tuple[float, np.ndarray]:
        """What the actor ascends, a mean over (B, S + K) states and its mixtures for them, and its (B, K) gradient by these."""
        size, mixtures = len(inputs), inputs[:, -len(self.log_anchor_K) :]
        (values,), tape = self.critic.forward(inputs)
        slope = self.critic.inputs_backward(tape, mixtures[None], len(self.log_anchor_K))[0]
        if self.temperature:
            # A softmax can underflow to 0, and 0 log 0 is 0.
            values = values - self.temperature * (np.log(np.maximum(mixtures, 1e-30)) - self.log_anchor_K)
        slope = slope + values  # less temperature, which all domains share
        slope *= 1 / size
        return float((mixtures * values).sum()) / size, slope

    def update(self, batch: Minibatch) -> dict[str, float]:
        inputs, rewards = batch
        k = len(self.log_anchor_K)
        states, mixtures = inputs[..., :-k], inputs[..., -k:]  # of now and of what followed
        logits, tape = self._actors.forward(states[:, None])
        drawn = self.policy(logits[:, 0])
        mixtures[1] = drawn[1]
        (values, later), regress = self._critics.forward(inputs[:, None])
        found = self._regress(values, rewards + self.gamma * later[0], regress)
        mixtures[0] = drawn[0]
        found["objective"], slope = self.objective(inputs[0])
        found["actor_grad_norm"] = self._ascend(tape, self.policy_backward(drawn[:1], slope))
        self._actors.follow(self.tau)
        self._critics.follow(self.tau)
        return found


class MeanDdpg(Ddpg):
    """DDPG whose actor ascends the plain mean over the critic's K outputs, as the release's would (agent.py:538).

    The mixture weighs nothing in that; it counts only as an input of the critic. ``temperature`` is not used.
    """

    def objective(self, inputs: np.ndarray) -> tuple[float, np.ndarray]:
        values, tape = self.critic.forward(inputs)
        slope = self.critic.inputs_backward(tape, np.full_like(values, 1 / values.size), len(self.log_anchor_K))
        return float(values.sum()) / values.size, slope[0]


class Sac(Learner):
    """Soft actor-critic: logits are Gaussian with learned means and deviations, twin scalar critics, a learned temperature.

    Haarnoja et al., arXiv 1812.05905, with the policy's entropy measured on the logits; target entropy -K, as in HDS
    (arXiv 2606.24133; its release, megatron/data/agent.py). The untrained policy has that entropy: each logit's deviation is
    0.089. The reward is the scalar sum_i a_i r_i.

    Args:
        temperature_lr: Adam's step on the logarithm of the temperature, which begins at 0.
    """

    heads, critics = 2, 2

    def __init__(self, state: int, anchor_K: np.ndarray, *, temperature_lr: float, **settings: Any) -> None:
        super().__init__(state, anchor_K, values=1, **settings)
        self.actor.head[1][..., len(anchor_K) :] = AT_TARGET
        self.log_temperature, self.temperature_optimiser = 0.0, Adam((), temperature_lr)

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        scalar = np.array([transition.action @ transition.reward])
        return super().learn(transition._replace(reward=scalar), rng)

    def disturbed(self, output: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
        """Here ``noise`` counts in the policy's own deviations."""
        k = len(self.log_anchor_K)
        return output[..., :k] + np.exp(_limited(output[..., k:])) * noise

    def draw(self, *shape: int) -> np.ndarray:
        """(\\*shape, K) standard normal noise."""
        return self.random.standard_normal((*shape, len(self.log_anchor_K)), np.float32)

    def sample(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From the actor's (..., 2K) ``output``: (..., K) mixtures, their logits' (...,) log density and (..., K) deviations."""
        noise, k = self.draw(*output.shape[:-1]), len(self.log_anchor_K)
        log_std = _limited(output[..., k:])
        density = -0.5 * (np.vecdot(noise, noise) + math.log(2 * math.pi) * k) - (log_std @ self._over_domains)[..., 0]
        noise *= np.exp(log_std)
        return self.policy(output[..., :k] + noise), density, noise

    def objective(self, inputs: np.ndarray) -> tuple[float, np.ndarray]:
        """The lesser critic's value, a mean over (B, S + K) states and mixtures for them, and its (B, K) gradient by these."""
        size = len(inputs)
        values, tape = self.critic.forward(inputs)
        least = np.minimum(*values)  # where they agree to the last bit, both count
        slope = self.critic.inputs_backward(tape, (values == least) * np.float32(1 / size), len(self.log_anchor_K))
        return float(least.sum()) / size, slope[0] + slope[1]

    def output_backward(
        self, output: np.ndarray, apart: np.ndarray, grad: np.ndarray, temperature: float
    ) -> np.ndarray:
        """The gradient by the actor's ``output`` of the objective less temperature * density, from that by the logits.

        ``apart`` is what deviations added to the logits.
        """
        log_std = output[..., apart.shape[-1] :]
        by_log_std = grad * apart
        by_log_std += temperature / len(output)
        by_log_std *= log_std == _limited(log_std)
        return np.concatenate([grad, by_log_std], -1)

    def update(self, batch: Minibatch) -> dict[str, float]:
        inputs, rewards = batch
        k = len(self.log_anchor_K)
        states, mixtures = inputs[..., :-k], inputs[..., -k:]  # of now and of what followed
        temperature = math.exp(self.log_temperature)
        outputs, tape = self.actor.forward(states)
        drawn, (density, ahead), (apart, _) = self.sample(outputs)
        mixtures[1] = drawn[1]
        (values, later), regress = self._critics.forward(inputs[:, None])
        least = np.minimum(*later) - temperature * ahead[:, None]
        found = self._regress(values, rewards + self.gamma * least, regress)
        mixtures[0] = drawn[0]
        value, slope = self.objective(inputs[0])
        by_logits = self.policy_backward(drawn[0], slope)
        by_output = self.output_backward(outputs[0], apart, by_logits, temperature)
        now = [tuple(part[:1] for part in block) for block in tape]
        found["actor_grad_norm"] = self._ascend(now, by_output[None])
        # Down where the policy's entropy is above its target -K, up where it is below.
        entropy = -float(density.sum()) / len(density)
        self.log_temperature = self.temperature_optimiser.moved(self.log_temperature, entropy + k)
        self._critics.follow(self.tau)
        return found | {"objective": value + temperature * entropy, "temperature": temperature}

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"temperature_optimiser": self.temperature_optimiser}

    def state_dict(self) -> dict[str, Any]:
        random = {"log_temperature": self.log_temperature, "random": self.random.bit_generator.state}
        return super().state_dict() | random

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.log_temperature = state["log_temperature"]
        self.random.bit_generator.state = state["random"]


def _limited(log_std: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(log_std, LOG_STD[0]), LOG_STD[1])  # np.clip takes longer
