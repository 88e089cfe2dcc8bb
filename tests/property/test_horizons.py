"""Constants that a paper states for a run of N steps, in a run of another length."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acodm_core.mixers.horizon import rescaled

steps = st.integers(1, 1_000_000)


@given(rate=st.floats(1e-6, 0.5), of=steps, to=steps)
def test_the_half_life_is_the_same_share_of_every_run(rate: float, of: int, to: int) -> None:
    kept = 1 - rescaled(rate, of=of, to=to)
    assert 0 <= kept < 1
    assert kept**to == pytest.approx((1 - rate) ** of, rel=1e-6, abs=1e-12), "as much is left after the whole run"
    if 1e-9 < kept < 1 - 1e-9:  # 1 - rate keeps digits there
        half_life = -math.log(2) / math.log(kept) / to
        assert half_life == pytest.approx(-math.log(2) / math.log(1 - rate) / of, rel=1e-5)


@given(rate=st.floats(0, 1), of=steps, to=steps)
def test_it_can_be_done_in_two_steps_and_is_nothing_at_the_papers_own_length(rate: float, of: int, to: int) -> None:
    assert rescaled(rate, of=of, to=of) == pytest.approx(rate, abs=1e-12)
    assert rescaled(0.0, of=of, to=to) == 0 and rescaled(1.0, of=of, to=to) == 1
    once = rescaled(rescaled(rate, of=of, to=2 * of), of=2 * of, to=4 * of)
    assert once == pytest.approx(rescaled(rate, of=of, to=4 * of), rel=1e-6, abs=1e-9)
