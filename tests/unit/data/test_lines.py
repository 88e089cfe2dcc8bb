"""Lines of plain and compressed files: all of them, in bounded memory, up to the damage."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from acodm_core.data.sources.formats import codec_of, encoding_of, no_text
from acodm_core.data.sources.lines import Damaged, lines
from acodm_core.data.sources.readers import Member, jsonl
from acodm_core.errors import UserError

PACK = {"a.jsonl": bytes, "a.jsonl.gz": gzip.compress, "a.jsonl.zst": zstandard.ZstdCompressor().compress}
NUMBERS = [str(random.Random(i).random()).encode() for i in range(20_000)]  # several blocks, even packed


@pytest.mark.parametrize("name", PACK)
@given(content=st.binary(max_size=200) | st.lists(st.sampled_from([b"\n", b"x", b"\r\n"]), max_size=20).map(b"".join))
def test_lines_are_those_of_the_content(name: str, content: bytes) -> None:
    assume(not any(look(content) for look in (codec_of, encoding_of, no_text)))  # what begins as another kind of file
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert list(lines(io.BytesIO(PACK[name](content)), name)) == expected


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_members_packed_one_after_the_other_are_all_read(name: str) -> None:
    halves = [b"\n".join(half) + b"\n" for half in (NUMBERS[:9_000], NUMBERS[9_000:])]
    assert list(lines(io.BytesIO(b"".join(map(PACK[name], halves))), name)) == NUMBERS


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("spoil", [lambda raw: raw[:-7], lambda raw: raw[: len(raw) // 2] + bytes(64) + raw[-99:]])
def test_damage_comes_after_the_lines_before_it(name: str, spoil) -> None:
    read: list[bytes | None] = []

    def collect(found: Iterator[bytes | None]) -> None:
        for line in found:
            read.append(line)

    with pytest.raises(Damaged):
        collect(lines(io.BytesIO(spoil(PACK[name](b"\n".join(NUMBERS)))), name))
    assert 0 < len(read) < len(NUMBERS) and read[:3_000] == NUMBERS[: len(read)][:3_000]


def test_a_line_that_is_too_long_is_skipped_and_counted() -> None:
    content = b"short\n" + b"y" * 300_000 + b"\nnext\n" + b"z" * 200_000
    assert list(lines(io.BytesIO(content), "a.jsonl", longest_bytes=1_000)) == [b"short", None, b"next", None]


def test_the_reader_of_json_lines_names_file_and_line_of_the_damage() -> None:
    raw = gzip.compress(b'{"text": "one"}\n{"text": "two"}\n' + b'{"text": "three"}\n' * 10_000)[:-7]
    with pytest.raises(UserError, match=r"cut short") as error:
        list(jsonl([Member("own.jsonl.gz", lambda: io.BytesIO(raw))]))
    assert error.value.where.startswith("own.jsonl.gz:")
