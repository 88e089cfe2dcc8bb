"""Plain data that crosses between candidate and checker: everything comes back as it was, and nothing but data crosses."""

from __future__ import annotations

import math
import os
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acodm_core.downstream.sandbox import wire

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**60, 2**70)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
data = st.recursive(
    hashable | st.sets(hashable, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4),
    max_leaves=12,
)


def there_and_back(value: Any) -> Any:
    reading, writing = os.pipe()
    try:
        wire.write(writing, wire.pack(wire.encode(value)))
        return wire.decode(wire.receive(reading))
    finally:
        os.close(reading)
        os.close(writing)


def same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down (1, 1.0 and True are equal in Python)."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, (list, tuple)):
        return all(map(same, left, right))
    if isinstance(left, dict):
        return all(map(same, left.items(), right.items()))
    return repr(left) == repr(right) or isinstance(left, (set, frozenset))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data)
def test_data_come_back_as_they_were(value: Any) -> None:
    assert same(there_and_back(value), value)


def test_what_is_not_equal_to_itself_comes_back_too() -> None:
    assert math.isnan(there_and_back(float("nan")))
    assert there_and_back([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert str(there_and_back(-0.0)) == "-0.0"
    assert there_and_back(Decimal("NaN")).is_nan()
    assert there_and_back({1: Fraction(1, 3)}) == {1: Fraction(1, 3)}


def test_numbers_have_no_limit_of_digits() -> None:
    for number in (10**6000, -(10**6000), 2**63, -(2**63), Fraction(10**6000, 7)):
        assert there_and_back(number) == number


def test_objects_arrive_as_the_data_in_them_or_not_at_all() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert type(there_and_back(Liar(3))) is int
    for thing in (object(), print, iter([]), range(3), {}.keys(), Liar, [object()]):
        with pytest.raises(wire.NotPlain):
            wire.encode(thing)


def test_size_and_depth_are_bounded() -> None:
    deep: list = []
    for _ in range(wire.MAX_DEPTH):
        deep = [deep]
    assert there_and_back(deep) == deep
    with pytest.raises(wire.NotPlain, match="deeper"):
        wire.encode([deep])
    with pytest.raises(wire.NotPlain, match="bytes"):
        wire.pack("x" * wire.MAX_FRAME_BYTES)


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\0\x02{]",
        b"\xff\xff\xff\xffpassed",
        b'\0\0\0\x0c{"what": "3"}',
        b'\0\0\0\x0a{"int": 3}',
        b"\0\0\0\x02{}",
        b'\0\0\0\x11{"set": [[1, 2]]}',
        b'\0\0\0\x1a{"int": "3", "float": "1"}',
        b'\0\0\0\x14{"fraction": [1, 0]}',
        b"\0\0\x13\x88" + b"[" * 5000,
        b"\0\0\x07\xd0" + b"[" * 1000 + b"]" * 1000,
    ],
)
def test_garbage_is_named_as_such(frame: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, frame)
    os.close(writing)
    with pytest.raises(wire.Garbled):
        wire.decode(wire.receive(reading))
    os.close(reading)


def test_a_frame_cut_short_is_an_end(tmp_path: Any) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"\0\0\0\x09[1, 2")
    os.close(writing)
    with pytest.raises(EOFError):
        wire.receive(reading)
    os.close(reading)
