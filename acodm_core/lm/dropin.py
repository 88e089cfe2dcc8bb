"""A mixer in a training loop that is not ours: what to draw, the loss to descend, and the signals it learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from acodm_core.data.sampler import counts
from acodm_core.errors import UserError
from acodm_core.lm.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.lm.model import matching_layers
from acodm_core.lm.step import weight_norms
from acodm_core.mixing import Inputs, Signal, Start, StepStats, build_mixer, simplex
from acodm_core.study.config import ModelConfig

MEASURED = GRADIENT_SIGNALS | {Signal.LOSS, Signal.LEARNING_RATE, Signal.PARAM_NORM}


class Mix:
    """A mixer for one's own loop. A step is: draw ``counts()``, ``with step():`` forward, ``loss(...)``, backward; ``observe()``.

    Sequences have one length; those of a domain lie together in the batch, domains in the order of ``tokens``. One process, one
    forward and backward pass a step.

    Args:
        mixer: its name: a file of the baselines, ``acodm_core.acodm``, or any module of yours.
        tokens: domain -> training tokens that there are, which make the natural shares.
        model, optimiser: what is trained; AdamW where the mixer measures in its metric.
        layers: regular expression of the names of the Linear layers whose gradients are compared.
        batch, context: sequences a step, and tokens a sequence that the loss is taken of.
        options: of the mixer.
        target: domain -> weight in the loss that one compares by; None is the plain mean.
        inputs: role -> folder of a run of ours, for mixers that have inputs.

    Raises:
        UserError: the mixer learns from something that is not measured here; no layer has such a name.
    """

    def __init__(
        self,
        mixer: str,
        tokens: Mapping[str, int],
        model: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        layers: str,
        steps: int,
        batch: int,
        context: int,
        options: Mapping[str, Any] | None = None,
        target: Mapping[str, float] | None = None,
        inputs: Inputs | None = None,
        seed: int = 0,
    ) -> None:
        self.domains, self.batch, self.context, self.seed = tuple(tokens), batch, context, seed
        self.optimiser, self.taken = optimiser, 0
        self._counts_K: np.ndarray | None = None  # of the step that is under way
        self.mixer = build_mixer(mixer, options or {})
        if missing := sorted(self.mixer.needs - MEASURED):
            raise UserError(
                f"{mixer} learns from {', '.join(missing)}, which only the project's own trainer measures",
                fix=f"take one that learns from some of: {', '.join(sorted(MEASURED))}",
            )
        probed = matching_layers(model, layers, where="layers")
        self._weights = [layer.weight for layer in probed]
        self.gradients = None
        if GRADIENT_SIGNALS & self.mixer.needs:
            config = ModelConfig(config={}, lr=1.0, gradient_layers=layers, norm_layers=layers)
            self.gradients = DomainGradients(
                probed,
                len(tokens),
                config,
                tokens=batch * context,
                needs=self.mixer.needs,
                optimiser=optimiser,
                seed=seed,
                limit=sum(p.numel() for p in model.parameters()),
            )
        available_K = np.array(list(tokens.values()))
        self.mixer.start(
            Start(
                domains=self.domains,
                prior=simplex(available_K, name="tokens"),
                tokens_available=available_K,
                total_steps=steps,
                rng=np.random.default_rng([seed, 0x313]),  # a stream apart from the draws'
                inputs=inputs or {},
                target=None if target is None else np.array([target.get(domain, 0.0) for domain in tokens]),
                tensors=len(probed) if Signal.PARAM_NORM in self.mixer.needs else 0,
                tokens_per_step=batch * context,
            )
        )

    def share(self) -> np.ndarray:
        """(K,) the mixture that the coming step asks for."""
        return simplex(self.mixer.sampling(self.taken))

    def counts(self) -> np.ndarray:
        """(K,) sequences of each domain for the coming step; asked again, the same."""
        return counts(self.share(), self.batch, seed=self.seed, step=self.taken)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around the step's forward and backward pass: what the mixer wants to know is measured in them."""
        self._counts_K, self._wants = self.counts(), self.mixer.wants(self.taken)
        with self.gradients.step(self._wants) if self.gradients else nullcontext():
            if self.gradients:
                self.gradients.rows(self._counts_K, self.context)
            yield

    def loss(self, loss_BT: torch.Tensor) -> torch.Tensor:
        """() what to descend: the mean of (batch, context) losses a token, by the mixer's weights if it has some."""
        if self._counts_K is None:
            raise RuntimeError("loss() belongs inside `with mix.step():`, after the last step's observe()")
        if loss_BT.shape != (self.batch, self.context):
            raise ValueError(f"losses of shape {tuple(loss_BT.shape)}, not {(self.batch, self.context)}")
        domain_B = np.repeat(np.arange(len(self.domains)), self._counts_K)
        omega_K = self.mixer.loss_weights(self.taken)
        weight_B = np.ones(self.batch) if omega_K is None else omega_K[domain_B]
        loss_B = loss_BT.mean(1)
        self._loss_B, self._domain_B, self._weight_B = loss_B.detach(), domain_B, weight_B
        return (loss_B * torch.from_numpy(weight_B).to(loss_B)).sum() / weight_B.sum()

    def observe(self) -> StepStats:
        """After the optimiser's step: show the mixer what the step measured, and go on to the next."""
        k, tokens_K = len(self.domains), self._counts_K * self.context
        weighed_K = np.bincount(self._domain_B, self._weight_B, k) * self.context
        with np.errstate(invalid="ignore"):  # an absent domain's is NaN
            loss_K = np.bincount(self._domain_B, self._loss_B.double().cpu().numpy(), k) / self._counts_K
        signals = {Signal.LOSS: loss_K, Signal.LEARNING_RATE: np.array(self.optimiser.param_groups[0]["lr"])}
        if self.gradients:
            signals |= self.gradients.signals(weighed_K)
        if Signal.PARAM_NORM in self._wants:
            signals[Signal.PARAM_NORM] = weight_norms(self._weights)
        stats = StepStats(self.taken, tokens_K, {name: signals[name] for name in self._wants})
        self.mixer.observe(stats)
        self.taken, self._counts_K = self.taken + 1, None
        return stats

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs; beside the positions in one's own data."""
        return {"taken": self.taken, "mixer": self.mixer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.taken = state["taken"]
        self.mixer.load_state_dict(state["mixer"])
