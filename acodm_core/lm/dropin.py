"""A mixer in a training loop that is not ours: what to draw, the loss to descend, and the signals it learns from.

Legend: B sequences of a pass in this process, K domains, R processes (of torch.distributed), T tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakMethod

import numpy as np
import torch

from acodm_core.data.sampler import sequence_counts
from acodm_core.errors import UserError, unknown_name
from acodm_core.lm.distributed.ranks import rank, ranks, sum_over_ranks
from acodm_core.lm.dropin_checks import call_after_steps, check_model, per_domain, resolved
from acodm_core.lm.mixed_step import Decision, decide, show
from acodm_core.lm.model import matching_layers
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.lm.signals.measures import Seen, Tools, measured
from acodm_core.lm.signals.weight_norms import copies
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Inputs, Signal, Source, Start, StepStats, signals_from, simplex
from acodm_core.streams import OWN_LOOP_MIXER, stream
from acodm_core.study.config import ModelConfig

MEASURED = frozenset(signal for signal in Signal if signal.info.source.in_any_loop)


@dataclass
class _Step:
    """What rank 0's mixer decided for the step under way, and what its passes have found."""

    decision: Decision
    counts_RK: np.ndarray
    weights_before: list[torch.Tensor] = field(default_factory=list)  # those whose change is measured
    passes: int = 0
    losses: list[tuple[torch.Tensor, np.ndarray]] = field(default_factory=list)  # (B,) and each one's domain
    scales: list[torch.Tensor] = field(
        default_factory=list
    )  # what each pass's loss was multiplied by before its backward


class Mix:
    """A mixer for one's own loop.

    A step is: draw ``counts()``, ``with step():`` forward, ``loss(...)``, backward; the optimiser's step; ``observe()``. Sequences
    have one length; those of a domain lie together in the batch, domains in the order of ``tokens``.

    Gradients may be accumulated: each pass is a ``with step():`` of its own, with a batch drawn by the same ``counts()``. Under
    torch.distributed each process makes a ``Mix`` and draws its own ``counts()``; rank 0's mixer decides, and what is measured
    is of all of them. Every process must make one, and call ``observe()``.

    Args:
        mixer: its name: a file of the baselines, a method of the catalogue that is one mixer (``acodm``), or a module of yours.
        tokens: domain -> training tokens that there are, which make the natural shares.
        model, optimiser: what is trained; AdamW where the mixer measures in its metric.
        layers: regular expression of the names of the Linear layers whose gradients are compared.
        batch, context: sequences of a pass in one process, and tokens of a sequence that the loss is taken of.
        accumulate: passes a step; None: as many as come. A mixer that asks how many tokens a step has takes None as 1.
        gram: how inner products of domains' gradients are measured: exactly, or by random projections, which are smaller.
        options: of the mixer.
        objective_weights: domain -> weight in the objective loss; None is the plain mean.
        inputs: role -> folder of a run of ours, for mixers that have inputs.

    Raises:
        UserError: the mixer learns from something that is not measured here; no layer has such a name, or the optimiser does not
            train it; the model is cut among processes; an argument that cannot be.
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
        accumulate: int | None = None,
        gram: Literal["exact", "sketch"] = "exact",
        options: Mapping[str, Any] | None = None,
        objective_weights: Mapping[str, float] | None = None,
        inputs: Inputs | None = None,
        seed: int = 0,
    ) -> None:
        if gram not in ("exact", "sketch"):
            raise unknown_name("way", str(gram), ("exact", "sketch"), where="gram")
        for name, value in {"steps": steps, "batch": batch, "context": context, "accumulate": accumulate or 1}.items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"must be a whole number above 0; got {value!r}", where=name)
        self.domains, self.batch, self.context, self.seed = tuple(tokens), batch, context, seed
        self.steps, self.accumulate, self.optimiser, self.taken = steps, accumulate, optimiser, 0
        self.name, options = resolved(mixer, options or {})
        self.mixer = build_mixer(self.name, options)
        if missing := sorted(self.mixer.needs - MEASURED):
            raise UserError(
                f"{mixer} learns from {', '.join(missing)}, which only the project's own trainer measures",
                fix=f"take one that learns from some of: {', '.join(sorted(MEASURED))}",
            )
        probed = matching_layers(model, layers, where="layers")
        self.tools = Tools(model, norm_weights=[layer.weight for layer in probed])
        check_model(model, optimiser, self.tools.norm_weights, self.mixer)
        if GRADIENT_SIGNALS & self.mixer.needs:
            self.tools.gradients = DomainGradients(
                probed,
                len(tokens),
                gram=gram,
                sketch=ModelConfig.model_fields["sketch"].default,
                tokens=batch * context * (accumulate or 1),
                context=context,
                needs=self.mixer.needs,
                optimiser=optimiser,
                seed=seed,
                limit=sum(p.numel() for p in model.parameters()),
            )
        available_K = per_domain(tokens, self.domains, "tokens")
        objective_K = (
            None
            if objective_weights is None
            else per_domain(objective_weights, self.domains, "objective_weights", default=0.0)
        )
        self._start(options, available_K, objective_K, inputs or {})
        self._now = self._decide()
        self._late = False  # whether the optimiser has stepped on passes that observe() has not heard of
        call_after_steps(optimiser, WeakMethod(self._stepped))

    def _start(
        self, options: Mapping[str, Any], available_K: np.ndarray, objective_K: np.ndarray | None, inputs: Inputs
    ) -> None:
        def start(accumulate: int) -> None:
            self.mixer.start(
                Start(
                    domains=self.domains,
                    prior=simplex(available_K, name="tokens"),
                    tokens_available=available_K,
                    total_steps=self.steps,
                    rng=stream(self.seed, OWN_LOOP_MIXER),
                    inputs=inputs,
                    objective_weights=objective_K,
                    tensors=len(self.tools.norm_weights) if set(signals_from(Source.WEIGHTS)) & self.mixer.needs else 0,
                    tokens_per_step=self.batch * self.context * ranks() * accumulate,
                )
            )

        try:
            start(self.accumulate or 0)  # 0: nobody told
        except ValueError:
            if self.accumulate:
                raise
            self.accumulate, self.mixer = 1, build_mixer(self.name, options)
            start(1)

    def share(self) -> np.ndarray:
        """(K,) the mixture that the coming step asks for."""
        return self._now.decision.mixture_K.copy()

    def counts(self) -> np.ndarray:
        """(K,) sequences of each domain for each pass of the coming step in this process; asked again, the same."""
        return self._now.counts_RK[rank()].copy()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around a forward and backward pass: what the mixer wants to know is measured in it. Once each micro-batch.

        Raises:
            UserError: the last step was not observed, or all steps are taken.
        """
        now, gradients = self._now, self.tools.gradients
        if self._late:
            raise UserError(
                f"step {self.taken} was not observed", fix="call observe() after each step of the optimiser"
            )
        if self.taken == self.steps:
            raise UserError(f"all {self.steps} steps are taken", where="steps", fix="name as many as are trained")
        if now.passes == self.accumulate:
            raise UserError(
                f"a step has {self.accumulate} passes, and another one begins",
                where="accumulate",
                fix="call observe() after each step of the optimiser, or say how many passes a step has",
            )
        if any(hasattr(weight, "full_tensor") for weight in self.tools.norm_weights):
            raise UserError("the model is cut among processes (FSDP), and here only whole ones are measured")
        if not now.passes and Signal.PARAM_STEP_NORM in now.decision.wants:
            now.weights_before = copies(self.tools.norm_weights)
        if not now.passes and gradients:
            gradients.begin(now.decision.wants, self.accumulate)
        with gradients.armed() if gradients else nullcontext():
            if gradients:
                gradients.rows(self.counts())
            yield
        now.passes += 1
        if len(now.losses) != now.passes:
            raise UserError("loss() was not called inside `with mix.step():`", fix="call it once in each")
        if gradients and len(now.scales) != now.passes:
            raise UserError("no backward pass was made inside `with mix.step():`", fix="indent loss.backward() into it")

    def loss(self, loss_BT: torch.Tensor) -> torch.Tensor:
        """() what to descend: the mean of (batch, context) losses a token, by the mixer's weights if it has some.

        What it is divided or multiplied by before the backward pass is found out and does not change what is measured.
        """
        now = self._now
        if loss_BT.shape != (self.batch, self.context):
            raise UserError(
                f"losses of shape {tuple(loss_BT.shape)}, not {(self.batch, self.context)}",
                where="loss()",
                fix="one loss a token, without a reduction: cross_entropy(..., reduction='none')",
            )
        if len(now.losses) != now.passes:
            raise UserError("loss() was called twice in one pass", fix="one `with mix.step():` a micro-batch")
        domain_B = np.repeat(np.arange(len(self.domains)), self.counts())
        loss_weight_K = self._loss_weights()
        loss_B = loss_BT.mean(1)
        now.losses.append((loss_B.detach(), domain_B))
        weight_B = torch.from_numpy(loss_weight_K[domain_B]).to(loss_B)
        loss = (loss_B * weight_B).sum() / self._weight_of_a_pass()
        if self.tools.gradients and loss.requires_grad:
            loss.register_hook(now.scales.append)
        return loss

    def observe(self) -> StepStats:
        """After the optimiser's step: show the mixer what the step measured, and go on to the next. Every process calls it.

        Raises:
            UserError: no pass was made, or fewer than ``accumulate``; passes of one step were weighed differently.
        """
        now, k = self._now, len(self.domains)
        if not now.passes or now.passes != (self.accumulate or now.passes):
            raise UserError(
                f"observe() after {now.passes} passes, and a step has {self.accumulate or 'one or more'}",
                where="observe()",
                fix="one `with mix.step():` around each forward and backward pass before it",
            )
        loss_B = torch.cat([loss_B for loss_B, _ in now.losses]).double()
        domain_B = torch.from_numpy(np.concatenate([domain_B for _, domain_B in now.losses])).to(loss_B.device)
        sums = loss_B.new_zeros(k + 1).index_add_(0, domain_B, loss_B)
        sums[k] = now.passes
        *sum_K, passes = sum_over_ranks(sums).tolist()
        if passes != now.passes * ranks():
            raise UserError(f"this process made {now.passes} passes, and all {ranks()} together {passes:.0f}")
        tokens_K = now.passes * now.counts_RK.sum(0) * self.context
        seen = Seen(
            tokens_K=tokens_K,
            weight_K=tokens_K * self._loss_weights(),
            nats_K=np.array(sum_K) * self.context,
            lr=self.optimiser.param_groups[0]["lr"],
            weights_before=now.weights_before,
            divisor=self._weight_of_a_pass() * self.context / self._scale() if now.scales else None,
        )
        stats = show(self.mixer, now.decision, self.taken, tokens_K, measured(self.tools, seen, now.decision.wants))
        self.taken, self._late = self.taken + 1, False
        self._now = self._decide()
        return stats

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, between steps; beside the positions in one's own data."""
        return {"taken": self.taken, "name": self.name, "domains": self.domains, "mixer": self.mixer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave. Every process calls it.

        Raises:
            UserError: it is of another mixer, other domains, or the same in another order.
        """
        for name, mine in (("domains", self.domains), ("name", self.name)):
            found = state.get(name)
            if (tuple(found) if name == "domains" and found else found) != mine:
                raise UserError(
                    f"this state is of {name} {found!r}, and this mixer of {mine!r}", where="load_state_dict()"
                )
        self.taken = state["taken"]
        self.mixer.load_state_dict(state["mixer"])
        self._now, self._late = self._decide(), False

    def _decide(self) -> _Step:
        """Rank 0's answers for the coming step, and what each process draws of the batch of them all."""
        decision = decide(self.mixer, self.taken, name=self.name)
        total_K = sequence_counts(decision.mixture_K, self.batch * ranks(), seed=self.seed, step=self.taken)
        domain_N = np.repeat(np.arange(len(self.domains)), total_K)
        parts = [np.bincount(domain_N[r :: ranks()], minlength=len(self.domains)) for r in range(ranks())]
        return _Step(decision, np.stack(parts))

    def _loss_weights(self) -> np.ndarray:
        loss_weight_K = self._now.decision.loss_weight_K
        return np.ones(len(self.domains)) if loss_weight_K is None else loss_weight_K

    def _weight_of_a_pass(self) -> float:
        """What a process's loss is divided by: the mean over processes of its sequences' weights."""
        total = float((self._now.counts_RK * self._loss_weights()).sum()) / ranks()
        if not total > 0:
            raise UserError(f"{self.name} weighs every sequence of this step by nothing", where="loss_weights")
        return total

    def _scale(self) -> float:
        scales = torch.stack(self._now.scales).double()
        if not torch.allclose(scales, scales[0], rtol=1e-6):
            raise UserError(f"the passes of one step were weighed differently: by {scales.tolist()}", where="loss()")
        return float(scales[0])

    def _stepped(self) -> None:
        self._late = self._now.passes > 0
