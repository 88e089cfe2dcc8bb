"""Actors and critics of AC-ODM: deterministic policy gradient (DDPG) and soft actor-critic (SAC) on the simplex."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acodm_core.acodm.adam import Adam
from acodm_core.acodm.network import Network
from acodm_core.acodm.replay import Replay, Transition

LOG_STD = (-5.0, 1.0)  # SAC: limits of the policy's log deviations


class Learner(ABC):
    """Networks, optimisers and replay buffer that both agents share: an actor, critics, and the critics' slow copies.

    Args:
        anchor_K: (K,) the mixture that logits of zero give.
        floor: share of the mixture spread evenly over the domains; every domain keeps at least floor / K.
        gamma, tau: discount, and the rate at which the target networks follow.
        zero_head: start at the anchor; otherwise the untrained policy is a random mixture that depends on ``seed``.
        replay, minibatch, min_pool: transitions kept, drawn an update, and needed before the first update.
        updates: gradient steps a transition.
    """

    heads = 1  # outputs of the actor a domain
    critics = 1

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
        seed: int,
    ) -> None:
        k = len(anchor_K)
        self.gamma, self.tau, self.floor = gamma, tau, floor
        self.minibatch, self.min_pool, self.updates = minibatch, min_pool, updates
        self.log_anchor = torch.as_tensor(np.log(anchor_K), dtype=torch.float32)
        random = torch.Generator().manual_seed(seed)
        self.actor = Network(state, hidden, layers, k * self.heads, random)
        self.critic = [Network(state + k, hidden, layers, values, random) for _ in range(self.critics)]
        if zero_head:
            for part in self.actor.head:
                part.zero_()
        self.target_actor, self.target_critic = copy.deepcopy((self.actor, self.critic))
        self.actor_optimiser = Adam([self.actor.flat], actor_lr, clip=True)
        self.critic_optimiser = Adam([critic.flat for critic in self.critic], critic_lr, clip=True)
        self.replay = Replay(replay, state=state, action=k, reward=values)

    def policy(self, logits: Tensor) -> Tensor:
        """Logits to a mixture: softmax around the anchor, above the floor."""
        return (logits + self.log_anchor).softmax(-1).mul_(1 - self.floor).add_(self.floor / logits.shape[-1])

    def policy_backward(self, mixture: Tensor, grad: Tensor) -> Tensor:
        """The gradient by the logits, from that by the ``mixture`` which they gave. What all domains share, moves nothing."""
        softmax = mixture - self.floor / mixture.shape[-1]  # times 1 - floor
        return softmax * (grad - (softmax * grad).sum(-1, keepdim=True) / (1 - self.floor))

    @torch.inference_mode()
    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture for ``state``, with ``noise`` on the logits."""
        output = self.actor(torch.as_tensor(state, dtype=torch.float32)[None])[0]
        return self.policy(self.disturbed(output, torch.as_tensor(noise, dtype=torch.float32))).double().numpy()

    def disturbed(self, output: Tensor, noise: Tensor) -> Tensor:
        """The logits that the actor's ``output`` and ``noise`` give."""
        return output + noise

    @torch.inference_mode()  # operations cost less where no gradient could be asked for
    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        """Store one transition and learn from the buffer; returns diagnostics of the last update."""
        self.replay.add(transition)
        found: dict[str, float] = {}
        if len(self.replay) >= self.min_pool:
            for _ in range(self.updates):
                found = self.update(self.replay.sample(self.minibatch, rng))
        return found

    @abstractmethod
    def update(self, batch: Transition) -> dict[str, float]:
        """One critic and one actor step on a minibatch; returns diagnostics."""

    def _regress(self, critic: Network, inputs: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """The critic's values and their errors; its gradient is that of the mean Huber loss."""
        values, tape = critic.forward(inputs)
        error = values - goal
        critic.backward(tape, error.clamp(-1, 1) / error.numel())
        return values, error

    def _follow(self) -> None:
        pairs = zip((self.target_actor, *self.target_critic), (self.actor, *self.critic), strict=True)
        for target, online in pairs:
            target.flat.lerp_(online.flat, self.tau)

    def _parts(self) -> dict[str, Any]:
        critics = {f"critic_{i}": critic for i, critic in enumerate(self.critic)}
        critics |= {f"target_critic_{i}": critic for i, critic in enumerate(self.target_critic)}
        optimisers = {"actor_optimiser": self.actor_optimiser, "critic_optimiser": self.critic_optimiser}
        return {"actor": self.actor, "target_actor": self.target_actor, "replay": self.replay} | critics | optimisers

    def state_dict(self) -> dict[str, Any]:
        return {name: copy.deepcopy(part.state_dict()) for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(copy.deepcopy(state[name]))  # torch's optimisers go on to write into what they loaded


class Ddpg(Learner):
    """DDPG with one value a domain: Q(s, a) in R^K, and the actor maximises sum_i a_i Q_i(s, a), the paper's J.

    That objective is linear in the mixture, so its optimum is a corner: one domain, the rest at the floor. ``temperature``
    weighs the divergence from the anchor against it, J - temperature * KL(a || anchor), whose optimum at fixed Q is
    a_i ~ anchor_i exp(Q_i / temperature). The release ascends the plain mean over Q's components (agent.py:538), which has no
    gradient when rewards are standardised over domains.
    """

    def __init__(self, state: int, anchor_K: np.ndarray, *, temperature: float, **settings: Any) -> None:
        super().__init__(state, anchor_K, values=len(anchor_K), **settings)
        self.temperature = temperature

    def objective(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """What the actor ascends at its (B, K) ``actions``, a mean over the batch, and its (B, K) gradient by them."""
        values, tape = self.critic[0].forward(torch.cat([states, actions], -1))
        slope = self.critic[0].inputs_backward(tape, actions)[:, states.shape[1] :]
        if self.temperature:
            # A softmax can underflow to 0, and 0 log 0 is 0.
            values = values - self.temperature * (actions.clamp_min(1e-30).log() - self.log_anchor)
        gain = torch.dot(actions.flatten(), values.flatten())
        return gain / len(states), (values + slope) / len(states)  # less temperature, which all domains share

    def update(self, batch: Transition) -> dict[str, float]:
        states, actions, rewards, following = (torch.from_numpy(part) for part in batch)
        ahead = self.policy(self.target_actor(following))
        goal = rewards + self.gamma * self.target_critic[0](torch.cat([following, ahead], -1))
        values, error = self._regress(self.critic[0], torch.cat([states, actions], -1), goal)
        critic_norm = self.critic_optimiser.step()
        logits, tape = self.actor.forward(states)
        mixtures = self.policy(logits)
        objective, slope = self.objective(states, mixtures)
        self.actor.backward(tape, -self.policy_backward(mixtures, slope))
        actor_norm = self.actor_optimiser.step()
        self._follow()
        found = {"q": values.mean(), "td_error": error.abs().mean(), "objective": objective}
        return _numbers(found | {"critic_grad_norm": critic_norm, "actor_grad_norm": actor_norm})


class MeanDdpg(Ddpg):
    """DDPG whose actor ascends the plain mean over the critic's K outputs, as the release's would (agent.py:538).

    The mixture weighs nothing in that; it counts only as an input of the critic. ``temperature`` is not used.
    """

    def objective(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        values, tape = self.critic[0].forward(torch.cat([states, actions], -1))
        slope = self.critic[0].inputs_backward(tape, torch.full_like(values, 1 / values.numel()))
        return values.mean(), slope[:, states.shape[1] :]


class Sac(Learner):
    """Soft actor-critic: logits are Gaussian with learned means and deviations, twin scalar critics, a learned temperature.

    Haarnoja et al., arXiv 1812.05905, with the policy's entropy measured on the logits; target entropy -K, as in HDS
    (arXiv 2606.24133; its release, megatron/data/agent.py). The reward is the scalar sum_i a_i r_i.
    """

    heads, critics = 2, 2

    def __init__(self, state: int, anchor_K: np.ndarray, *, temperature_lr: float, **settings: Any) -> None:
        super().__init__(state, anchor_K, values=1, **settings)
        self.log_temperature = torch.zeros(())
        self.temperature_optimiser = Adam([self.log_temperature], temperature_lr)
        self.generator = torch.Generator().manual_seed(settings["seed"])

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        scalar = np.array([transition.action @ transition.reward])
        return super().learn(transition._replace(reward=scalar), rng)

    def disturbed(self, output: Tensor, noise: Tensor) -> Tensor:
        """Here ``noise`` counts in the policy's own deviations."""
        mean, log_std = output.chunk(2, -1)
        return mean + log_std.clamp(*LOG_STD).exp_() * noise

    def draw(self, rows: int) -> Tensor:
        """(rows, K) standard normal noise."""
        return torch.randn(rows, len(self.log_anchor), generator=self.generator)

    def sample(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the actor's ``output``: (B, K) mixtures, the (B,) log density of their logits, and the (B, K) noise in them."""
        noise = self.draw(len(output))
        log_std = output.chunk(2, -1)[1].clamp(*LOG_STD)
        density = (
            -torch.addcmul(log_std, noise, noise, value=0.5).sum(-1) - 0.5 * math.log(2 * math.pi) * noise.shape[1]
        )
        return self.policy(self.disturbed(output, noise)), density, noise

    def objective(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The lesser critic's value of (B, K) ``actions``, a mean over the batch, and its (B, K) gradient by them."""
        inputs = torch.cat([states, actions], -1)
        (one, one_tape), (other, other_tape) = (critic.forward(inputs) for critic in self.critic)
        by_one = (one <= other).float() / len(states)
        slope = self.critic[0].inputs_backward(one_tape, by_one)
        slope += self.critic[1].inputs_backward(other_tape, 1 / len(states) - by_one)
        return torch.minimum(one, other).mean(), slope[:, states.shape[1] :]

    def output_backward(self, output: Tensor, noise: Tensor, grad: Tensor, temperature: Tensor) -> Tensor:
        """The gradient by the actor's ``output`` of the objective less temperature * density, from that by the logits."""
        log_std = output.chunk(2, -1)[1]
        clamped = log_std.clamp(*LOG_STD)
        by_log_std = grad * noise * clamped.exp() + temperature / len(output)
        return torch.cat([grad, by_log_std * (log_std == clamped)], -1)

    def update(self, batch: Transition) -> dict[str, float]:
        states, actions, rewards, following = (torch.from_numpy(part) for part in batch)
        temperature = self.log_temperature.exp()
        ahead, density, _ = self.sample(self.actor(following))
        later = torch.cat([following, ahead], -1)
        least = torch.minimum(*(critic(later) for critic in self.target_critic))
        goal = rewards + self.gamma * (least - temperature * density[:, None])
        taken = torch.cat([states, actions], -1)
        (values, error), _ = (self._regress(critic, taken, goal) for critic in self.critic)
        critic_norm = self.critic_optimiser.step()
        output, tape = self.actor.forward(states)
        mixtures, density, noise = self.sample(output)
        value, slope = self.objective(states, mixtures)
        by_logits = self.policy_backward(mixtures, slope)
        self.actor.backward(tape, -self.output_backward(output, noise, by_logits, temperature))
        actor_norm = self.actor_optimiser.step()
        # Down where the policy's entropy is above its target -K, up where it is below.
        self.log_temperature.grad = len(self.log_anchor) - density.mean()
        self.temperature_optimiser.step()
        self._follow()
        found = {"q": values.mean(), "td_error": error.abs().mean()}
        found |= {"objective": value - temperature * density.mean(), "temperature": temperature}
        return _numbers(found | {"critic_grad_norm": critic_norm, "actor_grad_norm": actor_norm})

    def _parts(self) -> dict[str, Any]:
        return super()._parts() | {"temperature_optimiser": self.temperature_optimiser}

    def state_dict(self) -> dict[str, Any]:
        random = {"log_temperature": self.log_temperature.item(), "generator": self.generator.get_state()}
        return super().state_dict() | random

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.log_temperature.fill_(state["log_temperature"])
        self.generator.set_state(state["generator"])


def _numbers(found: dict[str, Tensor]) -> dict[str, float]:
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
