"""Actor and critic of AC-ODM: deep deterministic policy gradient (DDPG) on the simplex."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def network(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """``layers`` blocks of Linear, LayerNorm, ReLU and a Linear head (arXiv 2505.23878; release at e95863e, agent.py:106-168)."""
    blocks: list[nn.Module] = []
    for width in [inputs] + [hidden] * (layers - 1):
        blocks += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU()]
    return nn.Sequential(*blocks, nn.Linear(hidden, outputs))


class Agent:
    """DDPG with one value a domain: Q(s, a) in R^K, and the actor maximises sum_i a_i Q_i(s, a), the paper's J.

    The mean over Q's components, which the release uses, has no gradient when rewards are standardised over domains.

    Args:
        floor: share of the mixture spread evenly over the domains; every domain keeps at least floor / K.
        gamma, tau: discount, and the rate at which the target networks follow.
    """

    def __init__(
        self,
        state: int,
        domains: int,
        *,
        hidden: int,
        layers: int,
        actor_lr: float,
        critic_lr: float,
        gamma: float,
        tau: float,
        floor: float,
        seed: int,
    ) -> None:
        self.gamma, self.tau, self.floor = gamma, tau, floor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = network(state, hidden, layers, domains)
            self.critic = network(state + domains, hidden, layers, domains)
        nn.init.zeros_(self.actor[-1].weight)  # the untrained policy is uniform, not a random mixture
        nn.init.zeros_(self.actor[-1].bias)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=actor_lr, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=critic_lr, fused=True)

    def policy(self, logits: Tensor) -> Tensor:
        """Logits to a mixture: softmax above the floor."""
        return (1 - self.floor) * logits.softmax(-1) + self.floor / logits.shape[-1]

    @torch.no_grad()
    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture for ``state``, with ``noise`` added to the logits."""
        logits = self.actor(torch.as_tensor(state, dtype=torch.float32)) + torch.as_tensor(noise, dtype=torch.float32)
        return self.policy(logits).double().numpy()

    def objective(self, states: Tensor) -> Tensor:
        """What the actor ascends: the batch mean of sum_i a_i Q_i(s, a) at a = policy(s)."""
        actions = self.policy(self.actor(states))
        return (actions * self.critic(torch.cat([states, actions], -1))).sum(-1).mean()

    def update(self, *batch: np.ndarray) -> dict[str, float]:
        """One critic and one actor step on a minibatch (states, actions, rewards, next states); returns diagnostics."""
        states, actions, rewards, following = (torch.from_numpy(part) for part in batch)
        with torch.no_grad():
            ahead = self.policy(self.target_actor(following))
            goal = rewards + self.gamma * self.target_critic(torch.cat([following, ahead], -1))
        values = self.critic(torch.cat([states, actions], -1))
        td = goal - values
        self.critic_optimiser.zero_grad()
        F.smooth_l1_loss(values, goal).backward()
        critic_norm = nn.utils.clip_grad_norm_(self.critic.parameters(), 1.0)
        self.critic_optimiser.step()

        self.critic.requires_grad_(False)
        objective = self.objective(states)
        self.actor_optimiser.zero_grad()
        (-objective).backward()
        self.critic.requires_grad_(True)
        actor_norm = nn.utils.clip_grad_norm_(self.actor.parameters(), 1.0)
        self.actor_optimiser.step()
        with torch.no_grad():
            for target, online in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
                torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), self.tau)
        found = {"td_error": td.detach().abs().mean(), "q": values.detach().mean(), "objective": objective.detach()}
        found |= {"critic_grad_norm": critic_norm, "actor_grad_norm": actor_norm}
        return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))

    _PARTS = ("actor", "critic", "target_actor", "target_critic", "actor_optimiser", "critic_optimiser")

    def state_dict(self) -> dict[str, Any]:
        return {name: copy.deepcopy(getattr(self, name).state_dict()) for name in self._PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])
