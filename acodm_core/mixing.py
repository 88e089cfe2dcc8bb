"""The contract between a mixer (which only decides) and the trainer (which measures what the mixer asked for).

Time is strictly causal. At every optimiser step ``t`` the trainer calls ``sampling_weights(t)`` and ``loss_weights(t)``, draws and
trains on that mixture, then calls ``observe`` with what step ``t`` measured. A mixer never sees the future and never runs
the model. Everything here is float64 numpy on the CPU; K is the number of domains.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from acodm_core.errors import UserError, unknown_name
from acodm_core.settings.mixer_options import failed, typed


class Signal(StrEnum):
    """What a mixer may ask the trainer to measure. Only what is asked for is computed, and it is timed as the mixer's cost."""

    LOSS = "loss"  # (K,) mean training loss of each domain in this step's batch, nats a token; NaN where absent
    EXCESS_LOSS = "excess_loss"  # (K,) mean over tokens of max(0, loss - loss of the input run `reference`)
    VALID_LOSS = "valid_loss"  # (K,) held-out loss of each domain after this step, drawn or not, nats a token
    LEARNING_RATE = "learning_rate"  # () of this step
    GRAD_GRAM = "grad_gram"  # (K, K) inner products of the gradients of the domains' mean losses on the probed layers
    GRAD_SKETCH = "grad_sketch"  # (K, D) random projections of those gradients: their products estimate the Gram
    GRAD_SELF = "grad_self"  # (K,) squared norms of those gradients without sampling noise; NaN under two sequences
    GRAD_NOISE = "grad_noise"  # (K,) that noise: over n, the expected squared error of n tokens' gradient; NaN as above
    ADAM_SKETCH = "adam_sketch"  # (K, D) as GRAD_SKETCH in AdamW's metric: loss decreases; NaN at its first step
    ADAM_SELF = "adam_self"  # (K,) squared norms in that metric without sampling noise; NaN under two sequences
    ADAPTER_LOSS = "adapter_loss"  # (K, M) held-out loss of each domain under each of the models that `adapters` names
    EMBEDDING = "embedding"  # (K, H) mean hidden state half-way up, on each domain's held-out text, after this step
    PARAM_NORM = "param_norm"  # (L,) L2 norm of each probed weight tensor, bottom to top
    PARAM_STEP_NORM = "param_step_norm"  # (L,) L2 norm of each probed tensor's change in this step
    TYPE_TOKEN_RATIO = (
        "type_token_ratio"  # (K,) mean over the domain's sequences of distinct tokens over tokens; NaN where absent
    )


Inputs = Mapping[str, Path | tuple[Path, ...]]  # role -> folder of the run that plays it, or of each run of a swarm


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a mixer knows before the first step. Its arrays are copies that cannot be written to."""

    domains: tuple[str, ...]
    prior: np.ndarray  # (K,) natural shares: training tokens of each domain over their sum
    tokens_available: np.ndarray  # (K,) distinct training tokens of each domain
    total_steps: int
    rng: np.random.Generator  # the mixer's own random stream
    inputs: Inputs = dataclasses.field(default_factory=dict)
    objective_weights: np.ndarray | None = None  # (K,) of the domains in the objective loss; None becomes uniform
    tensors: int = 0  # L, how many weight tensors PARAM_NORM measures
    tokens_per_step: int = 0  # of all domains together; 0 where nobody told

    def __post_init__(self) -> None:
        k = len(self.domains)
        objective_K = np.full(k, 1 / k) if self.objective_weights is None else simplex(self.objective_weights)
        for name, value in (
            ("prior", self.prior),
            ("tokens_available", self.tokens_available),
            ("objective_weights", objective_K),
        ):
            object.__setattr__(self, name, _read_only(value))

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

    mixture_AK: np.ndarray  # (A, K) shares that each adapter's batches are drawn by
    weight_MA: np.ndarray  # (M, A) of the adapters in each model that is measured, each row on the simplex
    steps: int
    rank: int = 16
    alpha: float = 32.0  # over the rank: what an adapter's product is multiplied by
    lr: float = 2.0  # times the run's peak learning rate, from the first step on


@dataclass(frozen=True)
class StepStats(Mapping[Signal, np.ndarray]):
    """What one step measured. ``stats[Signal.LOSS]`` is an array; a domain absent from the step is NaN, never 0.

    Arrays are copies that cannot be written to: what a run records is not a mixer's to change.
    """

    step: int
    tokens: np.ndarray  # (K,) training tokens drawn from each domain in this step
    signals: Mapping[Signal, np.ndarray]

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

    needs: ClassVar[frozenset[Signal]] = frozenset()
    swarms: ClassVar[frozenset[str]] = frozenset()  # the roles of `required_inputs` that many runs play together
    cite: ClassVar[str] = ""  # BibTeX key or arXiv id of the method's paper

    @abstractmethod
    def start(self, start: Start) -> None:
        """Create the learned state. Called once before the first step, also before a checkpoint is loaded."""

    @abstractmethod
    def sampling_weights(self, step: int) -> np.ndarray:
        """(K,) shares to draw at ``step``, on the simplex. Must not change state: it may be called again after a resume."""

    def wants(self, step: int) -> frozenset[Signal]:
        """The signals to measure at ``step``: a subset of ``needs``, smaller for mixers that look only now and then."""
        return self.needs

    def loss_weights(self, step: int) -> np.ndarray | None:
        """(K,) weights of the domains' tokens in the loss, or None for the plain mean over tokens."""
        return None

    def adapters(self) -> Adapters | None:
        """What ADAPTER_LOSS is to measure, for a mixer that needs it. Asked once after ``start``, on every rank."""
        return None

    def observe(self, stats: StepStats) -> None:
        """Learn from what the step just taken measured."""

    def required_inputs(self) -> tuple[str, ...]:
        """Roles that `inputs` in the configuration must name, given this mixer's options."""
        return ()

    def built_mixers(self) -> tuple[str, ...]:
        """Names of the mixers that this one builds itself with ``build_mixer``: their code, too, decides what it does."""
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


def simplex(weights: np.ndarray, *, name: str = "weights") -> np.ndarray:
    """``weights`` as a float64 point of the simplex; ValueError if an entry is negative, not finite, or all are zero."""
    w = np.asarray(weights, dtype=np.float64)
    total = w.sum()
    if w.ndim != 1 or not (0 < total < np.inf and w.min() >= 0):
        raise ValueError(f"{name} must be finite, non-negative and not all zero: {np.array2string(w, precision=4)}")
    return w / total


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of a vector, safe for large entries."""
    z = np.exp(logits - np.max(logits))
    return z / z.sum()


def save_weights(folder: Path, domains: tuple[str, ...], weight_K: np.ndarray) -> None:
    """Write ``folder/weights.json``, what the mixer `static` draws by when it has the run as its input ``weights``."""
    _write_json(folder / "weights.json", _by_domain(domains, weight_K))


def save_member(folder: Path, domains: tuple[str, ...], vectors: Mapping[str, np.ndarray]) -> None:
    """Write ``folder/member.json``, what ``read_swarm`` reads of one run: name -> (K,) vector; null where it is NaN."""
    _write_json(folder / "member.json", {name: _by_domain(domains, vector_K) for name, vector_K in vectors.items()})


def read_swarm(folders: tuple[Path, ...], domains: tuple[str, ...], *names: str) -> list[np.ndarray]:
    """What the runs of a swarm saved: for each name an array (N, K), a row a run; NaN where a run has no value.

    Raises:
        UserError: a run that saved nothing, no vector of such a name, or one of other domains.
    """
    members = []
    for folder in folders:
        path = folder / "member.json"
        try:
            member = json.loads(path.read_text(encoding="utf-8"))
            members.append([[member[name][domain] for domain in domains] for name in names])
        except (OSError, ValueError) as error:
            raise UserError(f"not a run of a swarm: {error}", where=str(path)) from None
        except KeyError as error:
            fix = "its runs must see the same domains, or groups of them, and measure what this mixer reads"
            raise UserError(f"the swarm has nothing for {error}", where=str(path), fix=fix) from None
    return list(np.array(members, dtype=np.float64).transpose(1, 0, 2))


def _by_domain(domains: tuple[str, ...], vector_K: np.ndarray) -> dict[str, float | None]:
    values = [value if np.isfinite(value) else None for value in vector_K.tolist()]
    return dict(zip(domains, values, strict=True))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def mixer_module(name: str) -> str:
    """The module of mixer ``name``: a dotted one is itself, every other a file of the baselines folder."""
    return name if "." in name else f"acodm_baselines.{name}"


def find_mixer(name: str, *, where: str = "") -> type[Mixer]:
    """The one Mixer defined in module ``name``: a file of the baselines folder, or any importable dotted module.

    Raises:
        UserError: no such module, one that fails when it is imported, or not exactly one Mixer in it, a dataclass.
    """
    dotted = mixer_module(name)
    if name.endswith(".py"):
        fix = (
            f"{name[:-3]!r} for a file of baselines/, or a dotted module that Python can import: my_package.{name[:-3]}"
        )
        raise UserError(f"a mixer is named without .py; got {name!r}", where=where, fix=fix)
    try:
        module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name and _is_within(dotted, error.name):
            raise unknown_name("mixer", name, baseline_names(), where=where) from error
        raise failed(name, error, where) from error  # the mixer exists but one of its own imports is missing
    except (Exception, SystemExit) as error:
        raise failed(name, error, where) from error
    found = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Mixer) and not inspect.isabstract(cls) and _is_within(cls.__module__, dotted)
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise UserError(
            f"module {dotted} must define exactly one Mixer with all its methods; found: {names}", where=where
        )
    if not dataclasses.is_dataclass(found[0]):
        fix = f"write @dataclass above  class {found[0].__name__}"
        raise UserError(f"the mixer of module {dotted} is no dataclass", where=where, fix=fix)
    return found[0]


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def baseline_names() -> list[str]:
    """Names of the mixers in the baselines folder, in alphabetical order; files that start with ``_`` are not mixers."""
    package = importlib.import_module("acodm_baselines")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def build_mixer(name: str, options: Mapping[str, Any], *, where: str = "") -> Mixer:
    """Instantiate mixer ``name``; its options are checked against its own dataclass fields.

    Args:
        where: YAML path of the method, for errors.

    Raises:
        UserError: an option that the mixer does not have (valid ones are listed), or one that its ``__post_init__`` refuses.
    """
    prefix = f"{where}." if where else ""
    cls = find_mixer(name, where=f"{prefix}mixer")
    fields = option_fields(cls)
    for option in options:
        if option not in fields:
            raise unknown_name(f"option of mixer {name!r}", option, fields, where=f"{prefix}options.{option}")
    options = typed(cls, options, where=f"{prefix}options")
    try:
        mixer = cls(**options)
        needs, inputs, built = mixer.needs, mixer.required_inputs(), mixer.built_mixers()
    except UserError as error:  # its `where` is the option
        raise UserError(error.what, where=f"{prefix}options.{error.where}", fix=error.fix) from None
    except (TypeError, ValueError) as error:
        raise UserError(f"mixer {name!r} refuses its options: {error}", where=f"{prefix}options") from error
    except (Exception, SystemExit) as error:
        raise failed(name, error, f"{prefix}options") from error
    if not isinstance(needs, frozenset) or not all(isinstance(signal, Signal) for signal in needs):
        raise UserError(f"`needs` of mixer {name!r} is {needs!r:.80}", where=f"{prefix}mixer", fix=_NEEDS)
    for question, names, fix in (
        ("required_inputs", inputs, 'roles, as in ("actor",)'),
        ("built_mixers", built, "names of mixers"),
    ):
        if not isinstance(names, tuple) or not all(isinstance(one, str) for one in names):
            what = f"`{question}` of mixer {name!r} gives {names!r:.80}"
            raise UserError(what, where=f"{prefix}mixer", fix=f"a tuple of {fix}")
    return mixer


_NEEDS = "a frozenset of signals, as in  needs = frozenset({Signal.LOSS})"


def option_fields(cls: type[Mixer]) -> dict[str, dataclasses.Field]:
    """What a configuration may set of a mixer, by name: its dataclass fields, but for those whose name begins with ``_``."""
    return {f.name: f for f in dataclasses.fields(cls) if f.init and not f.name.startswith("_")}
