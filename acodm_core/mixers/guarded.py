"""A mixer whose every answer is checked where it is given: the one guard of the trainer, the probe, the drop-in and `acodm check`.

A wrong answer, an exception or a silence becomes a MixerError that names the method, the question and the step.
"""

from __future__ import annotations

import inspect
import math
import numbers
import os
import sys
import tempfile
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from acodm_core.errors import UserError, one_line
from acodm_core.mixers import process_state
from acodm_core.mixers.time_limit import Overdue, time_limit
from acodm_core.mixing import Adapters, Mixer, Signal, Start, StepStats

STEP_SECONDS = 300.0  # an answer takes milliseconds
LONG_SECONDS = 3600.0  # `start` may fit a model to a swarm, `save` may write a large file
SUM_TOLERANCE = 1e-6  # of shares, which the caller makes sum to 1 to the last bit
DEEPEST = 20  # levels of lists and dictionaries in a state
LONGEST_NAME = 100  # letters of a diagnostic's name
MOST_DIAGNOSTICS = 1000  # each is written down at every step


class MixerError(UserError):
    """What a mixer did against its contract. Its cause, where it has one, is what the mixer raised."""


class Late(MixerError):
    """A mixer that did not answer in time: it will not the next time, either."""


class Guarded(Mixer):
    """``mixer``, held to its contract; to everybody else the same mixer.

    Args:
        name: what messages call it: its method, or the mixer.
        patience: seconds for an answer within a step.
        long: seconds for ``start``, ``state_dict`` and ``save``.
        reserved: names of files that ``save`` may not write.
    """

    def __init__(
        self,
        mixer: Mixer,
        name: str,
        *,
        patience: float = STEP_SECONDS,
        long: float = LONG_SECONDS,
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        self.mixer, self.name, self.patience, self.long, self.reserved = mixer, name, patience, long, reserved
        self._k, self._step = 0, None
        self._needs = self._ask("needs")

    @property
    def needs(self) -> frozenset[Signal]:
        return self._needs

    def start(self, start: Start) -> None:
        self._k = len(start.domains)
        self._ask("start", start, seconds=self.long)
        if Signal.ADAPTER_LOSS in self.needs:
            self.adapters()

    def sampling_weights(self, step: int) -> np.ndarray:
        self._step = step
        mixture_K = self._ask("sampling_weights", step, at=step)
        self._vector("sampling_weights", step, mixture_K, "shares are finite, none is negative, and they sum to 1")
        if abs(mixture_K.sum() - 1) > SUM_TOLERANCE:
            self._refuse(
                "sampling_weights",
                step,
                f"gives {_shown(mixture_K)}, which sum to {mixture_K.sum():.9g}",
                "shares sum to 1",
            )
        return mixture_K.copy()

    def loss_weights(self, step: int) -> np.ndarray | None:
        loss_weight_K = self._ask("loss_weights", step, at=step)
        if loss_weight_K is None:
            return None
        self._vector("loss_weights", step, loss_weight_K, "None, or finite weights, none negative and not all zero")
        return loss_weight_K.copy()

    def wants(self, step: int) -> frozenset[Signal]:
        wanted = self._ask("wants", step, at=step)
        if not isinstance(wanted, frozenset | set) or not all(isinstance(signal, Signal) for signal in wanted):
            self._refuse("wants", step, f"gives {_shown(wanted)}", "a frozenset of mixing.Signal")
        if undeclared := wanted - self.needs:
            names = ", ".join(f"Signal.{signal.name}" for signal in sorted(undeclared))
            self._refuse("wants", step, f"has {names}, which `needs` has not", f"add {names} to `needs`")
        return frozenset(wanted)

    def adapters(self) -> Adapters | None:
        asked = self._ask("adapters")
        if asked is None and Signal.ADAPTER_LOSS in self.needs:
            self._refuse(
                "adapters",
                None,
                "names none, and `needs` has Signal.ADAPTER_LOSS",
                "return an Adapters: which, how long",
            )
        if asked is not None and (wrong := _wrong_adapters(asked, self._k)):
            self._refuse("adapters", None, f"gives {wrong}", "an Adapters as mixing.py describes it")
        return asked

    def observe(self, stats: StepStats) -> None:
        self._step = stats.step
        self._ask("observe", stats, at=stats.step)

    def diagnostics(self) -> dict[str, float | np.ndarray]:
        found = self._ask("diagnostics", at=self._step)
        if not isinstance(found, dict):
            self._refuse("diagnostics", self._step, f"gives {_shown(found)}", "a dictionary: name -> number or vector")
        if len(found) > MOST_DIAGNOSTICS:
            self._refuse("diagnostics", self._step, f"gives {len(found):,}", f"at most {MOST_DIAGNOSTICS:,} a step")
        return {name: self._diagnostic(name, value) for name, value in dict.items(found)}

    def _diagnostic(self, name: Any, value: Any) -> float | np.ndarray:
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST_NAME or name in _SIGNALS:
            rule = "a short text that is not the name of a signal"
            self._refuse("diagnostics", self._step, f"has the name {_shown(name)}", rule)
        plain = type(value) is np.ndarray or isinstance(value, numbers.Real)  # a masked array hides what it has not
        array = np.asarray(value) if plain else np.empty(0, object)
        if array.dtype.kind not in "fiu" or array.shape not in ((), (self._k,)):
            rule = f"a number, or a vector ({self._k},) of them"
            self._refuse("diagnostics", self._step, f"gives {name!r} as {_shown(value)}", rule)
        return array.astype(np.float64) if array.ndim else float(array)

    def state_dict(self) -> dict[str, Any]:
        state = self._ask("state_dict", seconds=self.long)
        if not isinstance(state, Mapping):
            self._refuse(
                "state_dict", None, f"gives {_shown(state)}", "a dictionary: leave it as the base class has it"
            )
        if wrong := _no_state(state):
            rule = "state is numbers, text, arrays of numbers, generators, and lists and dictionaries of these"
            self._refuse("state_dict", self._step, f"has {wrong}, which a checkpoint cannot hold", rule)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mixer.load_state_dict(state)  # what does not fit is the checkpoint's fault, and its reader says so

    def save(self, folder: Path) -> list[str]:
        """Let the mixer write into ``folder``; the names of its files, relative to it.

        It writes into an empty folder first, so that it can neither see nor change what else lies there.
        """
        with tempfile.TemporaryDirectory(prefix=".save-", dir=folder) as root:
            self._ask("save", Path(root), seconds=self.long)
            found = sorted(path for path in Path(root).rglob("*") if path.is_symlink() or not path.is_dir())
            names = [str(path.relative_to(root)) for path in found]
            for path, name in zip(found, names, strict=True):
                if path.is_symlink() or not path.is_file():
                    self._refuse("save", None, f"left {name!r}, which is no plain file", "write files")
                if Path(name).parts[0] in self.reserved or not name.isprintable():
                    self._refuse("save", None, f"wrote {name!r}, a file of the run itself", "choose another name")
            for path, name in zip(found, names, strict=True):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, folder / name)
        return names

    def required_inputs(self) -> tuple[str, ...]:
        return self._ask("required_inputs")

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        self._ask("check", domains, where=where)

    def _vector(self, question: str, step: int, value: Any, rule: str) -> None:
        """Refuse what is not a (K,) float64 array, finite, without a negative entry, and not all zero."""
        if type(value) is not np.ndarray or value.dtype != np.float64 or value.shape != (self._k,):
            self._refuse(question, step, f"gives {_shown(value)}", f"a float64 array of shape ({self._k},): {rule}")
        if not np.isfinite(value).all() or (value < 0).any() or not value.any():
            self._refuse(
                question, step, f"gives {_shown(value)}", f"{rule}; a domain that was not drawn is NaN in signals"
            )

    def _ask(self, question: str, *arguments: Any, at: int | None = None, seconds: float = 0.0, **named: Any) -> Any:
        """What the mixer answers; a MixerError that says what it did instead."""
        seconds, before = seconds or self.patience, process_state.state()
        try:
            with time_limit(seconds, f"mixer of {self.name}: {question}"):
                answer = getattr(self.mixer, question)
                given = answer(*arguments, **named) if callable(answer) else answer
        except UserError:
            raise
        except Overdue as error:
            self._fail(question, at, f"did not come back in {seconds:g} seconds", error, Late)
        except SystemExit as error:
            self._fail(question, at, f"tried to end the program: {one_line(error)}", error)
        except KeyboardInterrupt as error:
            if not _raised_by_code(error):
                raise  # somebody pressed Ctrl-C
            self._fail(question, at, f"raised {one_line(error)}", error)
        except BaseException as error:
            if type(error).__module__.startswith("acodm_core."):
                raise  # somebody stops the program
            self._fail(question, at, f"raised {one_line(error)}", error)
        if inspect.isgenerator(given) or inspect.isawaitable(given) or inspect.isasyncgen(given):
            what = "is a generator or a coroutine, of which no line ran"
            self._refuse(question, at, what, "no `yield` and no `async` in it")
        if name := process_state.changed(before):
            self._refuse(question, at, f"changed {name}", "leave alone what the whole program shares, or put it back")
        return given

    def _fail(
        self, question: str, step: int | None, what: str, error: BaseException, kind: type[MixerError] = MixerError
    ) -> NoReturn:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        file = getattr(sys.modules.get(type(self.mixer).__module__), "__file__", None)
        own = [f for f in frames if f.filename == file] or frames
        place = f"see {own[-1].filename}, line {own[-1].lineno}" if own else "see what it does"
        self._refuse(question, step, what, place, error, kind)

    def _refuse(
        self,
        question: str,
        step: int | None,
        what: str,
        fix: str,
        error: BaseException | None = None,
        kind: type[MixerError] = MixerError,
    ) -> NoReturn:
        at = f"{question} at step {step}" if step is not None else question
        refusal = kind(f"{at} {what}", where=f"mixer of {self.name}", fix=fix)
        refusal.trace = "".join(traceback.format_exception(error)) if error else ""
        raise refusal from error


def _raised_by_code(error: KeyboardInterrupt) -> bool:
    """Whether a line says ``raise KeyboardInterrupt``; what Ctrl-C raises comes from wherever the program was."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "KeyboardInterrupt" in (frame.line or "")


def _no_state(value: Any, path: str = "", depth: int = 0) -> str:
    """The first thing in ``value`` that no checkpoint holds, and where; nothing where there is none."""
    if depth > DEEPEST:
        return f"{path[:60]}..., which has no end"
    if isinstance(value, Mapping):
        if type(value) not in (dict, OrderedDict) or not all(type(key) in (str, int) for key in value):
            return f"{path or 'itself'}: {_shown(value)}"
        parts = [(f"{path}.{key}" if path else str(key), one) for key, one in value.items()]
    elif type(value) in (list, tuple):
        parts = [(f"{path}[{i}]", one) for i, one in enumerate(value)]
    elif isinstance(value, np.ndarray | np.generic):
        return "" if value.dtype.name in _DTYPES else f"{path}: {_shown(value)}"
    else:
        plain = value is None or type(value) in (bool, int, float, str) or _is_of_torch(value)
        return "" if plain else f"{path}: {_shown(value)}"
    return next((wrong for where, one in parts if (wrong := _no_state(one, where, depth + 1))), "")


def _is_of_torch(value: Any) -> bool:
    """Whether it is what torch itself puts into a state: a module or a generator among it cannot be loaded again."""
    torch = sys.modules.get("torch")
    return torch is not None and type(value) in (
        torch.Tensor,
        torch.nn.Parameter,
        torch.Size,
        torch.dtype,
        torch.device,
    )


_DTYPES = frozenset({"float64", "float32", "int64", "int32", "uint32", "uint64", "bool"})


def _wrong_adapters(asked: Any, k: int) -> str:
    """What is wrong with the answer to ``adapters``; nothing where all is right."""
    if not isinstance(asked, Adapters):
        return _shown(asked)
    for name, value in (("mixture_AK", asked.mixture_AK), ("weight_MA", asked.weight_MA)):
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim != 2 or not value.size:
            return f"{name} {_shown(value)}, which is no matrix of numbers"
        if not np.isfinite(value).all() or (value < 0).any() or (abs(value.sum(1) - 1) > SUM_TOLERANCE).any():
            return f"{name} with rows that are not on the simplex"
    if asked.mixture_AK.shape[1] != k:
        return f"mixture_AK of {asked.mixture_AK.shape[1]} domains, and there are {k}"
    if asked.weight_MA.shape[1] != len(asked.mixture_AK):
        return f"weight_MA of {asked.weight_MA.shape[1]} adapters, and mixture_AK has {len(asked.mixture_AK)}"
    for name in ("steps", "rank"):
        value = getattr(asked, name)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            return f"{name} {_shown(value)}, which is no positive number of them"
    for name in ("alpha", "lr"):
        value = getattr(asked, name)
        if not isinstance(value, numbers.Real) or not (0 < value < math.inf):
            return f"{name} {_shown(value)}, which is not positive"
    return ""


def _shown(value: Any) -> str:
    """A value as a message has it: short, whatever its own ``repr`` does."""
    if isinstance(value, np.ndarray):
        return (
            f"{value.dtype} {value.shape}"
            if value.size > 8 or value.dtype.kind not in "fiub"
            else (f"{np.array2string(value, precision=4, threshold=8)} ({value.dtype} {value.shape})")
        )
    try:
        text = repr(value)
    except (Exception, SystemExit):
        text = "something that cannot be printed"
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


_SIGNALS = frozenset(map(str, Signal))
