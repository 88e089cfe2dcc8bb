"""Methods with stages, really trained one after the other on a small corpus, and killed in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.flops import sequence_flops
from acodm_core.lm.model import build_model
from acodm_core.lm.overhead import PLAIN, Arms, plain_arm
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.train import Trainer
from acodm_core.mixers.find import find_mixer
from acodm_core.mixers.guarded import MixerError
from acodm_core.mixing import Signal
from acodm_core.study.planner import RunSpec, plan

STEPS, EVERY = 20, 6
FILES = ("metrics.parquet", "mixture.parquet", "diagnostics.parquet", "weights.safetensors")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def specs(experiment_of) -> dict[str, RunSpec]:
    recipe = {"steps": STEPS, "checkpoint_every": EVERY, "batch": 6}
    methods = {"aioli": {"options": {"trial": 1}}}
    planned = plan(
        experiment_of(compare=["uniform", "doremi", "doge", "aioli", "opmix"], training=recipe, methods=methods)
    )
    return {spec.method: spec for spec in planned.runs.values()}


@pytest.fixture(scope="module")
def runs(specs: dict[str, RunSpec], corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Method -> the folder of its finished run, trained in the order of the plan."""
    root, folders = tmp_path_factory.mktemp("stages"), {}
    for method, spec in specs.items():
        assert train(spec, corpus, root / spec.run, folders, specs).run() == "finished"
        folders[method] = root / spec.run
    return folders


def train(spec: RunSpec, corpus, folder: Path, folders: dict[str, Path], specs: dict[str, RunSpec]) -> Trainer:
    of_run = {other.run: folders[method] for method, other in specs.items() if method in folders}
    return Trainer(spec, corpus, folder, {role: of_run[run] for role, run in spec.inputs.items()})


def test_the_plan_has_every_stage_before_what_needs_it(specs: dict[str, RunSpec]) -> None:
    order = list(specs)
    assert order.index("doremi_reference") < order.index("doremi_proxy") < order.index("doremi")
    assert order.index("doge_proxy") < order.index("doge")
    assert specs["doremi_reference"].mixer == "uniform"
    assert specs["doremi_proxy"].inputs == {"reference": specs["doremi_reference"].run}


@pytest.mark.parametrize("method", ["doremi", "doge"])
def test_the_target_draws_by_the_weights_that_its_proxy_found(
    method: str, runs: dict[str, Path], specs: dict[str, RunSpec]
) -> None:
    weights = read_json(runs[f"{method}_proxy"] / "weights.json")
    found_K = np.array([weights[domain] for domain in specs[method].domains])
    assert found_K.sum() == pytest.approx(1) and np.ptp(found_K) > 1e-3, "it found something"
    shares = pd.read_parquet(runs[method] / "mixture.parquet").pivot(index="step", columns="domain", values="requested")
    np.testing.assert_allclose(shares[list(specs[method].domains)], np.tile(found_K, (STEPS, 1)))
    proxy = pd.read_parquet(runs[f"{method}_proxy"] / "mixture.parquet")
    np.testing.assert_allclose(proxy.requested, 1 / len(found_K))


@pytest.mark.parametrize("method", ["doremi_proxy", "doge_proxy", "aioli", "opmix"])
def test_a_killed_stage_continues_to_the_same_bytes(
    method: str, runs: dict[str, Path], specs: dict[str, RunSpec], corpus, tmp_path: Path, monkeypatch
) -> None:
    spec, folder = specs[method], tmp_path / specs[method].run
    mixer = find_mixer(spec.mixer)
    for last in (2, 9, 17):  # before the first checkpoint, and between others; OP-Mix looks at step 3
        with monkeypatch.context() as patch:
            patch.setattr(mixer, "observe", killing(mixer.observe, last))
            with pytest.raises(MixerError):
                train(spec, corpus, folder, runs, specs).run()
    assert train(spec, corpus, folder, runs, specs).run() == "finished"
    names = FILES if method in ("aioli", "opmix") else (*FILES, "weights.json")
    for name in names:
        assert (folder / name).read_bytes() == (runs[method] / name).read_bytes(), f"{name} differs"
    manifests = [read_json(path / "manifest.json") for path in (folder, runs[method])]
    assert manifests[0]["method_flops"] == manifests[1]["method_flops"] > 0


def killing(observe, last: int):
    def until(self, stats) -> None:
        if stats.step == last:
            raise Killed
        observe(self, stats)

    return until


def test_measuring_is_counted_step_by_step(runs: dict[str, Path], specs: dict[str, RunSpec], corpus) -> None:
    training = specs["aioli"].training
    model = build_model(specs["aioli"].model.config, vocab_size=corpus.vocab_size, context=training.context, seed=0)
    forward = sequence_flops(model, training.context, backward=False)
    flops = {method: read_json(folder / "manifest.json")["method_flops"] for method, folder in runs.items()}
    assert flops["uniform"] == flops["doremi_reference"] == flops["doremi"] == flops["doge"] == 0
    assert flops["doremi_proxy"] == STEPS * training.batch * forward
    # One look at the start, then rounds of four one-step trials and four steps, each trial and round with a look at its end.
    looks, sequences = 1 + 2 * 5 + 3, 3 * len(corpus.domains)
    assert flops["aioli"] == looks * sequences * forward


def test_a_held_out_loss_is_that_of_the_model_after_the_step(
    specs: dict[str, RunSpec], corpus, tmp_path: Path, monkeypatch
) -> None:
    spec, seen, expected = specs["aioli"], {}, {}
    mixer = find_mixer(spec.mixer)
    observe = mixer.observe

    def watching(self, stats) -> None:
        if Signal.VALID_LOSS in stats:
            seen[stats.step] = stats[Signal.VALID_LOSS]
            expected[stats.step] = last(trainer.model, trainer.train_step.autocast()).loss_K
        observe(self, stats)

    monkeypatch.setattr(mixer, "observe", watching)
    trainer = train(spec, corpus, tmp_path / spec.run, {}, specs)
    last = Evaluator(corpus, "valid", sequences=3, context=spec.training.context, rows=2, last=True)
    trainer.run()
    assert list(seen) == [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 16, 17, 18, 19]
    for step, loss_K in seen.items():
        np.testing.assert_allclose(loss_K, expected[step], rtol=1e-5)


def test_the_probe_times_the_reference_and_the_held_out_losses_as_signals(
    runs: dict[str, Path], specs: dict[str, RunSpec], corpus
) -> None:
    chosen = {PLAIN: plain_arm(specs["aioli"])} | {method: specs[method] for method in ("doremi_proxy", "aioli")}
    arms = Arms(chosen, corpus, {"doremi_proxy": {"reference": runs["doremi_reference"]}}, "cpu")
    seconds = {arm: arms.block(arm, 12)["signals"] for arm in [*chosen, *chosen]}  # the first round warms up
    assert seconds["doremi_proxy"] > 2 * seconds[PLAIN] and seconds["aioli"] > 2 * seconds[PLAIN]
    assert arms.references[PLAIN] is None and arms.references["aioli"] is None


def test_without_its_reference_the_proxy_says_what_to_add(specs: dict[str, RunSpec], corpus, tmp_path: Path) -> None:
    spec = specs["doremi_proxy"]
    with pytest.raises(UserError, match="reference: NAME_OF_A_METHOD"):
        Trainer(spec, corpus, tmp_path / spec.run)
