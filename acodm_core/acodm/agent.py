"""Actors and critics of AC-ODM: deterministic policy gradient (DDPG) and soft actor-critic (SAC) on the simplex."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acodm_core.acodm.replay import Replay, Transition

LOG_STD = (-5.0, 1.0)  # SAC: limits of the policy's log deviations


def network(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """``layers`` blocks of Linear, LayerNorm, ReLU and a Linear head (arXiv 2505.23878; release at e95863e, agent.py:106-168)."""
    blocks: list[nn.Module] = []
    for width in [inputs] + [hidden] * (layers - 1):
        blocks += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU()]
    return nn.Sequential(*blocks, nn.Linear(hidden, outputs))


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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = network(state, hidden, layers, k * self.heads)
            self.critic = nn.ModuleList(network(state + k, hidden, layers, values) for _ in range(self.critics))
        if zero_head:
            nn.init.zeros_(self.actor[-1].weight)
            nn.init.zeros_(self.actor[-1].bias)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=actor_lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=critic_lr, fused=True)
        self.replay = Replay(replay, state=state, action=k, reward=values)

    def policy(self, logits: Tensor) -> Tensor:
        """Logits to a mixture: softmax around the anchor, above the floor."""
        return (1 - self.floor) * (logits + self.log_anchor).softmax(-1) + self.floor / logits.shape[-1]

    @torch.no_grad()
    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture for ``state``, with ``noise`` on the logits."""
        output = self.actor(torch.as_tensor(state, dtype=torch.float32))
        return self.policy(self.disturbed(output, torch.as_tensor(noise, dtype=torch.float32))).double().numpy()

    def disturbed(self, output: Tensor, noise: Tensor) -> Tensor:
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
    def update(self, batch: Transition) -> dict[str, float]:
        """One critic and one actor step on a minibatch; returns diagnostics."""

    def _descend(self, optimiser: torch.optim.Optimizer, module: nn.Module, loss: Tensor) -> Tensor:
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        return norm

    @torch.no_grad()
    def _follow(self) -> None:
        for target, online in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
            torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), self.tau)

    _PARTS = ("actor", "critic", "target_actor", "target_critic", "actor_optimiser", "critic_optimiser", "replay")

    def state_dict(self) -> dict[str, Any]:
        return {name: copy.deepcopy(getattr(self, name).state_dict()) for name in self._PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._PARTS:  # copied, as torch's optimisers would go on to write into what they loaded
            getattr(self, name).load_state_dict(copy.deepcopy(state[name]))


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

    def objective(self, states: Tensor) -> Tensor:
        """What the actor ascends, a mean over the batch, at a = policy(s)."""
        actions = self.policy(self.actor(states))
        gain = (actions * self.critic[0](torch.cat([states, actions], -1))).sum(-1)
        if self.temperature:
            log_actions = actions.clamp_min(1e-30).log()  # a softmax can underflow to 0, and 0 log 0 is 0
            gain = gain - self.temperature * (actions * (log_actions - self.log_anchor)).sum(-1)
        return gain.mean()

    def update(self, batch: Transition) -> dict[str, float]:
        states, actions, rewards, following = (torch.from_numpy(part) for part in batch)
        with torch.no_grad():
            ahead = self.policy(self.target_actor(following))
            goal = rewards + self.gamma * self.target_critic[0](torch.cat([following, ahead], -1))
        values = self.critic[0](torch.cat([states, actions], -1))
        critic_norm = self._descend(self.critic_optimiser, self.critic, F.smooth_l1_loss(values, goal))
        self.critic.requires_grad_(False)
        objective = self.objective(states)
        actor_norm = self._descend(self.actor_optimiser, self.actor, -objective)
        self.critic.requires_grad_(True)
        self._follow()
        found = {"q": values.mean(), "td_error": (goal - values).abs().mean(), "objective": objective}
        return _numbers(found | {"critic_grad_norm": critic_norm, "actor_grad_norm": actor_norm})


class Sac(Learner):
    """Soft actor-critic: logits are Gaussian with learned means and deviations, twin scalar critics, a learned temperature.

    Haarnoja et al., arXiv 1812.05905, with the policy's entropy measured on the logits; target entropy -K, as in HDS
    (arXiv 2606.24133; its release, megatron/data/agent.py). The reward is the scalar sum_i a_i r_i.
    """

    heads, critics = 2, 2

    def __init__(self, state: int, anchor_K: np.ndarray, *, temperature_lr: float, **settings: Any) -> None:
        super().__init__(state, anchor_K, values=1, **settings)
        self.log_temperature = torch.zeros((), requires_grad=True)
        self.temperature_optimiser = torch.optim.Adam([self.log_temperature], lr=temperature_lr)
        self.generator = torch.Generator().manual_seed(settings["seed"])

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        scalar = np.array([transition.action @ transition.reward])
        return super().learn(transition._replace(reward=scalar), rng)

    def disturbed(self, output: Tensor, noise: Tensor) -> Tensor:
        """Here ``noise`` counts in the policy's own deviations."""
        mean, log_std = output.chunk(2, -1)
        return mean + log_std.clamp(*LOG_STD).exp() * noise

    def sample(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) mixtures and the (B,) log density of their logits."""
        output = self.actor(states)
        noise = torch.randn(len(states), len(self.log_anchor), generator=self.generator)
        log_std = output.chunk(2, -1)[1].clamp(*LOG_STD)
        density = -(0.5 * noise**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
        return self.policy(self.disturbed(output, noise)), density

    def update(self, batch: Transition) -> dict[str, float]:
        states, actions, rewards, following = (torch.from_numpy(part) for part in batch)
        temperature = self.log_temperature.exp().detach()
        with torch.no_grad():
            ahead, density = self.sample(following)
            soft = _least(self.target_critic, following, ahead) - temperature * density
            goal = rewards[:, 0] + self.gamma * soft
        both = [critic(torch.cat([states, actions], -1))[:, 0] for critic in self.critic]
        loss = sum(F.smooth_l1_loss(values, goal) for values in both)
        critic_norm = self._descend(self.critic_optimiser, self.critic, loss)
        self.critic.requires_grad_(False)
        drawn, density = self.sample(states)
        objective = (_least(self.critic, states, drawn) - temperature * density).mean()
        actor_norm = self._descend(self.actor_optimiser, self.actor, -objective)
        self.critic.requires_grad_(True)
        missing = (density.detach() - len(self.log_anchor)).mean()  # target entropy -K minus the policy's entropy
        self.temperature_optimiser.zero_grad()
        (-self.log_temperature * missing).backward()
        self.temperature_optimiser.step()
        self._follow()
        found = {"q": both[0].mean(), "td_error": (goal - both[0]).abs().mean(), "objective": objective}
        found |= {"critic_grad_norm": critic_norm, "actor_grad_norm": actor_norm, "temperature": temperature}
        return _numbers(found)

    _PARTS = (*Learner._PARTS, "temperature_optimiser")

    def state_dict(self) -> dict[str, Any]:
        random = {"log_temperature": self.log_temperature.item(), "generator": self.generator.get_state()}
        return super().state_dict() | random

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_temperature.fill_(state["log_temperature"])
        self.generator.set_state(state["generator"])


def _least(critics: nn.ModuleList, states: Tensor, actions: Tensor) -> Tensor:
    first, second = (critic(torch.cat([states, actions], -1))[:, 0] for critic in critics)
    return torch.minimum(first, second)


def _numbers(found: dict[str, Tensor]) -> dict[str, float]:
    return dict(zip(found, torch.stack([value.detach() for value in found.values()]).tolist(), strict=True))
