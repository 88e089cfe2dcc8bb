"""Mixers that break their contract: a training refuses each with a message that names the question, the step and what was wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acodm_core import entry
from acodm_core.errors import UserError
from acodm_core.mixers.guarded import Guarded, MixerError
from acodm_core.mixing import Mixer, Signal, Start, StepStats
from acodm_core.study.planner import plan

MIXER = """
import sys, time
from collections import UserDict
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from acodm_core.mixing import Adapters, Mixer, Signal

@dataclass
class Mine(Mixer):
    needs = frozenset({Signal.LOSS})

    def start(self, start):
        self.mixture_ = np.full(len(start.domains), 1 / len(start.domains))

    def sampling_weights(self, step):
        return self.mixture_

"""
# name -> (code, words of the message); each code is a method, which takes the place of the one of its name
WRONG = {
    "two shares": ("sampling_weights(self, step): return np.full(2, 0.5)", "sampling_weights at step 0 gives [0.5 0.5]"),
    "a matrix": ("sampling_weights(self, step): return np.full((4, 1), 0.25)", "sampling_weights at step 0 gives"),
    "a list": ("sampling_weights(self, step): return [0.25] * 4", "(list)"),
    "text": ("sampling_weights(self, step): return 'uniform'", "'uniform' (str)"),
    "nothing": ("sampling_weights(self, step): pass", "None (NoneType)"),
    "integers": ("sampling_weights(self, step): return np.array([1, 0, 0, 0])", "int64"),
    "objects": ("sampling_weights(self, step): return np.array([None] * 4)", "object"),
    "a masked array": ("sampling_weights(self, step): return np.ma.masked_invalid(self.mixture_)", "at step 0 gives"),
    "NaN shares": ("sampling_weights(self, step): return self.mixture_ * np.nan", "nan"),
    "negative shares": ("sampling_weights(self, step): return np.array([1.5, -0.5, 0, 0])", "-0.5"),
    "shares of zero": ("sampling_weights(self, step): return np.zeros(4)", "[0. 0. 0. 0.]"),
    "shares that sum to 2": ("sampling_weights(self, step): return self.mixture_ * 2", "sum to 2"),
    "a later step": ("sampling_weights(self, step): return self.mixture_ * (1 + (step == 2))", "sampling_weights at step 2 gives"),
    "raises": ("sampling_weights(self, step): return self.no_such", "sampling_weights at step 0 raised AttributeError"),
    "recursion": ("sampling_weights(self, step): return self.sampling_weights(step)", "raised RecursionError"),
    "exits": ("sampling_weights(self, step): sys.exit(0)", "sampling_weights at step 0 tried to end the program"),
    "interrupts": ("sampling_weights(self, step): raise KeyboardInterrupt", "sampling_weights at step 0 raised KeyboardInterrupt"),
    "no Exception": (
        "observe(self, stats): raise type('B', (BaseException,), {})('b')", "observe at step 0 raised B: b"
    ),
    "a failing message": (
        "observe(self, stats): raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()", "observe at step 0 raised E"
    ),
    "negative weights": ("loss_weights(self, step): return -self.mixture_", "loss_weights at step 0 gives [-0.25"),
    "too many weights": ("loss_weights(self, step): return np.ones(7)", "loss_weights at step 0 gives"),
    "NaN weights": ("loss_weights(self, step): return self.mixture_ * np.nan", "loss_weights at step 0"),
    "weights of zero": ("loss_weights(self, step): return np.zeros(4)", "loss_weights at step 0"),
    "wants too much": ("wants(self, step): return frozenset({Signal.VALID_LOSS})", "wants at step 0 has Signal.VALID_LOSS"),
    "wants text": ("wants(self, step): return frozenset({'loss'})", "wants at step 0 gives frozenset({'loss'})"),
    "wants a list": ("wants(self, step): return [Signal.LOSS]", "wants at step 0 gives"),
    "diagnostics of text": ("diagnostics(self): return {'state': 'good'}", "diagnostics at step 0 gives 'state' as 'good'"),
    "odd diagnostics": ("diagnostics(self): return {'x': np.ones((2, 2))}", "diagnostics at step 0 gives 'x'"),
    "complex diagnostics": ("diagnostics(self): return {'x': 1j}", "diagnostics at step 0 gives 'x'"),
    "diagnostics by number": ("diagnostics(self): return {1: 1.0}", "has the name 1"),
    "diagnostics called as a signal": ("diagnostics(self): return {'loss': 1.0}", "has the name 'loss'"),
    "a list of diagnostics": ("diagnostics(self): return [1.0]", "diagnostics at step 0 gives [1.0]"),
    "huge diagnostics": ("diagnostics(self): return {'x': 10**400}", "diagnostics at step 0 gives 'x'"),
    "zeroes the losses": ("observe(self, stats): stats[Signal.LOSS][:] = 0", "observe at step 0 raised ValueError"),
    "zeroes the tokens": ("observe(self, stats): stats.tokens[:] = 0", "observe at step 0 raised ValueError"),
    "changes the prior": ("start(self, start): start.prior[:] = 1; self.mixture_ = start.prior", "start raised ValueError"),
    "start fails": ("start(self, start): raise OSError('gone')", "start raised OSError: gone"),
    "a function as state": ("observe(self, stats): self.f_ = lambda: 1", "state_dict at step 0 has f_"),
    "a set as state": ("observe(self, stats): self.f_ = {1}", "state_dict at step 0 has f_"),
    "objects as state": ("observe(self, stats): self.f_ = np.array([None])", "state_dict at step 0 has f_"),
    "endless state": ("observe(self, stats): self.f_ = []; self.f_.append(self.f_)", "state_dict"),
    "state that is none": ("state_dict(self): return 3", "state_dict gives 3"),
    "saves over the tables": ("save(self, folder): (folder / 'metrics.parquet').touch()", "save wrote 'metrics.parquet'"),
    "saves a manifest": ("save(self, folder): (folder / 'manifest.json').touch()", "save wrote 'manifest.json'"),
    "saves a link": ("save(self, folder): (folder / 'x').symlink_to('/etc/hosts')", "save left 'x', which is no plain file"),
    "save fails": ("save(self, folder): raise RuntimeError('no')", "save raised RuntimeError: no"),
    "a generator": ("observe(self, stats): yield", "observe at step 0 is a generator"),
    "a coroutine": ("save(self, folder): pass\n    async def observe(self, stats): pass", "observe at step 0 is a generator"),
    "another folder": ("observe(self, stats): __import__('os').chdir('/')", "observe at step 0 changed the working folder"),
    "no gradients": (
        "observe(self, stats): __import__('torch').set_grad_enabled(False)", "changed whether torch keeps gradients"
    ),
    "another type": (
        "start(self, start): self.mixture_ = start.prior; __import__('torch').set_default_dtype(__import__('torch').float64)",
        "start changed torch's default type",
    ),
    "threads of torch": ("observe(self, stats): __import__('torch').set_num_threads(2)", "torch's threads"),
    "errors of numpy": ("diagnostics(self): np.seterr(all='raise'); return {}", "changed what numpy does about errors"),
    "signals": ("observe(self, stats): __import__('signal').signal(15, lambda *_: None)", "changed what signals do"),
    "no stderr": ("observe(self, stats): sys.stderr = None", "changed the standard streams"),
    "masked diagnostics": ("diagnostics(self): return {'x': np.ma.masked}", "diagnostics at step 0 gives 'x'"),
    "a million diagnostics": ("diagnostics(self): return dict.fromkeys(map(str, range(10**6)), 1.0)", "gives 1,000,000"),
    "diagnostics of two lines": ("diagnostics(self): return {'a\\nb': 1.0}", "has the name 'a\\nb'"),
    "a dictionary of its own": ("diagnostics(self): return UserDict(x=1.0)", "diagnostics at step 0 gives"),
    "a module as state": (
        "state_dict(self): return {'m': __import__('torch').nn.Linear(1, 1)}", "state_dict at step 0 has m"
    ),
    "needs only once": (
        "nothing(self): pass\n    @property\n    def needs(self):\n        self.n = getattr(self, 'n', 0) + 1\n"
        "        return 1 / (self.n < 2) and frozenset({Signal.LOSS})",
        "needs raised ZeroDivisionError",
    ),
    "a property that raises": (
        "nothing(self): pass\n    @property\n    def loss_weights(self): raise ValueError('no')",
        "loss_weights at step 0 raised ValueError: no",
    ),
    "no method": ("nothing(self): pass\n    sampling_weights = 3", "sampling_weights at step 0 gives 3"),
    "an answer that cannot be shown": (
        "sampling_weights(self, step): return type('X', (), {'__repr__': lambda self: sys.exit(0)})()", "cannot be printed"
    ),
    "save exits": ("save(self, folder): sys.exit(3)", "save tried to end the program"),
}  # fmt: skip


@pytest.fixture(scope="module")
def train(experiment_of, corpus, tmp_path_factory):
    """``train(name, code)``: a run of three steps by the mixer with that method in it; its folder."""
    import torch

    from acodm_core.lm.train import Trainer

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("mixers")
    package = folder / "unruly"
    package.mkdir()
    (package / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)

        def run(name: str, code: str) -> Path:
            (package / f"{name}.py").write_text(MIXER + f"    def {code}\n")
            methods = {"mine": {"mixer": f"unruly.{name}"}}
            recipe = {"steps": 3, "batch": 4, "checkpoint_every": 100}
            experiment = experiment_of(
                compare=["mine"], baseline="mine", methods=methods, training=recipe, evaluation={"every": 3}
            )
            (spec,) = plan(experiment).runs.values()
            Trainer(spec, corpus, folder / name).run()
            return folder / name

        yield run


@pytest.mark.parametrize("name", WRONG)
def test_a_training_names_the_question_the_step_and_what_was_wrong(train, name: str) -> None:
    code, words = WRONG[name]
    with pytest.raises(MixerError) as told:
        train(name.replace(" ", "_").lower(), code)
    text = str(told.value)
    assert text.startswith("mixer of mine: ") and words in text and told.value.fix and len(text) < 600


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """What some of these mixers change in the whole process is put back."""
    import torch

    monkeypatch.chdir(Path.cwd())
    monkeypatch.setattr("sys.stderr", sys.stderr)
    handler, errors, threads = signal.getsignal(signal.SIGTERM), np.geterr(), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    np.seterr(**errors)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)


def test_a_mixer_that_saves_over_a_table_beside_its_folder_is_found(train) -> None:
    code = "save(self, folder): (folder.parent / 'metrics.parquet').write_bytes(b'mine')"
    with pytest.raises(UserError, match="changed since it was written") as told:
        train("over", code)
    assert told.value.where.endswith("metrics.parquet") and "`save`" in told.value.fix


def test_the_mixers_own_traceback_is_told_before_the_message(train, capsys) -> None:
    with pytest.raises(SystemExit):
        entry.run("acodm", lambda: train("traced", "observe(self, stats): return 1 / 0"))
    told = capsys.readouterr().err
    trace, message = told.split("acodm: mixer of mine: observe at step 0 raised ZeroDivisionError")
    assert "traced.py" in trace and "1 / 0" in trace and message


STUBBORN = """
import time
from acodm_core.mixers import time_limit
time_limit.STUBBORN = 1
with time_limit.time_limit(0.5, "mixer of mine: sampling"):
    while True:
        try:
            time.sleep(9)
        except BaseException:
            pass
"""


def test_a_mixer_that_catches_what_ends_its_time_ends_its_process() -> None:
    done = subprocess.run([sys.executable, "-c", STUBBORN], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "mixer of mine: sampling did not come back in 0.5 seconds" in done.stderr


@pytest.mark.parametrize("code", ["needs = {Signal.LOSS}", "needs = frozenset({'loss'})", "needs = None"])
def test_needs_that_are_no_signals_are_known_to_the_plan(train, code: str) -> None:
    with pytest.raises(UserError, match="`needs` of mixer"):
        train(f"needs{len(code)}", f"nothing(self): pass\n    {code}")


def test_what_a_mixer_does_to_its_arrays_changes_no_recorded_number(train) -> None:
    """It makes what it was shown writeable, and its own answer another one after it was given."""
    quiet = train("quiet", "observe(self, stats): pass")
    code = "observe(self, stats):\n        for value in (stats[Signal.LOSS], stats.tokens):\n"
    code += "            value.flags.writeable = True; value[:] = 0\n        stats.signals.clear()"
    loud = train("loud", code)
    for name in ("metrics", "mixture"):
        mine, its = (pd.read_parquet(folder / f"{name}.parquet").drop(columns="run") for folder in (quiet, loud))
        pd.testing.assert_frame_equal(mine, its)


@pytest.mark.parametrize(
    ("name", "code"),
    [("check", "self, domains, *, where): raise RuntimeError"), ("built_mixers", "self): return 3"),
     ("built_mixers", "self): raise RuntimeError"), ("required_inputs", "self): return ['x']")],
)  # fmt: skip
def test_what_the_plan_asks_of_a_mixer_is_checked_there(train, name: str, code: str) -> None:
    with pytest.raises(UserError, match="mine") as told:
        train(f"planned_{name}_{len(code)}", f"{name}({code}")
    assert told.value.where.startswith("methods.mine") and told.value.fix


class Slow(Mixer):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def start(self, start: Start) -> None: ...

    def sampling_weights(self, step: int) -> np.ndarray:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except Exception:
                continue
        return np.ones(1)


def test_an_answer_that_does_not_come_is_waited_for_so_long_and_no_longer() -> None:
    mixer = Guarded(Slow(60), "slow", patience=0.1)
    mixer.start(
        Start(
            domains=("a",), prior=np.ones(1), tokens_available=np.ones(1), total_steps=1, rng=np.random.default_rng(0)
        )
    )
    with pytest.raises(MixerError, match=r"sampling_weights at step 4 did not come back in 0\.1 seconds"):
        mixer.sampling_weights(4)
    assert Guarded.sampling_weights(_started(Guarded(Slow(0), "fast", patience=0.1)), 0) == 1


def test_a_timer_that_was_set_before_goes_on() -> None:
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        _started(Guarded(Slow(0.05), "slow")).sampling_weights(0)
        assert not rung
        time.sleep(0.5)
        assert rung
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _started(mixer: Guarded) -> Guarded:
    mixer.start(
        Start(
            domains=("a",), prior=np.ones(1), tokens_available=np.ones(1), total_steps=1, rng=np.random.default_rng(0)
        )
    )
    return mixer


def test_what_a_mixer_is_given_cannot_be_written_to_and_is_its_own() -> None:
    loss_K = np.ones(2)
    stats = StepStats(0, np.ones(2), {Signal.LOSS: loss_K})
    start = Start(
        domains=("a", "b"),
        prior=loss_K,
        tokens_available=loss_K,
        total_steps=1,
        rng=np.random.default_rng(0),
        objective_weights=loss_K,
    )
    for array in (stats.tokens, stats[Signal.LOSS], start.prior, start.tokens_available, start.objective_weights):
        assert not np.shares_memory(array, loss_K)
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
