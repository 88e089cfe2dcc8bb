"""ADO: its fit finds the law, its mixture follows the slope."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acodm_baselines.ado import fit
from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

NO_GUESS = np.full(3, np.nan)


def law(n: np.ndarray, a: float, e: float, alpha: float) -> np.ndarray:
    return np.exp(e) + np.exp(a) * n**-alpha


def started(k: int, steps: int, prior: np.ndarray | None = None, **options: object) -> Mixer:
    prior_K = np.full(k, 1 / k) if prior is None else prior
    mixer = build_mixer("ado", options)
    names = tuple(f"d{i}" for i in range(k))
    mixer.start(
        Start(
            domains=names,
            prior=prior_K,
            tokens_available=prior_K * 1e6,
            total_steps=steps,
            rng=np.random.default_rng(0),
        )
    )
    return mixer


def feed(mixer: Mixer, loss_TK: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
    """(T + 1, K) shares before the first step and after each."""
    shares = [mixer.sampling_weights(0).copy()]
    for step, loss_K in enumerate(loss_TK):
        tokens_K = np.where(np.isnan(loss_K), 0.0, 100.0) if tokens is None else tokens
        mixer.observe(StepStats(step, tokens_K, {Signal.LOSS: loss_K}))
        shares.append(mixer.sampling_weights(step + 1).copy())
    return np.array(shares)


@settings(max_examples=15, deadline=None)
@given(a=st.floats(0.3, 3.0), e=st.floats(-0.5, 1.5), alpha=st.floats(0.15, 0.75))
def test_the_fit_recovers_the_law_from_a_curve_without_noise(a: float, e: float, alpha: float) -> None:
    n = np.unique(np.linspace(20, 3000, 256).astype(int))
    found = fit(n, law(n, a, e, alpha), -1.0, NO_GUESS)
    np.testing.assert_allclose(law(n, *found), law(n, a, e, alpha), rtol=1e-5)
    np.testing.assert_allclose(found, [a, e, alpha], atol=1e-3)


def test_no_law_in_the_box_fits_a_noisy_curve_better() -> None:
    """The Huber loss, worked out by itself, over a fine grid."""
    rng, n = np.random.default_rng(3), np.arange(20, 1000, 8)
    loss = law(n, 1.0, 0.8, 0.4) * np.exp(0.05 * rng.standard_normal(len(n)))

    def huber(params: np.ndarray) -> float:
        off = np.abs(np.log(law(n, *params)) - np.log(loss))
        return float(np.where(off > 1e-3, 1e-3 * (off - 5e-4), off**2 / 2).sum())

    least = np.log(0.2 * loss.min())
    found = fit(n, loss, least, NO_GUESS)
    grid = np.stack(np.meshgrid(np.arange(-2, 6.6, 0.05), np.arange(least, 1.6, 0.02), np.arange(0, 0.81, 0.05)), -1)
    coarse = grid.reshape(-1, 3)
    off = np.abs(
        np.log(np.exp(coarse[:, 1:2]) + np.exp(coarse[:, :1] - coarse[:, 2:] * np.log(n[::4]))) - np.log(loss[::4])
    )
    best = coarse[np.argsort(off.sum(1))[:50]]
    assert huber(found) <= min(map(huber, best)) * 1.0001


def test_bounds_hold_and_the_releases_floor_is_165_nats() -> None:
    n = np.arange(10, 500, 5)
    low = 0.05 + 5.0 * n**-0.7  # a domain that is all but learnt
    for bound, least in (("relative", np.log(0.2 * low.min())), ("released", 0.5)):
        a, e, alpha = fit(n, low, least, NO_GUESS)
        assert e >= least and a <= 6.5 and 0 <= alpha <= 0.8, bound
    relative, released = (feed_law(bound) for bound in ("relative", "released"))
    assert np.exp(released[1]) >= 1.64 > np.exp(relative[1])


def feed_law(bound: str) -> np.ndarray:
    mixer = started(2, 100, bound=bound)
    n = np.arange(1.0, 101)
    feed(mixer, np.stack([law(n, 1.0, -1.0, 0.5)] * 2, axis=1))
    return mixer.law_[0]


def test_draws_by_the_prior_until_the_first_fit() -> None:
    prior = np.array([0.7, 0.2, 0.1])
    n = np.arange(1.0, 41)
    shares = feed(started(3, 200, prior), np.stack([law(n, 1, 0, 0.3), law(n, 2, 0, 0.5), law(n, 0, 1, 0.2)], axis=1))
    np.testing.assert_array_equal(shares[:20], np.tile(prior, (20, 1)))
    assert np.abs(shares[20] - prior).max() > 1e-3


def test_leaves_a_domain_that_has_nothing_more_to_teach() -> None:
    n = np.arange(1.0, 301)
    exhausted, learning = np.full(300, 2.0), law(n, 2.0, 0.5, 0.5)
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal((300, 3)))
    shares = feed(started(3, 300), np.stack([exhausted, learning, learning], axis=1) * noise)
    assert shares[-1, 0] < 0.08 < 0.4 < shares[-1, 1:].min()


def test_the_mixture_is_the_rule_worked_out_step_by_step() -> None:
    prior, drawn = np.array([0.6, 0.3, 0.1]), np.array([1.0, 2.0, 5.0])
    mixer = started(3, 60, prior, refit=1.0)
    mixer.law_ = np.array([[1.0, 0.0, 0.3], [2.0, 0.5, 0.5], [0.0, 1.0, 0.02]])  # the last one's alpha counts as 0.05
    a, e, alpha = mixer.law_.T
    shares = feed(mixer, np.full((45, 3), 2.0), drawn)
    credit, mean = prior, prior
    for t in range(1, 46):
        credit = 0.9 * credit + 0.1 * drawn / 8
        slope = np.maximum(alpha, 0.05) * (law(float(t), a, e, alpha) - np.exp(e)) / t
        rho = prior * slope * np.sqrt(credit)
        rho = np.maximum(rho / rho.sum(), 0.01)
        rho = rho / rho.sum()
        np.testing.assert_allclose(shares[t], 0.9 * mean + 0.1 * rho, rtol=1e-9, err_msg=str(t))
        mean = mean * (t - 1) / t + rho / t  # release at bc3d8d0, ado.py, curr_dist: 1 / (itr + 1), itr from 0


def test_the_last_loss_of_a_domain_stands_where_a_step_did_not_draw_it() -> None:
    n = np.arange(1.0, 61)
    loss_TK = np.stack([law(n, 1, 0, 0.3), law(n, 2, 0, 0.5)], axis=1)
    loss_TK[0, 1] = np.nan  # never seen: the mean of the others
    loss_TK[7, 0] = np.nan
    mixer = started(2, 60)
    feed(mixer, loss_TK)
    assert mixer.loss_[0, 1] == loss_TK[0, 0] and mixer.loss_[7, 0] == loss_TK[6, 0]
    assert np.isfinite(mixer.law_).all()


def test_refuses_what_is_no_share() -> None:
    with pytest.raises(UserError, match=r"shares must lie in \[0, 1\]"):
        build_mixer("ado", {"mix": 1.5})
    with pytest.raises(UserError, match="credit"):
        build_mixer("ado", {"credit": -0.5})
