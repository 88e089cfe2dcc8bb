"""AC-ODM's agents, in torch: deterministic policy gradient (DDPG) and soft actor-critic (SAC) on the simplex."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from acodm_core.acodm.interface import Settings, Transition
from acodm_core.acodm.networks import LOG_STD_OF_TARGET, Actor, Critic, GaussianActor, perceptron, soft_update
from acodm_core.acodm.replay import Replay


class ActorCritic(ABC):
    """An actor, a critic with its target network, their optimisers, and the replay buffer: what both agents share.

    States have S numbers. The untrained policy draws ``anchor_K`` (K,), or a random mixture, by the settings. ``rng`` draws first
    values, and noise within updates.
    """

    actor_class: type[Actor] = Actor
    actor_outputs, critics = 1, 1  # outputs of the actor's network per domain, and networks of the critic
    saved = ("actor", "critic", "target_critic", "actor_optimiser", "critic_optimiser", "replay")

    def __init__(
        self, state: int, anchor_K: np.ndarray, settings: Settings, rng: np.random.Generator, values: int
    ) -> None:
        self.settings, self.rng, k = settings, rng, len(anchor_K)
        size = (settings.hidden_size, settings.layers)
        network = perceptron(state, *size, k * self.actor_outputs, rng)
        if settings.start_at_anchor:
            for part in network[-1].parameters():
                nn.init.zeros_(part)
        self.actor = self.actor_class(network, anchor_K, settings.uniform_fraction)
        self.critic = Critic(*(perceptron(state + k, *size, values, rng) for _ in range(self.critics)))
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_optimiser = Adam(self.actor.parameters(), settings.actor_lr, fused=True)  # one kernel moves all
        self.critic_optimiser = Adam(self.critic.parameters(), settings.critic_lr, fused=True)
        self.replay = Replay(settings.replay_size, state=state, action=k, reward=values)

    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture for ``state``, with ``noise`` on the logits."""
        with torch.inference_mode():
            logit_noise = torch.as_tensor(noise, dtype=torch.float32, device="cpu")
            mixture_K = self.actor(torch.from_numpy(state).float(), logit_noise).double().numpy()
        return mixture_K / mixture_K.sum()

    @torch.enable_grad()
    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        """Store one transition and learn from minibatches that ``rng`` draws; returns diagnostics of the last update."""
        self.replay.add(transition)
        found: dict[str, float] = {}
        if len(self.replay) >= self.settings.min_transitions:
            for _ in range(self.settings.updates):
                found = self.update(*map(torch.from_numpy, self.replay.sample(self.settings.minibatch_size, rng)))
        return found

    @abstractmethod
    def update(self, states: Tensor, actions: Tensor, rewards: Tensor, next_states: Tensor) -> dict[str, float]:
        """One step of critic and actor on (B, S) states, (B, K) mixtures, (B, values) rewards and (B, S) states."""

    def _regress(self, states: Tensor, actions: Tensor, goal: Tensor) -> dict[str, float]:
        """One step of the critics towards ``goal`` (B, values); diagnostics are the first one's."""
        values = self.critic(states, actions)
        loss = (F.smooth_l1_loss if self.settings.robust else F.mse_loss)(values, goal.expand_as(values))
        norm = self._descend(loss * self.critics, self.critic_optimiser)
        first = values[0].detach()
        return {"q": first.mean().item(), "td_error": (first - goal).abs().mean().item(), "critic_grad_norm": norm}

    def _descend(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> float:
        """One step of what ``optimiser`` moves; returns the norm that the gradient had."""
        parameters = optimiser.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        norm = nn.utils.parameters_to_vector(gradients).norm().item()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient / norm if self.settings.robust and norm > 1 else gradient
        optimiser.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in self.saved} | {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.saved:
            getattr(self, name).load_state_dict(state[name])
        self.rng.bit_generator.state = state["rng"]


class Ddpg(ActorCritic):
    """DDPG with one value per domain: Q(s, a) in R^K, and the actor maximises sum_i a_i Q_i(s, a), the paper's J.

    That objective is linear in the mixture, so its optimum is a corner: one domain, the rest at the uniform part.
    ``temperature`` weighs the divergence from the anchor against it, J - temperature * KL(a || anchor), whose optimum at
    fixed Q is a_i ~ anchor_i exp(Q_i / temperature). The release ascends the plain mean over Q's components
    (agent.py:538), which has no gradient when rewards are standardised over domains.
    """

    saved = (*ActorCritic.saved, "target_actor")

    def __init__(self, state: int, anchor_K: np.ndarray, settings: Settings, rng: np.random.Generator) -> None:
        super().__init__(state, anchor_K, settings, rng, values=len(anchor_K))
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)

    def objective(self, states: Tensor, mixtures: Tensor) -> Tensor:
        """() what the actor ascends, a mean over (B, S) states and its (B, K) mixtures for them."""
        values = self.critic(states, mixtures)[0]
        if self.settings.temperature:  # a softmax can underflow to 0, and 0 log 0 is 0
            values = values - self.settings.temperature * (mixtures.clamp(min=1e-30).log() - self.actor.log_anchor_K)
        return (mixtures * values).sum(-1).mean()

    def update(self, states: Tensor, actions: Tensor, rewards: Tensor, next_states: Tensor) -> dict[str, float]:
        with torch.no_grad():
            following = self.target_critic(next_states, self.target_actor(next_states))[0]
        found = self._regress(states, actions, rewards + self.settings.discount * following)
        objective = self.objective(states, self.actor(states))
        found["actor_grad_norm"] = self._descend(-objective, self.actor_optimiser)
        soft_update(self.target_actor, self.actor, self.settings.target_rate)
        soft_update(self.target_critic, self.critic, self.settings.target_rate)
        return found | {"objective": objective.item()}


class MeanDdpg(Ddpg):
    """DDPG whose actor ascends the plain mean over the critic's K outputs, as the release's would, without a divergence."""

    def objective(self, states: Tensor, mixtures: Tensor) -> Tensor:
        return self.critic(states, mixtures).mean()


class Sac(ActorCritic):
    """Soft actor-critic: logits are Gaussian with learned means and deviations, twin scalar critics, a learned temperature.

    Haarnoja et al., arXiv 1812.05905, with the policy's entropy measured on the logits; target entropy -K, as in HDS
    (arXiv 2606.24133; its release, megatron/data/agent.py). The untrained policy has that entropy: each logit's deviation is
    0.089. The reward is the scalar sum_i a_i r_i. The temperature begins at 1, and Adam moves its logarithm.
    """

    actor_class, actor_outputs, critics = GaussianActor, 2, 2
    saved = (*ActorCritic.saved, "temperature", "temperature_optimiser")

    def __init__(self, state: int, anchor_K: np.ndarray, settings: Settings, rng: np.random.Generator) -> None:
        super().__init__(state, anchor_K, settings, rng, values=1)
        nn.init.constant_(self.actor.network[-1].bias[len(anchor_K) :], LOG_STD_OF_TARGET)
        self.temperature = nn.ParameterDict({"log": torch.zeros(1, dtype=torch.float32, device="cpu")})
        self.temperature_optimiser = Adam(self.temperature.parameters(), settings.temperature_lr, fused=True)

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        reward = np.array([transition.action @ transition.reward])
        return super().learn(transition._replace(reward=reward), rng)

    def sample(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) mixtures that the policy draws for (B, S) states, and the (B,) log density of their logits."""
        return self.actor.sample(states, self.noise(len(states)))

    def noise(self, size: int) -> Tensor:
        """(size, K) standard normal numbers."""
        return torch.from_numpy(self.rng.standard_normal((size, len(self.actor.log_anchor_K)), np.float32))

    def update(self, states: Tensor, actions: Tensor, rewards: Tensor, next_states: Tensor) -> dict[str, float]:
        temperature = self.temperature["log"].exp().item()
        with torch.no_grad():
            mixtures, density = self.sample(next_states)
            following = torch.minimum(*self.target_critic(next_states, mixtures)) - temperature * density[:, None]
        found = self._regress(states, actions, rewards + self.settings.discount * following)
        mixtures, density = self.sample(states)
        objective = torch.minimum(*self.critic(states, mixtures)).mean() - temperature * density.mean()
        found["actor_grad_norm"] = self._descend(-objective, self.actor_optimiser)
        # The gradient of the temperature's logarithm: down where the entropy is above its target -K, up where below.
        self.temperature["log"].grad = actions.shape[-1] - density.detach().mean(0, keepdim=True)
        self.temperature_optimiser.step()
        soft_update(self.target_critic, self.critic, self.settings.target_rate)
        return found | {"objective": objective.item(), "temperature": temperature}
