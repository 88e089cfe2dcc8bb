"""`acodm new-mixer` writes a mixer that works, `acodm check` finds what is wrong with one that does not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from acodm_core.cli import app
from acodm_core.contract import checks, speed
from acodm_core.contract.case import MODEST, case_of, domain_names, modest, start
from acodm_core.downstream.evaluations import configured
from acodm_core.errors import UserError
from acodm_core.lm.train import Trainer
from acodm_core.mixers.find import find_mixer
from acodm_core.study.planner import plan

ROOT = Path(__file__).parents[3]
EXAMPLE = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL).group(1)


def program(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def broken(folder: Path, name: str, *changes: tuple[str, str]) -> list[checks.Finding]:
    """The promises that the example breaks once it is changed so."""
    text = EXAMPLE
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / f"{name}.py"
    path.write_text(text)
    return [finding for finding in checks.examine(case_of(str(path))) if finding.kept is False]


def test_the_example_in_contributing_is_ten_lines_of_code() -> None:
    code = re.sub(r'\n    """.*?"""\n', "\n", EXAMPLE, flags=re.DOTALL).split("@dataclass\n")[1]
    assert len([line for line in code.splitlines() if line.strip()]) + 1 == 10


def test_the_example_in_contributing_keeps_the_contract(tmp_path: Path) -> None:
    (tmp_path / "follow_loss.py").write_text(EXAMPLE)
    done = program("check", tmp_path / "follow_loss.py")
    assert done.exit_code == 0, done.output
    assert done.output.count("\n  ok ") == len(checks.CHECKS) - 1, "all but what only files of baselines/ are asked"
    assert re.search(r"own arithmetic at 22 domains, CPU ms per step: mean 0\.\d+, longest ", done.output)


def test_the_example_in_contributing_trains(experiment_of, corpus, tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "example_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(EXAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    methods = {"mine": {"mixer": "example_package.mine", "options": {"beta": 3.0}}}
    experiment = experiment_of(compare=["mine"], baseline="mine", methods=methods, training={"steps": 8})
    (spec,) = plan(experiment).runs.values()
    trainer = Trainer(spec, corpus, tmp_path / "run")
    assert trainer.run() == "finished"
    mixture_K = trainer.mixer.sampling_weights(8)
    assert mixture_K.argmax() == trainer.mixer.mixer.loss_.argmax() and mixture_K.max() > 0.3, "it follows the losses"


@pytest.mark.parametrize("arguments", [[], ["--out"]])
def test_a_new_mixer_keeps_the_contract_as_it_is_written(tmp_path: Path, monkeypatch, arguments: list[str]) -> None:
    folder = tmp_path / "acodm_baselines"
    folder.mkdir()
    (folder / "_template.py").write_text((ROOT / "baselines" / "_template.py").read_text())
    monkeypatch.setattr("acodm_baselines.__path__", [str(folder), str(ROOT / "baselines")])
    path = tmp_path / "elsewhere.py" if arguments else folder / "loss_follower.py"
    done = program("new-mixer", "loss_follower", *arguments, *([path] if arguments else []))
    assert done.exit_code == 0, done.output
    assert "class LossFollower(Mixer)" in path.read_text() and "Template" not in path.read_text()
    command, other = re.findall(r"^  (\S+ .*)$", done.output, re.MULTILINE)
    assert command == f"acodm check {path if arguments else 'loss_follower'}" and " snakemake --config" in f" {other}"
    done = program(*command.split()[1:])
    assert done.exit_code == 0, done.output
    words = shlex.split(other)
    if arguments:
        monkeypatch.syspath_prepend(words[0].removeprefix("PYTHONPATH="))
    at = words.index("--configfile")
    experiment, planned, _ = configured([ROOT / words[at + 1]], words[at + 3 :])  # what snakemake does with them
    assert experiment.experiment == "try-loss_follower" and "loss_follower" in planned.compared


@pytest.mark.parametrize(
    ("name", "words"),
    [("odm", "already"), ("_mine", "cannot be the name"), ("My-Mixer", "cannot be the name"), ("lambda", "no word")],
)
def test_a_new_mixer_needs_a_name_of_its_own(name: str, words: str, tmp_path: Path) -> None:
    done = program("new-mixer", name, "--out", tmp_path / "x.py")
    assert isinstance(done.exception, UserError) and words in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_new_mixer_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("precious")
    for path in (tmp_path / "mine.py", tmp_path / "mine.txt", tmp_path / "nowhere" / "mine.py"):
        done = program("new-mixer", "mine", "--out", path)
        assert isinstance(done.exception, UserError), path
    assert (tmp_path / "mine.py").read_text() == "precious"


BROKEN = {
    "forgets": (
        [("self.loss_", "self.loss")],
        checks.resumes, "cut at 1: step 1 draws",
    ),
    "shares that do not sum to one": (
        [("return softmax(self.beta * self.loss_)", "return np.exp(-self.loss_)")],
        checks.stays_on_simplex, "K = 3, random signals: sampling_weights at step 0 gives",
    ),
    "no share for what is missing": (
        [("np.where(np.isnan(stats[Signal.LOSS]), self.loss_, stats[Signal.LOSS])", "stats[Signal.LOSS].copy()")],
        checks.stays_on_simplex, "K = 3, missing signals: sampling_weights at step 1 gives",
    ),
    "reads what it has not declared": (
        [("stats[Signal.LOSS])\n", "stats[Signal.VALID_LOSS])\n")],
        checks.declares_what_it_reads, "add Signal.VALID_LOSS to `needs`",
    ),
    "asks for what it has not declared": (
        [("    def sampling", "    def wants(self, step):\n        return frozenset({Signal.GRAD_SELF})\n\n    def sampling")],
        checks.declares_what_it_reads, "wants at step 0 has Signal.GRAD_SELF, which `needs` has not",
    ),
    "learns in sampling": (
        [("        return softmax", "        self.loss_ = self.loss_ + 1 / (1 + self.loss_)\n        return softmax")],
        checks.sampling_changes_nothing, "step 0: asking twice",
    ),
    "knows places": (
        [("softmax(self.beta * self.loss_)", "softmax(self.loss_ * np.arange(len(self.loss_)))")],
        checks.permutes_with_domains, "step 1: sampling_weights is",
    ),
    "draws from a stream of its own": (
        [("        return softmax(", "        return softmax(np.random.default_rng().random(len(self.loss_)) + ")],
        checks.same_seed_same_path, "two runs of one seed part at step 0",
    ),
    "writes into what it is shown": (
        [("self.loss_ = np.where(np.isnan(stats[Signal.LOSS]), self.loss_, stats[Signal.LOSS])",
          "stats[Signal.LOSS][:] = 0")],
        checks.declares_what_it_reads, "observe at step 0 raised ValueError: assignment destination is read-only",
    ),
    "makes what it is shown writeable": (
        [("self.loss_ = np.where(np.isnan(stats[Signal.LOSS]), self.loss_, stats[Signal.LOSS])",
          "stats[Signal.LOSS].flags.writeable = True; stats[Signal.LOSS][:] = 0")],
        checks.changes_nothing_given, "observe at step 0 changed what it was given",
    ),
    "shares its state": (
        [("    def sampling", "    def state_dict(self):\n        return {'loss_': self.loss_}\n\n    def sampling"),
         ("self.loss_ = np.where(np.isnan(stats[Signal.LOSS]), self.loss_, stats[Signal.LOSS])",
          "self.loss_[:] = np.where(np.isnan(stats[Signal.LOSS]), self.loss_, stats[Signal.LOSS])")],
        checks.state_is_a_copy, "what state_dict gave changed",
    ),
    "takes any state": (
        [("    def sampling", "    def load_state_dict(self, state):\n        self.loss_ = state['loss_']\n\n    def sampling")],
        checks.refuses_other_state, "surprise_, is taken",
    ),
    "has no card": ([("    Update:\n", "")], checks.described, "the docstring has no block Update"),
    "no default": ([("beta: float = 1.0", "beta: float")], checks.options_teach, "option beta has no default"),
    "any type": ([("beta: float", "beta: object")], checks.options_teach, "option beta takes text as well as lists"),
    "cannot be saved": (
        [("    def sampling", "    def save(self, folder):\n        (folder / 'x' / 'y').touch()\n\n"
          "    def sampling")],
        checks.saves_whenever_it_ends, "FileNotFoundError",
    ),
    "bad diagnostics": (
        [("    def sampling", "    def diagnostics(self):\n        return {'least': np.inf}\n\n    def sampling")],
        checks.stays_on_simplex, "diagnostic least is inf",
    ),
    "a vector of another length": (
        [("    def sampling", "    def diagnostics(self):\n        return {'two': np.zeros(2)}\n\n    def sampling")],
        checks.stays_on_simplex, "diagnostics at step 0 gives 'two' as [0. 0.] (float64 (2,))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_check_finds_what_is_wrong(name: str, tmp_path: Path) -> None:
    changes, check, words = BROKEN[name]
    found = broken(tmp_path, name.replace(" ", "_").replace("'", ""), *changes)
    named = {finding.promise: finding for finding in found}
    assert check.__doc__ in named, found
    assert words in named[check.__doc__].what
    assert named[check.__doc__].fix


def test_check_says_what_failed_and_how_to_mend_it_and_exits_with_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXAMPLE.replace("self.loss_", "self.loss"))
    done = program("check", "uniform", tmp_path / "mine.py")
    assert done.exit_code == 1
    assert (
        "failed     Resumes bit for bit" in done.output
        and "-> what observe changes and later steps read" in done.output
    )
    assert "uniform\n  ok " in done.output and "promises broken" in done.output


def test_check_names_the_line_of_the_mixer_that_raised(tmp_path: Path) -> None:
    (found, *_) = broken(tmp_path, "divides", ("softmax(self.beta", "softmax(1 // 0 * self.beta"))
    line = 1 + EXAMPLE[: EXAMPLE.index("softmax(self.beta")].count("\n")
    assert found.what.startswith("sampling_weights at step 0 raised ZeroDivisionError") and found.fix.endswith(
        f"divides.py, line {line}"
    )


def test_check_takes_names_methods_modules_and_files(tmp_path: Path) -> None:
    assert case_of("odm_released").options == {"rule": "released"}
    assert case_of("acodm_core.acodm.hds").mixer == "acodm_core.acodm.hds"
    assert find_mixer(case_of(str(ROOT / "baselines" / "odm.py")).mixer) is find_mixer("odm")
    assert start(case_of("acodm_proxy"), domain_names(3)).mixer.learn is False, "its actor was made for it"
    for name, words in (("odn", "did you mean 'odm'"), (str(tmp_path / "x.py"), "acodm new-mixer x --out")):
        with pytest.raises(UserError, match=words):
            case_of(name)
    (tmp_path / "wrong.py").write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        case_of(str(tmp_path / "wrong.py"))


def test_large_networks_keep_their_promises_at_a_modest_size() -> None:
    def size(case) -> dict:
        mixer = case.build(domain_names(3))
        return {name: getattr(mixer, name) for name in MODEST}

    case = case_of("acodm_paper_proxy")
    small = modest(case)
    assert size(small) == size(small.inputs_of(domain_names(3))["actor"]) == MODEST
    assert size(case)["hidden_size"] > MODEST["hidden_size"] and modest(case) is small, "a stage is run once"
    assert modest(case_of("acodm")).options == case_of("acodm").options and modest(case_of("odm")).options == {}
    swarm = modest(case_of("regmix")).inputs_of(domain_names(3))["swarm"]
    assert len({one.options["member"] for one in swarm}) == len(swarm) > 1


def test_a_slow_mixer_is_timed_for_as_long_as_there_is_time(monkeypatch) -> None:
    monkeypatch.setattr(speed, "TIMED_SECONDS", 0.0)
    assert len(speed.step_seconds(case_of("odm"))) == 1


def test_a_mixer_whose_inputs_nobody_makes_is_told_so(tmp_path: Path) -> None:
    (found, *_) = broken(
        tmp_path,
        "needy",
        ("    def sampling", "    def required_inputs(self):\n        return ('graph',)\n\n    def sampling"),
    )
    assert "needs input runs ['graph']" in found.what and "methods.yaml" in found.fix


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sampling_weights(self, step): sys.exit(0)", "sampling_weights at step 0 tried to end the program"),
        ("sampling_weights(self, step): os._exit(0)", "the mixer ended its process, with status 0"),
        ("observe(self, stats): os.kill(os.getpid(), 9)", "the mixer ended its process, with status -9"),
        (
            "sampling_weights(self, step):\n        while True: pass",
            "sampling_weights at step 0 did not come back in 0.2 seconds",
        ),
        (
            "sampling_weights(self, step): raise KeyboardInterrupt",
            "sampling_weights at step 0 raised KeyboardInterrupt",
        ),
    ],
)
def test_check_fails_whatever_a_mixer_does_to_its_process(code: str, words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("acodm_core.contract.case.PATIENCE", 0.2)
    path = tmp_path / f"unruly_{len(words)}.py"
    path.write_text("import os, sys\n" + EXAMPLE.replace("    def sampling", f"    def {code}\n\n    def _sampling", 1))
    if code.startswith("observe"):
        path.write_text(
            path.read_text().replace("def _sampling", "def sampling").replace("def observe(self, stats: ", "def _(")
        )
    done = program("check", path)
    assert done.exit_code == 1 and words in done.output, done.output
