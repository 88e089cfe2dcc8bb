"""CHAMELEON's proxy stage on embeddings of a test's choice."""

from pathlib import Path

import numpy as np
import pytest

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

STEPS = 5
# Two copies of one domain, and three domains that have nothing in common with it or with each other.
DUPLICATES_KH = np.array([[9.0, 0, 0, 0], [9.0, 0, 0, 0], [0, 9.0, 0, 0], [0, 0, 9.0, 0], [0, 0, 0, 9.0]])


def started(k: int, **options: object) -> Mixer:
    mixer = build_mixer("chameleon", options)
    names, mixture_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(
        Start(
            domains=names, prior=mixture_K, tokens_available=mixture_K, total_steps=STEPS, rng=np.random.default_rng(0)
        )
    )
    return mixer


def shown(embedding_KH: np.ndarray, **options: object) -> Mixer:
    """The mixer at the end of a run whose domains have these embeddings."""
    mixer = started(len(embedding_KH), **options)
    for step in range(STEPS):
        wanted = {Signal.EMBEDDING: embedding_KH} if mixer.wants(step) else {}
        mixer.observe(StepStats(step, np.ones(len(embedding_KH)), wanted))
    return mixer


def test_draws_uniformly_and_looks_once_at_the_end() -> None:
    mixer = started(4)
    assert [step for step in range(STEPS) if mixer.wants(step)] == [STEPS - 1]
    np.testing.assert_array_equal(mixer.sampling_weights(0), np.full(4, 0.25))
    np.testing.assert_array_equal(shown(DUPLICATES_KH).sampling_weights(STEPS), np.full(5, 0.2))


@pytest.mark.parametrize("rule", ["released", "paper"])
def test_duplicates_are_less_unique_and_weigh_more(rule: str) -> None:
    mixer = shown(DUPLICATES_KH, rule=rule)
    assert mixer.score_[:2].max() < 0.8 * mixer.score_[2:].min()
    assert mixer.weight_[:2].min() > 1.3 * mixer.weight_[2:].max()
    assert mixer.weight_[0] == pytest.approx(mixer.weight_[1])


def test_without_ridge_two_copies_have_the_score_of_one() -> None:
    score_K = shown(DUPLICATES_KH, rule="paper", ridge=1e-6).score_
    np.testing.assert_allclose([score_K[:2].sum(), *score_K[2:]], 1.0, rtol=1e-5)


def test_the_papers_form_on_domains_that_have_nothing_in_common() -> None:
    norm_K = np.array([1.0, 2.0, 3.0])
    mixer = shown(np.diag(norm_K), rule="paper", ridge=0.5)
    score_K = norm_K**2 / (norm_K**2 + 3 * 0.5)
    np.testing.assert_allclose(mixer.score_, score_K)
    weight_K = np.exp(1 / score_K)
    np.testing.assert_allclose(mixer.weight_, weight_K / weight_K.sum())


def test_the_release_does_not_see_what_all_domains_share() -> None:
    rng = np.random.default_rng(0)
    embedding_KH, common_H = rng.normal(size=(6, 9)), 50 * rng.normal(size=9)
    np.testing.assert_allclose(shown(embedding_KH).weight_, shown(embedding_KH + common_H).weight_, rtol=1e-9)
    assert (
        np.abs(shown(embedding_KH, rule="paper").weight_ - shown(embedding_KH + common_H, rule="paper").weight_).max()
        > 0.01
    )


def test_the_default_temperature_moves_many_domains_as_it_moves_seven() -> None:
    """K domains whose uniqueness varies alike: the ratio of the largest to the smallest weight does not grow with K."""

    def spread(k: int, **options: float) -> float:
        weight_K = shown(np.diag(np.linspace(6, 9, k)), ridge=10 / k, rule="released", **options).weight_
        return float(np.log(weight_K.max() / weight_K.min()))

    assert spread(22) == pytest.approx(spread(7), rel=0.25)
    assert spread(22, temperature=5.0) > 2 * spread(7, temperature=5.0)


def test_normalised_scores_do_not_depend_on_the_scale_of_the_proxy() -> None:
    rng = np.random.default_rng(1)
    embedding_KH = rng.normal(size=(5, 8))
    small, large = (shown(scale * embedding_KH, normalise=True, ridge=0.01).score_ for scale in (0.1, 30.0))
    np.testing.assert_allclose(small, large)
    assert np.abs(shown(0.1 * embedding_KH).score_ - shown(30.0 * embedding_KH).score_).max() > 0.01


@pytest.mark.parametrize("rule", ["released", "paper"])
@pytest.mark.parametrize("normalise", [False, True])
def test_domains_that_look_exactly_alike_weigh_the_same(rule: str, normalise: bool) -> None:
    for embedding_KH in (np.ones((4, 3)), np.zeros((4, 3)), np.ones((1, 3))):
        weight_K = shown(embedding_KH, rule=rule, normalise=normalise).weight_
        np.testing.assert_allclose(weight_K, 1 / len(embedding_KH))


def test_a_target_draws_by_the_weights(tmp_path: Path) -> None:
    mixer = shown(DUPLICATES_KH)
    mixer.save(tmp_path)
    static = build_mixer("static", {})
    domains = ("d4", "d0", "d1", "d2", "d3")  # by name, not by place
    static.start(
        Start(
            domains=domains,
            prior=np.full(5, 0.2),
            tokens_available=np.ones(5),
            total_steps=1,
            rng=np.random.default_rng(0),
            inputs={"weights": tmp_path},
        )
    )
    np.testing.assert_allclose(static.sampling_weights(0), mixer.weight_[[4, 0, 1, 2, 3]])


def test_refuses_options_out_of_range() -> None:
    for options in ({"ridge": 0.0}, {"temperature": -1.0}):
        with pytest.raises(UserError, match="must be positive"):
            build_mixer("chameleon", options)
