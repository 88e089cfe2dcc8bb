"""What the actor sees, in its three forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from acodm_core.acodm.state import BLOCKS, Normaliser, StateTracker

NAN = np.nan


def standard(x: list[float]) -> np.ndarray:
    return (np.array(x) - np.mean(x)) / np.std(x, ddof=1)


def feed(tracker: StateTracker, step: int, tokens_K, loss_K, norm_L=(1.0, 1.0), step_norm_L=(0.1, 0.1)) -> np.ndarray:
    return tracker.observe(step, *(np.array(part, float) for part in (tokens_K, loss_K, norm_L, step_norm_L)))


# --- relative ---


def relative(domains: int, *, signal_decay: float = 0.9, **more: object) -> StateTracker:
    """A tracker that shows its blocks without the normalisation over time."""
    tracker = StateTracker(domains, 10, form="relative", signal_decay=signal_decay, **more)
    tracker.normaliser.frozen, tracker.normaliser.m2 = True, np.ones(tracker.size)
    return tracker


def plain(state: np.ndarray) -> np.ndarray:
    """Undo the deviation of one (plus the guard) that a frozen normaliser without data divides by."""
    return state * (1 + 1e-3)


def test_relative_state_is_finite_from_the_first_step_with_absent_domains() -> None:
    state = feed(StateTracker(4, 10, form="relative"), 0, [0, 32, 0, 0], [NAN, 3.0, NAN, NAN])
    assert state.shape == (3 * 4 + 3,) and np.isfinite(state).all()
    np.testing.assert_allclose(plain(feed(relative(4), 0, [0, 32, 0, 0], [NAN, 3.0, NAN, NAN]))[4:8], 3.0)


def test_relative_state_holds_the_last_loss_of_an_absent_domain() -> None:
    tracker = relative(2)
    feed(tracker, 0, [32, 32], [4.0, 2.0])
    state = plain(feed(tracker, 1, [64, 0], [3.0, NAN]))
    np.testing.assert_allclose(state[2:4], [0.9 * 4.0 + 0.1 * 3.0, 2.0])
    np.testing.assert_allclose(state[4:6], [0.1 * -0.1, 0.0])
    held = state[4]
    state = plain(feed(tracker, 2, [0, 64], [NAN, 1.0]))
    np.testing.assert_allclose(state[2:5], [3.9, 1.9, held])


def test_relative_state_by_hand() -> None:
    tracker = relative(2)
    feed(tracker, 0, [99, 99], [1.0, 1.0], [2.0, 4.0])
    state = plain(feed(tracker, 1, [200, 0], [1.0, NAN], [4.0, 4.0]))
    np.testing.assert_allclose(state[:2], np.log([300 / 400 * 2, 100 / 400 * 2]))
    np.testing.assert_allclose(state[-3:], [np.log(2) / 2, 0.0, 0.2])


def test_relative_state_has_the_same_length_for_every_depth_and_no_unit_of_size() -> None:
    states = []
    for tensors, size in ((1, 1.0), (4, 50.0), (9, 1e-3)):
        tracker = StateTracker(3, 10, form="relative", tensors=tensors)
        for step in range(3):
            state = feed(tracker, step, np.ones(3), np.ones(3), np.full(tensors, size * 1.1**step))
        states.append(state)
    for one, other in pairwise(states):
        np.testing.assert_allclose(one, other)


def test_relative_state_does_not_look_at_norms_of_changes() -> None:
    one, other = relative(2), relative(2)
    here = feed(one, 0, [1, 1], [1, 1], step_norm_L=[])
    np.testing.assert_array_equal(here, feed(other, 0, [1, 1], [1, 1], step_norm_L=[7.0, NAN]))


def test_relative_state_is_normalised_over_time() -> None:
    tracker, raw, rng, seen = StateTracker(3, 10, form="relative"), relative(3), np.random.default_rng(0), []
    for step in range(10):
        step_of = (rng.integers(1, 50, 3), rng.uniform(1, 4, 3), rng.uniform(1, 2, 2))
        state = feed(tracker, step, *step_of)
        seen.append(np.clip(plain(feed(raw, step, *step_of)), -5, 5))
        if step:
            expected = (seen[-1] - np.mean(seen, 0)) / (np.std(seen, 0, ddof=1) + 1e-3)
            np.testing.assert_allclose(state, expected, rtol=1e-9, atol=1e-12)


# --- paper ---


@pytest.mark.parametrize(("domains", "tensors"), [(22, 9), (3, 2), (1, 1)])
def test_paper_and_release_states_have_the_papers_dimension(domains: int, tensors: int) -> None:
    """3K + 2L + 1; 85 for the Pile's 22 domains and nine tensors (arXiv 2505.23878)."""
    for form in ("paper", "released"):
        tracker = StateTracker(domains, 10, form=form, tensors=tensors)
        state = feed(tracker, 0, np.ones(domains), np.ones(domains), np.ones(tensors), np.ones(tensors))
        assert len(state) == tracker.size == 3 * domains + 2 * tensors + 1
    assert domains != 22 or tracker.size == 85


def test_paper_state_by_hand() -> None:
    """Samples so far, batch losses, their one-step change, norms and norms of changes: each standardised; and the time."""
    tracker = StateTracker(3, 50, form="paper", tensors=2)
    feed(tracker, 0, [32, 8, 8], [4.0, 3.0, 6.0], [10.0, 20.0], [0.5, 0.25])
    state = feed(tracker, 1, [8, 32, 0], [3.5, 3.25, NAN], [11.0, 19.0], [1.0, 2.0])  # an absent one keeps its last
    expected = [
        *standard([40, 40, 8]), *standard([3.5, 3.25, 6.0]), *standard([-0.5, 0.25, 0.0]),
        *standard([11.0, 19.0]), *standard([1.0, 2.0]), 100 * 2 / 50,
    ]  # fmt: skip
    np.testing.assert_allclose(state, expected, rtol=1e-6)
    state = feed(tracker, 2, [0, 40, 8], [NAN, 3.0, 5.0], [12.0, 18.0], [1.0, 1.0])
    np.testing.assert_allclose(state[:3], standard([40, 80, 16]), rtol=1e-6)
    np.testing.assert_allclose(state[6:9], standard([-0.5, -0.25, -1.0]), rtol=1e-6)


def test_tokens_serve_for_samples_in_the_papers_state() -> None:
    one, other = (StateTracker(3, 50, form="paper", tensors=2) for _ in range(2))
    for step, counts_K in enumerate(([3, 0, 5], [1, 1, 6])):
        samples, tokens = (feed(t, step, n * np.array(counts_K), [4.0, 3.0, 6.0]) for t, n in ((one, 1), (other, 256)))
        np.testing.assert_allclose(samples, tokens, rtol=1e-6)


# --- released ---


def test_released_state_by_hand() -> None:
    """This step's tokens, losses, losses less the first step's, norms: each block standardised over its entries."""
    tracker = StateTracker(3, 50, form="released", tensors=2)
    feed(tracker, 0, [10, 20, 40], [4.0, 3.0, 5.0], [1.0, 2.0], [0.1, 0.3])
    state = feed(tracker, 1, [30, 20, 20], [3.0, 2.5, 4.0], [3.0, 2.0], [0.3, 0.1])
    expected = [
        *standard([30, 20, 20]), *standard([3.0, 2.5, 4.0]), *standard([-1.0, -0.5, -1.0]),
        *standard([3.0, 2.0]), *standard([0.3, 0.1]), 100 * 2 / 50,
    ]  # fmt: skip
    np.testing.assert_allclose(state, expected, rtol=1e-6)
    state = feed(tracker, 2, [70, 0, 0], [2.0, NAN, NAN], [3.0, 2.0], [0.3, 0.1])
    np.testing.assert_allclose(state[3:6], standard([2.0, 2.5, 4.0]), rtol=1e-6)  # held
    np.testing.assert_allclose(state[6:9], standard([-2.0, -0.5, -1.0]), rtol=1e-6)


def test_released_blocks_are_clamped_at_three_deviations() -> None:
    tracker, k = StateTracker(22, 10, form="released", tensors=1), 22
    outlier_K = np.where(np.arange(k) == 4, 1e6, 1.0)  # its standardised value is 21 / sqrt(22) = 4.48
    state = feed(tracker, 0, outlier_K, -outlier_K, [1.0], [1.0])
    assert state[4] == 3.0 and state[k + 4] == -3.0
    np.testing.assert_array_equal(state[2 * k : 3 * k + 2], 0.0)  # no change yet, and one norm has no spread


# --- blocks ---


@pytest.mark.parametrize("form", ["relative", "paper", "released"])
def test_blocks_are_columns_of_the_whole_state(form: str) -> None:
    k, norms = 3, 2 if form == "relative" else 4
    ends = np.cumsum([k, k, k, norms, 1])
    columns = {block: range(end - n, end) for block, end, n in zip(BLOCKS, ends, (k, k, k, norms, 1), strict=True)}

    def last(*blocks: str) -> np.ndarray:
        tracker, rng = StateTracker(k, 20, form=form, blocks=blocks, tensors=2), np.random.default_rng(1)
        for step in range(5):
            loss_K = np.where(rng.random(k) < 0.3, NAN, rng.uniform(1, 4, k))
            loss_K[0] = 2.0 + step / 10
            state = feed(tracker, step, rng.integers(1, 9, k), loss_K, rng.uniform(1, 2, 2), rng.uniform(0, 1, 2))
        assert len(state) == tracker.size
        return state

    whole = last(*BLOCKS)
    for chosen in (*[(block,) for block in BLOCKS], ("loss", "time"), ("time", "norms", "counts")):
        wanted = [column for block in BLOCKS if block in chosen for column in columns[block]]
        np.testing.assert_array_equal(last(*chosen), whole[wanted])


@pytest.mark.parametrize("form", ["relative", "paper", "released"])
def test_without_blocks_the_state_is_a_constant(form: str) -> None:
    tracker, rng = StateTracker(3, 20, form=form, blocks=(), tensors=2), np.random.default_rng(1)
    states = [feed(tracker, step, rng.integers(1, 9, 3), rng.uniform(1, 4, 3)) for step in range(6)]
    assert tracker.size == 1
    np.testing.assert_array_equal(states, np.tile(states[0], (6, 1)))


# --- restore and normaliser ---


@pytest.mark.parametrize("form", ["relative", "paper", "released"])
def test_state_continues_after_a_restore(form: str) -> None:
    rng = np.random.default_rng(0)
    steps = [(rng.integers(0, 9, 3), rng.uniform(1, 4, 3), rng.uniform(1, 2, 2)) for _ in range(8)]
    steps[0][1][1] = steps[1][1][1] = steps[5][1][0] = NAN
    for cut in (0, 1, 4):
        whole, resumed = (StateTracker(3, 10, form=form, tensors=2) for _ in range(2))
        for step in range(cut):
            feed(whole, step, *steps[step])
        kept = whole.state_dict()
        expected = [feed(whole, step, *steps[step]) for step in range(cut, 8)]
        resumed.load_state_dict(kept)
        np.testing.assert_array_equal(expected, [feed(resumed, step, *steps[step]) for step in range(cut, 8)])


def test_normaliser_is_mean_and_deviation() -> None:
    data = np.random.default_rng(0).normal(3, 2, size=(50, 4))
    normaliser = Normaliser(4)
    for row in data:
        normaliser.update(row)
    np.testing.assert_allclose(normaliser.mean, data.mean(0))
    x = data[7]
    np.testing.assert_allclose(normaliser(x), (x - data.mean(0)) / (data.std(0, ddof=1) + 1e-3))
    assert np.abs(normaliser(np.full(4, 1e9))).max() == 5.0


def test_frozen_normaliser_does_not_move() -> None:
    normaliser = Normaliser(2)
    for row in np.random.default_rng(0).normal(size=(5, 2)):
        normaliser.update(row)
    before = normaliser.state_dict()
    normaliser.frozen = True
    normaliser.update(np.array([1e6, -1e6]))
    after = normaliser.state_dict()
    assert after["count"] == before["count"]
    np.testing.assert_array_equal(after["mean"], before["mean"])
    np.testing.assert_array_equal(after["m2"], before["m2"])
