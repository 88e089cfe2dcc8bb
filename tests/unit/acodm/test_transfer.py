"""An actor that one run learned and another draws by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_signals import ALIGNED, acodm, names, observe, run, start, weights

from acodm_core.acodm.hds import Hds
from acodm_core.acodm.mixer import AcOdm
from acodm_core.acodm.paper import AcOdmPaper
from acodm_core.acodm.released import AcOdmReleased
from acodm_core.errors import UserError
from acodm_core.mixing import Signal, Start

STATE = 12  # 3 K + 3, the relative form's


def learner(**changes: object) -> AcOdm:
    """A run that learned to prefer some domain."""
    mixer, rng = start(acodm(exploration_noise=(0.3, 0.05), **changes)), np.random.default_rng(0)
    for step in range(30):
        observe(mixer, step, rng.uniform(1, 4, 3), ALIGNED + rng.normal(0, 0.1, ALIGNED.shape))
    return mixer


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[AcOdm, Path]:
    """A run and the folder that it left its actor in."""
    mixer, folder = learner(), tmp_path_factory.mktemp("actor")
    mixer.save(folder)
    assert np.ptp(mixer.agent_.act(mixer.state_)) > 0.01
    return mixer, folder


def test_moved_actor_is_the_one_that_was_learned(learned: tuple[AcOdm, Path]) -> None:
    """Same state, same decision, without noise."""
    source, folder = learned
    mixer = start(acodm(learn=False, exploration_noise=(5.0, 5.0)), actor=folder)
    for state in np.random.default_rng(1).normal(size=(5, STATE)):
        np.testing.assert_array_equal(mixer.agent_.act(state), source.agent_.act(state))
    ours, theirs = mixer.tracker_.normaliser, source.tracker_.normaliser
    assert ours.count == theirs.count == 30
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.m2, theirs.m2)
    observe(mixer, 0, np.array([1.0, 2.0, 3.0]), ALIGNED)
    np.testing.assert_allclose(mixer.sampling_weights(1), mixer.agent_.act(mixer.state_), atol=1e-7)


def test_moved_actor_never_changes_and_asks_for_no_gradients(learned: tuple[AcOdm, Path]) -> None:
    mixer = start(acodm(learn=False), actor=learned[1])
    assert mixer.needs == {Signal.LOSS, Signal.PARAM_NORM}
    assert acodm(learn=False).required_inputs() == ("actor",) and acodm().required_inputs() == ()
    before, normaliser = weights(mixer.agent_.actor), mixer.tracker_.normaliser.state_dict()
    mixture_TK = run(mixer, 20)
    assert np.array_equal(weights(mixer.agent_.actor), before)
    after = mixer.tracker_.normaliser.state_dict()
    assert all(np.array_equal(normaliser[name], after[name]) for name in normaliser)
    assert len(mixer.agent_.replay) == 0
    assert np.ptp(mixture_TK, axis=0).max() > 1e-4, "the policy answers to the state"


def test_actor_moves_between_models_of_different_depth_and_width(learned: tuple[AcOdm, Path]) -> None:
    """Nine tensors fifty times as large that grow as two small ones did: the same states, the same mixtures."""
    growth_TL = np.linspace(1.0, 1.5, 12)[:, None]
    paths = []
    for tensors, size in ((2, 1.0), (9, 50.0)):
        mixer, rng, shares = start(acodm(learn=False), actor=learned[1], tensors=tensors), np.random.default_rng(3), []
        for growth_L in growth_TL:
            norm_L = size * np.broadcast_to(growth_L, tensors)
            observe(mixer, len(shares), rng.uniform(1, 4, 3), ALIGNED, norm_L=norm_L)
            shares.append(mixer.sampling_weights(len(shares)).copy())
        paths.append(shares)
    np.testing.assert_allclose(paths[0], paths[1], atol=1e-6)
    assert np.ptp(paths[0], axis=0).max() > 1e-4


@pytest.mark.parametrize("variant", [AcOdmPaper, AcOdmReleased, Hds])
def test_actors_of_the_variants_move_too(variant: type[AcOdm], tmp_path: Path) -> None:
    small = dict(hidden_size=8, hidden_layers=1, min_transitions=4, minibatch_size=8)
    source = start(variant(**small))
    run(source, 10)
    source.save(tmp_path)
    mixer = start(variant(learn=False, **small), actor=tmp_path)
    for state in np.random.default_rng(1).normal(size=(3, source.tracker_.size)):
        np.testing.assert_array_equal(mixer.agent_.act(state), source.agent_.act(state))
    run(mixer, 10)
    assert np.array_equal(weights(mixer.agent_.actor), weights(source.agent_.actor))


def test_controls_leave_no_actor(tmp_path: Path) -> None:
    for agent in ("mirror", "bandit", "random"):
        start(acodm(agent=agent)).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_actor_of_other_domains_is_refused_with_both_lists(learned: tuple[AcOdm, Path]) -> None:
    for domains in (names(4), ("domain_0", "domain_2", "domain_1")):
        k, mixer = len(domains), acodm(learn=False)
        with pytest.raises(UserError) as error:
            inputs = {"actor": learned[1]}
            mixer.start(
                Start(
                    domains=domains,
                    prior=np.full(k, 1 / k),
                    tokens_available=np.ones(k),
                    total_steps=10,
                    rng=np.random.default_rng(0),
                    inputs=inputs,
                )
            )
        text = str(error.value)
        assert str(list(names(3))) in text and str(list(domains)) in text and "actor.safetensors" in text


@pytest.mark.parametrize(
    ("option", "value", "theirs"),
    [
        ("hidden_size", 32, "hidden_size 16"),
        ("hidden_layers", 2, "hidden_layers 1"),
        ("agent", "sac", "agent ddpg"),
        ("state_form", "paper", "state_form relative"),
        ("state_blocks", ("loss",), "state_blocks"),
    ],
)
def test_actor_learned_with_other_options_is_refused_in_words(
    learned: tuple[AcOdm, Path], option: str, value: object, theirs: str
) -> None:
    with pytest.raises(UserError) as error:
        start(acodm(learn=False, **{option: value}), actor=learned[1])
    text = str(error.value)
    assert f"learned with {theirs}" in text and "actor.safetensors" in text and "hidden_size" in text


@pytest.mark.parametrize("form", ["paper", "released"])
def test_actor_that_saw_every_tensor_fits_no_other_depth(form: str, tmp_path: Path) -> None:
    source = start(acodm(state_form=form), tensors=2)
    run(source, 6)
    source.save(tmp_path)
    start(acodm(state_form=form, learn=False), tensors=2, actor=tmp_path)
    with pytest.raises(UserError, match="tensors 2"):
        start(acodm(state_form=form, learn=False), tensors=3, actor=tmp_path)


def test_input_run_without_an_actor_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"actor\.safetensors"):
        start(acodm(learn=False), actor=tmp_path)
    with pytest.raises(UserError, match=r"inputs: \{actor: NAME_OF_A_METHOD\}"):
        start(acodm(learn=False))
