"""Cleaning, caps and the Parquet file of a domain."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.sources import mathematics
from acodm_core.data.tokens.documents import SPLITS, build_documents, clean, read_documents
from acodm_core.data.tokens.raw_documents import read_domain
from acodm_core.errors import UserError


def corpus(tmp_path: Path, texts: list[str], **changes: object) -> CorpusSpec:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    entry = {"from": "files", "paths": [str(path)], "format": "jsonl"}
    return CorpusSpec.model_validate({"name": "small", "domains": {"mine": entry}} | changes)


def sentences(count: int, start: int = 0) -> list[str]:
    return [f"Document number {i} says something of its own, {i * i}." for i in range(start, start + count)]


def build(spec: CorpusSpec, tmp_path: Path, name: str = "mine.parquet") -> dict[str, list[str]]:
    build_documents(spec, "mine", tmp_path, tmp_path / name)
    return {split: list(read_documents(tmp_path / name, split)) for split in SPLITS}


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\r\nb\rc\fd", "a\nb\nc\nd"),
        ("\ufeffa\x00b\x1ac\u200b", "abc"),
        ("a  \t\nb\u00a0c ", "a\nb c"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("\n\n    indented\n\tstays\n", "    indented\n\tstays"),
        ("e\u0301", "\u00e9"),
        ("lone \ud800 surrogate", "lone  surrogate"),
    ],
)
def test_clean(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned
    assert clean(cleaned) == cleaned


def test_built_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = corpus(tmp_path, sentences(500), max_megabytes=0.01)
    build(spec, tmp_path, "one.parquet"), build(spec, tmp_path, "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    marks = {".one.parquet.xxh3", ".two.parquet.xxh3"}
    assert {path.name for path in tmp_path.iterdir()} == {"mine.jsonl", "one.parquet", "two.parquet", *marks}


def test_repeats_and_short_documents_are_counted_and_left_out(tmp_path: Path) -> None:
    spec = corpus(tmp_path, [*sentences(50), *sentences(7), sentences(1)[0] + "  \r\n", "hello?"])
    summary = build_documents(spec, "mine", tmp_path, tmp_path / "mine.parquet")
    assert (summary.documents, summary.duplicates, summary.short, summary.over_cap) == (50, 8, 1, 0)


def test_cap_is_kept_and_is_not_a_prefix(tmp_path: Path) -> None:
    splits = build(corpus(tmp_path, sentences(1000), max_megabytes=0.02), tmp_path)
    kept = [text for texts in splits.values() for text in texts]
    assert 18_000 < sum(len(text.encode()) for text in kept) <= 20_000
    numbers = sorted(int(text.split()[2]) for text in kept)
    assert numbers[0] < 50 and numbers[-1] > 950
    wider = build(corpus(tmp_path, sentences(1000), max_megabytes=0.03), tmp_path)
    assert set(kept) < {text for texts in wider.values() for text in texts}, "a higher cap only adds"


def test_rows_stand_in_reading_order(tmp_path: Path) -> None:
    for texts in build(corpus(tmp_path, sentences(300)), tmp_path).values():
        numbers = [int(text.split()[2]) for text in texts]
        assert numbers == sorted(numbers)


def test_three_long_documents_fill_three_splits(tmp_path: Path) -> None:
    splits = build(corpus(tmp_path, [text * 1000 for text in sentences(3)]), tmp_path)
    assert [len(splits[split]) for split in SPLITS] == [1, 1, 1]


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_documents_is_an_error_and_leaves_nothing(tmp_path: Path, count: int) -> None:
    with pytest.raises(UserError, match="three splits need three"):
        build(corpus(tmp_path, sentences(count)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


def test_bad_line_stops_the_build_and_keeps_the_old_file(tmp_path: Path) -> None:
    spec = corpus(tmp_path, sentences(20))
    build(spec, tmp_path)
    before = (tmp_path / "mine.parquet").read_bytes()
    with (tmp_path / "mine.jsonl").open("a") as file:
        file.write("{oops\n")
    with pytest.raises(UserError, match=r"mine\.jsonl:21"):
        build(spec, tmp_path)
    assert (tmp_path / "mine.parquet").read_bytes() == before


# -- where the text comes from -----------------------------------------------------------------------------------------


def test_text_files_with_a_separator(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n###\ntwo")
    entry = {"from": "files", "paths": [str(tmp_path / "*.txt")], "format": "text", "separator": "\n###\n"}
    spec = CorpusSpec.model_validate({"name": "small", "domains": {"mine": entry}})
    assert list(read_domain(spec, "mine", tmp_path)) == ["one", "two"]


def hub(monkeypatch: pytest.MonkeyPatch, load: object) -> CorpusSpec:
    fake = types.ModuleType("datasets")
    fake.load_dataset = load
    monkeypatch.setitem(sys.modules, "datasets", fake)
    entry = {"from": "hf", "dataset": "own/er", "documents": 2, "where": {"meta.set": "Books"}}
    return CorpusSpec.model_validate({"name": "small", "domains": {"mine": entry}})


def test_hub_rows_are_filtered_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(path: str, **options: object) -> Iterator[dict[str, object]]:
        assert path == "own/er" and options["streaming"] is True
        for i in range(10):
            yield {"text": f"t{i}", "meta": {"set": "Books" if i % 2 else "Web"}}

    assert list(read_domain(hub(monkeypatch, load), "mine", tmp_path)) == ["t1", "t3"]


def test_hub_out_of_reach_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(path: str, **options: object) -> None:
        raise ConnectionError("offline")

    with pytest.raises(UserError, match="from the hub: ConnectionError: offline"):
        list(read_domain(hub(monkeypatch, load), "mine", tmp_path))


def test_hub_without_its_library_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = hub(monkeypatch, None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="not installed"):
        list(read_domain(spec, "mine", tmp_path))


def test_mathematics_repeats_and_more_only_appends() -> None:
    import random

    random.seed(7)
    state = random.getstate()
    first = list(mathematics.documents(0, 0.01))
    assert random.getstate() == state, "the caller's generator is put back"
    assert list(islice(mathematics.documents(0, 1), len(first))) == first
    assert next(mathematics.documents(1, 1)) != first[0]
    assert all(text.count("\n") >= 2 * mathematics.PROBLEMS_PER_DOCUMENT - 1 for text in first)


def test_a_cap_saves_the_generator_its_work(tmp_path: Path) -> None:
    entry = {"from": "generator", "generator": "mathematics", "megabytes": 1000}
    spec = CorpusSpec.model_validate({"name": "small", "domains": {"mine": entry}, "max_megabytes": 0.005})
    assert 5_000 <= sum(len(text) for text in read_domain(spec, "mine", tmp_path)) < 10_000
