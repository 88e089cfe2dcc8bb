"""Draws by the weights of the comparison, whatever is measured and however much text a domain has."""

import numpy as np
import pytest
from made_up_signals import run, start

from acodm_core.mixers.find import build_mixer
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan

WEIGHTS = [np.array([0.2, 0.5, 0.3]), np.array([0.0, 0.0, 1.0]), np.array([2.0, 1.0, 1.0])]


@pytest.mark.parametrize("weight_K", WEIGHTS, ids=str)
def test_every_step_draws_the_target_weights(weight_K: np.ndarray) -> None:
    mixture_TK = run(start(build_mixer("objective", {}), objective_weights=weight_K), 20)
    np.testing.assert_allclose(mixture_TK, np.tile(weight_K / weight_K.sum(), (20, 1)), rtol=1e-15)


def test_it_is_uniform_where_all_domains_count_alike() -> None:
    for k in (1, 3, 22):
        target, uniform = start(build_mixer("objective", {}), k), start(build_mixer("uniform", {}), k)
        np.testing.assert_array_equal(target.sampling_weights(0), uniform.sampling_weights(0))


def test_it_measures_nothing_and_keeps_no_hold_on_the_experiments_weights() -> None:
    given_K = np.array([0.2, 0.5, 0.3])
    mixer = start(build_mixer("objective", {}), objective_weights=given_K)
    assert not mixer.needs and mixer.loss_weights(0) is None and not mixer.required_inputs()
    given_K[:] = 7.0
    np.testing.assert_allclose(mixer.sampling_weights(1), [0.2, 0.5, 0.3])


def test_shipped_method_needs_no_other_run() -> None:
    experiment = {
        "experiment": "test",
        "seeds": [0],
        "corpus": {"name": "small", "domains": ["bible", "speeches"], "tokenizer": {"vocab_size": 512}},
        "compare": ["natural", "objective"],
    }
    found = plan(load_experiment(experiment))
    spec = found.runs[found.compared["objective"][0]]
    assert (spec.mixer, dict(spec.options), dict(spec.inputs)) == ("objective", {}, {})
