"""Every reader on a handmade archive: what comes out, and what a bad input says."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from acodm_core.data.sources.readers import READERS, Member, check_reader, find_reader
from acodm_core.errors import UserError


def member(name: str, content: bytes | str) -> Member:
    raw = content.encode() if isinstance(content, str) else content
    return Member(name, lambda: io.BytesIO(raw))


def read(reader: str, name: str, content: bytes | str, **options: object) -> list[str]:
    return list(find_reader(reader)([member(name, content)], **options))


def inner_zip(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.csv", text)
    return buffer.getvalue()


def bible() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table Bible (TestamentID, BookID, ChapterID, VerseID, Passage1, Passage2)")
    rows = [  # BookID starts again in the second testament, and rows are out of order
        (2, 1, 1, 1, "1:1 The book of the generation", ""),
        (1, 1, 1, 2, "1:2 And the earth", "was without form"),
        (1, 1, 1, 1, "1:1 In the beginning", None),
        (1, 1, 2, 1, "2:1 Thus the heavens  2:2 And on the seventh day", ""),  # two verses in one row
    ]
    connection.executemany("insert into Bible values (?, ?, ?, ?, ?, ?)", rows)
    return connection.serialize()


def pubmed_record(abstract: str, more: str = "") -> str:
    body = f"<Abstract>{abstract}{more}</Abstract>" if abstract else ""
    return f"<PubmedArticle><Article><ArticleTitle>On <i>E. coli</i>.</ArticleTitle>{body}</Article></PubmedArticle>"


PUBMED = gzip.compress(
    (
        "<Set>"
        + pubmed_record("<AbstractText>We <b>looked</b>.</AbstractText><AbstractText>We found.</AbstractText>")
        + pubmed_record("<AbstractText>Ours.</AbstractText>", "<CopyrightInformation>(c)</CopyrightInformation>")
        + pubmed_record("")
        + "</Set>"
    ).encode()
)
CHAT = {
    "1": {
        "messages": [
            [{"text": "hi", "sender": "x"}, {"text": "there", "sender": "x"}],
            [{"text": "yo", "sender": "y"}],
            [],
            [{"text": "bye", "sender": "x"}],
        ]
    }
}
GCIDE = {
    "cat": {
        "pos": [
            {
                "part_of_speech": "n.",
                "etymology": "[AS. cat.]",
                "definitions": [
                    {"text": "An animal. 1913 Webster]", "examples": []},
                    {"text": "A whip.", "examples": []},
                ],
            }
        ]
    }
}
PATENT = {
    "inventionTitle": "A wheel",
    "abstractHtml": None,
    "briefHtml": "(1) It <b>turns</b>.<br />(2) A &amp; B.",
    "descriptionHtml": "",
    "claimsHtml": "1. A wheel.",
}
GUTENBERG = (
    "The Project Gutenberg EBook of One\r\nlegal\r\n*** START OF THIS PROJECT GUTENBERG EBOOK ONE ***\r\nfirst text\r\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK ONE ***\r\nlegal\r\n"
    "The Project Gutenberg EBook of Two\r\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*\r\nsecond text\r\n"
    "End of the Project Gutenberg EBook of Two\r\n"
)

CASES = {
    "text": ("a.py", "x = 1\n", {}, ["x = 1\n"]),
    "jsonl": ("a.jsonl", '{"text": "one"}\n\n{"text": "two"}\n', {}, ["one", "two"]),
    "table": (
        "a.zip",
        inner_zip(a='id,body\n1,"so , yes"\n2,no\n'),
        {"field": "body", "replace": {" ,": ","}},
        ["so, yes", "no"],
    ),
    "pubmed": ("a.xml.gz", PUBMED, {}, ["On E. coli.\n\nWe looked.\n\nWe found."]),
    "gutenberg": ("a.txt", GUTENBERG, {}, ["first text", "second text"]),
    "verses": (
        "a.db",
        bible(),
        {},
        [
            "In the beginning\nAnd the earth was without form",
            "Thus the heavens\nAnd on the seventh day",
            "The book of the generation",
        ],
    ),
    "summaries": ("a.json", json.dumps({"k": {"title": "Oak", "extract": "A tree."}}), {}, ["Oak\n\nA tree."]),
    "recipes": (
        "a.json",
        json.dumps({"k": {"title": "Tea", "ingredients": ["leaves"], "steps": ["boil", "pour"]}}),
        {},
        ["Tea\n\nIngredients:\n- leaves\n\nSteps:\n1. boil\n2. pour"],
    ),
    "dictionary": ("a.json", json.dumps(GCIDE), {}, ["cat, n. [AS. cat.]\n1. An animal.\n2. A whip."]),
    "dialogue": ("a.json", json.dumps(CHAT), {}, ["A: hi there\nB: yo\nA: bye"]),
    "patents": ("a.json", json.dumps([PATENT]), {}, ["A wheel\n\nIt turns.\nA & B.\n\n1. A wheel."]),
    "front_matter": (
        "a.LICENSE",
        "---\nkey: x\nnotes: |\n  ---- lines\n---\n\nYou may copy.",
        {"shortest": 5},
        ["\nYou may copy."],
    ),
}


@pytest.mark.parametrize("reader", CASES)
def test_reads(reader: str) -> None:
    name, content, options, expected = CASES[reader]
    assert [text.strip() for text in read(reader, name, content, **options)] == [text.strip() for text in expected]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["one", None, "two"]}), path)
    assert read("parquet", "a.parquet", path.read_bytes(), field="body") == ["one", "two"]
    with pytest.raises(UserError, match="did you mean 'body'"):
        read("parquet", "a.parquet", path.read_bytes(), field="boddy")
    with pytest.raises(UserError, match="not a Parquet file"):
        read("parquet", "a.parquet", path.read_bytes()[:-9], field="body")


def test_every_reader_has_a_case() -> None:
    assert set(READERS) == {*CASES, "parquet"}


def test_text_may_hold_several_documents_or_an_old_encoding() -> None:
    assert read("text", "a.txt", "one\n%%\ntwo", separator="\n%%\n") == ["one", "two"]
    assert read("text", "a.txt", "caf\u00e9".encode("cp1252"), encoding="cp1252") == ["caf\u00e9"]
    assert read("text", "a.txt", b"\xef\xbb\xbfmark") == ["mark"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)])
def test_jsonl_is_decompressed_by_its_name(suffix: str, pack) -> None:
    assert read("jsonl", f"a.jsonl{suffix}", pack(b'{"text": "one"}\n{"text": "two"}')) == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{oops", "not JSON"),
        ('{"txt": "a"}', "did you mean 'txt'"),
        ('{"text": 3}', "is a number, not text"),
        ("[1]", "it is a list, not an object"),
    ],
)
def test_bad_jsonl_line_is_named(line: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        read("jsonl", "mine.jsonl", '{"text": "fine"}\n' + line)
    assert says in str(error.value)
    assert error.value.where == "mine.jsonl:2"


def test_pubmed_can_keep_copyrighted_records() -> None:
    assert len(read("pubmed", "a.xml.gz", PUBMED, with_copyright=True)) == 2


def test_front_matter_leaves_out_other_languages_and_short_texts() -> None:
    assert read("front_matter", "a", "---\nlanguage: fr\n---\nVous pouvez copier.", shortest=5) == []
    assert read("front_matter", "a", "---\nkey: x\n---\nshort", shortest=50) == []


def test_unknown_reader_and_option_name_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'pubmed'"):
        find_reader("pubmeds")
    with pytest.raises(UserError, match="did you mean 'separator'"):
        check_reader("text", {"seperator": "x"})
    check_reader("text", {"separator": "x"})


def test_scanned_patents_are_left_out() -> None:
    scans = [
        PATENT | {"inventionTitle": "OCR SCANNED DOCUMENT"},
        PATENT | {"briefHtml": "United States Patent [ 19j Rubin"},
    ]
    assert read("patents", "a.json", json.dumps(scans)) == []


def test_verse_numbers_do_not_swallow_the_word_before() -> None:
    assert read("verses", "a.db", bible())[1] == "Thus the heavens\nAnd on the seventh day"
