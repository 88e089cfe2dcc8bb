"""The contract between a mixer (which only decides) and the trainer (which measures what the mixer asked for).

Time is strictly causal. At every optimiser step ``t`` the trainer calls ``sampling_weights(t)`` and ``loss_weights(t)``, draws and
trains on that mixture, then calls ``observe`` with what step ``t`` measured. A mixer never sees the future and never runs
the model. Everything here is float64 numpy on the CPU. Steps count from 0.

Shapes are letters: K domains, B sequences of a step, T steps or positions, G groups of domains, L probed weight tensors, D random
projections, H hidden units, A adapters, M models with merged adapters, N runs of a swarm; () is one number.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from acodm_core.domain_vectors import read_swarm, save_member, save_weights, simplex, softmax
from acodm_core.errors import UserError

__all__ = [
    "Adapters", "Inputs", "Mixer", "Signal", "SignalInfo", "Source", "Start", "StepStats", "read_swarm", "save_member",
    "save_weights", "signals_from", "simplex", "softmax",
]  # fmt: skip


class Source(StrEnum):
    """What a signal is measured on, which says whose values there are, and at what cost."""

    LOSSES = "losses of the batch"  # known anyway
    TOKENS = "tokens of the batch"
    REFERENCE = "the batch under a frozen model"  # forward passes of its own
    GRADIENTS = "gradients of the batch"  # split by domain inside the step's own backward pass
    ADAM_GRADIENTS = "gradients of the batch in AdamW's metric"  # the same way
    HELD_OUT = "held-out text"  # of every domain, after the step: forward passes of its own
    WEIGHTS = "weights"  # the probed tensors
    SCHEDULE = "the optimiser's settings"

    @property
    def of_batch(self) -> bool:
        """Whether it is measured on the drawn batch, so that a domain which the step did not draw is NaN."""
        return self not in (Source.HELD_OUT, Source.WEIGHTS, Source.SCHEDULE)

    @property
    def of_gradients(self) -> bool:
        """Whether the step's own backward pass measures it on the probed layers."""
        return self in (Source.GRADIENTS, Source.ADAM_GRADIENTS)

    @property
    def in_any_loop(self) -> bool:
        """Whether a training loop that is not ours can measure it, too: it has losses, a backward pass and an optimiser."""
        return not self.own_passes and self is not Source.TOKENS

    @property
    def own_passes(self) -> bool:
        """Whether it takes forward passes beside those of the training step."""
        return self in (Source.REFERENCE, Source.HELD_OUT)


@dataclass(frozen=True)
class SignalInfo:
    """What a signal is. A third party can measure it by these lines alone."""

    shape: str  # a letter per axis
    source: Source
    unit: str
    meaning: str
    cost: str = "none"  # operations beside the plain training step
    recorded: Literal["values", "products", "metrics"] = "values"
    # as itself or as the inner products of its rows in signals.parquet, or in metrics.parquet already
    sequences: int = 1  # the fewest of a domain in the batch; with fewer the domain is NaN

    @property
    def of_domains(self) -> bool:
        """Whether its first axis is the domains."""
        return self.shape[:1] == "K"


class Signal(StrEnum):
    """What a mixer may ask the trainer to measure: the one table of all signals. ``Signal.LOSS.info`` is a line of it.

    Only what is asked for is measured, and its time counts as the mixer's cost. All values are float64. A domain that the step
    did not draw is NaN where the source is the batch; in a (K, K) signal so are its row and its column. Values from held-out
    text, weights and schedule are there in every step. The gradient of domain i, g_i, is that of its mean training loss (nats per
    token, over its tokens in this step's batch) by the weights of the probed layers (``gradient_layers``), before clipping and
    whatever ``loss_weights`` says.
    """

    info: SignalInfo

    def __new__(cls, name: str, info: SignalInfo) -> Signal:
        signal = str.__new__(cls, name)
        signal._value_, signal.info = name, info
        return signal

    # fmt: off
    LOSS = "loss", SignalInfo(
        "K", Source.LOSSES, "nats per token", recorded="metrics",
        meaning="mean training loss over the domain's tokens in this step's batch, before the update")
    EXCESS_LOSS = "excess_loss", SignalInfo(
        "K", Source.REFERENCE, "nats per token", cost="a forward pass of the reference model per sequence",
        meaning="mean over the domain's tokens in the batch of max(0, loss - loss under the model of the input run `reference`)")
    VALID_LOSS = "valid_loss", SignalInfo(
        "K", Source.HELD_OUT, "nats per token", cost="a forward pass per held-out sequence",
        meaning="mean loss on the domain's held-out text, which the run's curves do not use, after the update")
    LEARNING_RATE = "learning_rate", SignalInfo(
        "", Source.SCHEDULE, "1", recorded="metrics",
        meaning="the optimiser's learning rate in this step")
    GRAD_GRAM = "grad_gram", SignalInfo(
        "KK", Source.GRADIENTS, "gradient squared", cost="inside the backward pass: K x K products of gradients, or a sketch",
        meaning="inner products <g_i, g_j>; with `gram: sketch` their unbiased estimates from projections")
    GRAD_SKETCH = "grad_sketch", SignalInfo(
        "KD", Source.GRADIENTS, "gradient", cost="inside the passes: projections of every token", recorded="products",
        meaning="random projections of g_i, the same in every step: the product of rows i and j estimates <g_i, g_j> without bias")
    GRAD_SELF = "grad_self", SignalInfo(
        "K", Source.GRADIENTS, "gradient squared", cost="inside the passes: projections of every token", sequences=2,
        meaning="unbiased estimate of the squared norm of the expected g_i, by products of different sequences; may be negative")
    GRAD_NOISE = "grad_noise", SignalInfo(
        "K", Source.GRADIENTS, "gradient squared times tokens", cost="inside the passes: projections of every token", sequences=2,
        meaning="noise of g_i: the expected squared error of the mean gradient of n tokens, times n; from the spread of sequences")
    ADAM_SKETCH = "adam_sketch", SignalInfo(
        "KD", Source.ADAM_GRADIENTS, "root of nats per token per unit of learning rate",
        cost="inside the passes: projections of every token", recorded="products",
        meaning="as grad_sketch of g_i / v^(1/4), v the rank-one form of AdamW's corrected second moment before the update:"
                " the product of rows i and j estimates how much a step along g_j lowers the loss of i;"
                " all NaN at the optimiser's first step")
    ADAM_SELF = "adam_self", SignalInfo(
        "K", Source.ADAM_GRADIENTS, "nats per token per unit of learning rate",
        cost="inside the passes: projections of every token", sequences=2,
        meaning="as grad_self in the metric of adam_sketch; all NaN at the optimiser's first step")
    ADAPTER_LOSS = "adapter_loss", SignalInfo(
        "KM", Source.HELD_OUT, "nats per token", cost="training of A adapters, and M measurements of valid_loss",
        meaning="valid_loss under each of the models with merged adapters that the mixer's `adapters` names")
    EMBEDDING = "embedding", SignalInfo(
        "KH", Source.HELD_OUT, "1", cost="half a forward pass per held-out sequence", recorded="products",
        meaning="mean over the domain's held-out tokens of the hidden state half-way up the model, after the update")
    PARAM_NORM = "param_norm", SignalInfo(
        "L", Source.WEIGHTS, "1",
        meaning="L2 norm of each probed weight tensor (`norm_layers`), bottom to top, after the update")
    PARAM_STEP_NORM = "param_step_norm", SignalInfo(
        "L", Source.WEIGHTS, "1", cost="a copy of the probed weights",
        meaning="L2 norm of the change of each probed weight tensor in this step's update")
    TYPE_TOKEN_RATIO = "type_token_ratio", SignalInfo(
        "K", Source.TOKENS, "1",
        meaning="mean over the domain's sequences in the batch of the number of distinct tokens over the number of tokens")
    # fmt: on


def signals_from(*sources: Source) -> tuple[Signal, ...]:
    """The signals that are measured on one of ``sources``, in the table's order, which is the same on every rank."""
    return tuple(signal for signal in Signal if signal.info.source in sources)


Inputs = Mapping[str, Path | tuple[Path, ...]]  # role -> folder of the run that plays it, or of each run of a swarm


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a mixer knows before the first step. Its arrays are copies that cannot be written to."""

    domains: tuple[str, ...]
    prior: np.ndarray  # (K,) the natural mixture: training tokens of each domain over their sum
    tokens_available: np.ndarray  # (K,) distinct training tokens of each domain
    total_steps: int  # of the whole run, though it may be stopped and resumed
    rng: np.random.Generator  # the mixer's own random stream
    inputs: Inputs = dataclasses.field(default_factory=dict)  # of each role in `required_inputs`
    objective_weights: np.ndarray | None = None  # (K,) of the domains in the objective loss; None becomes uniform
    tensors: int = 0  # L of PARAM_NORM and PARAM_STEP_NORM; 0 where the mixer needs neither
    tokens_per_step: int = 0  # training tokens of all domains together; 0 where nobody knows

    def __post_init__(self) -> None:
        k = len(self.domains)
        objective_K = np.full(k, 1 / k) if self.objective_weights is None else simplex(self.objective_weights)
        object.__setattr__(self, "objective_weights", objective_K)
        for name in ("prior", "tokens_available", "objective_weights"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    def input(self, role: str) -> Path:
        """Folder of the one run that plays ``role``; a UserError that shows the YAML to add when there is none."""
        folders = self.swarm(role)
        if len(folders) > 1:
            raise UserError(
                f"the input {role!r} is one run, and got {len(folders)}", fix="name a method without members"
            )
        return folders[0]

    def swarm(self, role: str) -> tuple[Path, ...]:
        """Folders of the runs that play ``role`` together, by their number; a UserError as of ``input``."""
        if role not in self.inputs:
            raise UserError(f"this mixer needs an input run {role!r}", fix=f"add  inputs: {{{role}: NAME_OF_A_METHOD}}")
        folders = self.inputs[role]
        return tuple(map(Path, folders)) if isinstance(folders, tuple) else (Path(folders),)


@dataclass(frozen=True)
class Adapters:
    """What ADAPTER_LOSS measures: low-rank adapters of the model as it is, and models with mixtures of them merged in.

    Each adapter is trained from nothing for ``steps`` steps on batches of the run's size, while the model stands still.
    """

    mixture_AK: np.ndarray  # (A, K) the mixture that each adapter's batches are drawn by
    weight_MA: np.ndarray  # (M, A) of the adapters in each model that is measured, each row on the simplex
    steps: int  # optimiser steps of each adapter
    rank: int = 16  # columns of an adapter's factors
    alpha: float = 32.0  # alpha / rank multiplies the product of an adapter's factors
    lr: float = 2.0  # the adapters' constant learning rate over the run's peak learning rate


@dataclass(frozen=True)
class StepStats(Mapping[Signal, np.ndarray]):
    """What one step measured. ``stats[Signal.LOSS]`` is an array; a domain absent from the step is NaN, never 0.

    Arrays are copies that cannot be written to: what a run records is not a mixer's to change.
    """

    step: int
    tokens: np.ndarray  # (K,) training tokens drawn from each domain in this step, 0 where none
    signals: Mapping[Signal, np.ndarray]  # what `wants(step)` named, and no more

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", _read_only(self.tokens))
        object.__setattr__(self, "signals", {signal: _read_only(value) for signal, value in self.signals.items()})

    def __getitem__(self, signal: Signal) -> np.ndarray:
        try:
            return self.signals[signal]
        except KeyError:
            fix = f"add Signal.{signal.name} to `needs` (or `wants`)"
            raise KeyError(f"{signal} was not measured at step {self.step}: {fix}") from None

    def __iter__(self):
        return iter(self.signals)

    def __len__(self) -> int:
        return len(self.signals)


class Mixer(ABC):
    """Decides how much of each domain to draw. Subclasses are dataclasses of hyper-parameters; learned state ends in ``_``.

    The state an attribute ``name_`` may hold: None, a number, a numpy array, a ``np.random.Generator``, a list of these, a
    dictionary of plain values, or any object with ``state_dict()`` and ``load_state_dict()`` (a torch module or optimiser).
    ``start`` creates it.

    A run is named by its mixer's code and options. A file that an option names has the type ``Path``: then its content, too, is a
    part of the name.
    """

    needs: frozenset[Signal] = frozenset()  # all that `wants` may name, given the options; a property may say it, too
    swarms: ClassVar[frozenset[str]] = frozenset()  # the roles of `required_inputs` that many runs play together
    cite: ClassVar[str] = ""  # BibTeX key or arXiv id of the method's paper

    @abstractmethod
    def start(self, start: Start) -> None:
        """Create the learned state. Called once before the first step, also before a checkpoint is loaded."""

    @abstractmethod
    def sampling_weights(self, step: int) -> np.ndarray:
        """(K,) the mixture to draw ``step`` by, on the simplex. Must not change state: it is asked again after a resume."""

    def wants(self, step: int) -> frozenset[Signal]:
        """The signals to measure at ``step``: a subset of ``needs``, smaller for mixers that look only now and then."""
        return self.needs

    def loss_weights(self, step: int) -> np.ndarray | None:
        """(K,) weights of the domains' tokens in the training loss, or None for the plain mean over tokens.

        With weights w the loss is sum w_i loss_t / sum w_i over the tokens t of the batch, i the domain of t. Weights are not
        negative and not all zero; their scale means nothing. Must not change state.
        """
        return None

    def adapters(self) -> Adapters | None:
        """What ADAPTER_LOSS is to measure, for a mixer that needs it. Asked once after ``start``, on every rank."""
        return None

    def observe(self, stats: StepStats) -> None:
        """Learn from what the step just taken measured. Called once per step, in order."""

    def required_inputs(self) -> tuple[str, ...]:
        """Roles that `inputs` in the configuration must name, given this mixer's options."""
        return ()

    def built_mixers(self) -> tuple[str, ...]:
        """Names of the mixers that this one builds itself by ``build_mixer``: their code, too, decides what it does."""
        return ()

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        """Refuse options that do not fit ``domains`` (a weight for an unknown domain) with a UserError; run by the planner."""

    def diagnostics(self) -> dict[str, float | np.ndarray]:
        """What is worth recording after a step: scalars (TD errors, norms), and (K,) vectors (rewards). Read only by the log."""
        return {}

    def save(self, folder: Path) -> None:
        """Write what later runs may use as an input (an actor, averaged weights) into ``folder``. Called once, at the end."""

    def state_dict(self) -> dict[str, Any]:
        """A deep copy of the learned state."""
        return {name: _dump(value) for name, value in vars(self).items() if name.endswith("_")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave, after ``start`` has been called with the same arguments."""
        mine = {name for name in vars(self) if name.endswith("_")}
        if mine != set(state):
            raise ValueError(f"{type(self).__name__}: state differs: {sorted(mine ^ set(state))}")
        for name, value in state.items():
            setattr(self, name, _load(getattr(self, name), value))


def _read_only(value: np.ndarray) -> np.ndarray:
    copy = np.array(value)
    copy.flags.writeable = False
    return copy


def _dump(value: Any) -> Any:
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if hasattr(value, "state_dict"):
        return copy.deepcopy(value.state_dict())  # torch's own shares memory with the module
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_dump(item) for item in value]
    if isinstance(value, dict):
        return {key: _dump(item) for key, item in value.items()}
    return value


def _load(current: Any, value: Any) -> Any:
    if isinstance(current, np.random.Generator):
        current.bit_generator.state = value
        return current
    if hasattr(current, "load_state_dict"):
        current.load_state_dict(copy.deepcopy(value))  # torch's optimisers keep the tensors they are given
        return current
    if isinstance(current, list) and len(current) == len(value):
        return [_load(mine, saved) for mine, saved in zip(current, value, strict=True)]
    return _dump(value)  # a copy: the state that was loaded stays as it was
