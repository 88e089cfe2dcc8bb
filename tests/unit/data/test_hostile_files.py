"""Files as people have them, and as nobody should: read, or refused with the file, the place and what to write instead."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from acodm_core.data.build import build_corpus
from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.sources.shards import ShardReader, find_shards
from acodm_core.data.tokens.documents import build_documents
from acodm_core.data.tokens.raw_documents import read_domain
from acodm_core.data.tokens.tokenizer import load_tokenizer, train_tokenizer
from acodm_core.errors import UserError

TEXTS = [f"Document {i}: Gr\u00fc\u00dfe aus K\u00f6ln, \u4f60\u597d \u2028 and more." for i in range(20)]
ROWS = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
}


def read(path: Path, **options: object) -> list[str]:
    entry = {"from": "files", "paths": [str(path)], **options}
    return list(read_domain(CorpusSpec.model_validate({"name": "own", "domains": {"a": entry}}), "a", path.parent))


def refusal(path: Path, **options: object) -> UserError:
    with pytest.raises(UserError) as error:
        read(path, **options)
    assert str(path) in error.value.where and error.value.fix, "the file, and what to do"
    return error.value


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("pack", [None, *PACK])
def test_text_and_lines_are_read_in_every_marked_encoding_packed_or_not(
    encoding: str, pack: str | None, tmp_path: Path
) -> None:
    packed = PACK[pack] if pack else bytes
    assert read(write(tmp_path / "a.txt", packed(TEXTS[0].encode(encoding)))) == [TEXTS[0]]
    assert read(write(tmp_path / "a.jsonl", packed(ROWS.encode(encoding))), format="jsonl") == TEXTS


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_of_both_orders(mark: bytes, tmp_path: Path) -> None:
    order = "le" if mark == b"\xff\xfe" else "be"
    assert read(write(tmp_path / "a.txt", mark + TEXTS[0].encode(f"utf-16-{order}"))) == [TEXTS[0]]
    unmarked = write(tmp_path / "b.txt", "plain words".encode(f"utf-16-{order}"))
    assert "NUL" in refusal(unmarked).what and read(unmarked, encoding=f"utf-16-{order}") == ["plain words"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "shift_jis", "gb18030", "koi8-r", "iso2022_jp"])
def test_other_encodings_are_refused_until_they_are_named(encoding: str, tmp_path: Path) -> None:
    text = {"shift_jis": "\u65e5\u672c\u8a9e", "iso2022_jp": "\u65e5\u672c\u8a9e", "koi8-r": "\u043c\u0438\u0440"}.get(
        encoding, "caf\u00e9"
    )
    path = write(tmp_path / "a.txt", text.encode(encoding))
    assert "encoding:" in refusal(path).fix
    assert read(path, encoding=encoding) == [text]
    lines = write(tmp_path / "a.jsonl", json.dumps({"text": text}, ensure_ascii=False).encode(encoding))
    assert read(lines, format="jsonl", encoding=encoding) == [text]
    refusal(lines, format="jsonl")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size = len(TEXTS[0].encode())
        archive.addfile(info, io.BytesIO(TEXTS[0].encode()))
    return buffer.getvalue()


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


NO_TEXT = {
    "a zip archive": zipped(),
    "a tar archive": tarred(),
    "tar archive ": gzip.compress(tarred()),
    "packed twice": gzip.compress(gzip.compress(b"text")),
    "a Parquet file": parquet_bytes(pa.table({"text": TEXTS})),
    "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "rich text": b"{\\rtf1\\ansi Hello}",
    "old office document": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50),
    "SQLite": b"SQLite format 3\x00" + bytes(84),
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(20),
    "numpy": b"\x93NUMPY\x01\x00",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00",
    "lz4": b"\x04\x22\x4d\x18d@\xa7",
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04",
    "NUL": b"some bytes\x00 and more, of no known kind",
    "not utf-8": b"\x8f\x9a random bytes",
    "cut short": gzip.compress(ROWS.encode() * 50)[:-40],
}


@pytest.mark.parametrize("what", NO_TEXT)
@pytest.mark.parametrize("options", [{}, {"format": "text"}, {"format": "jsonl"}, {"format": "parquet"}])
def test_what_is_no_text_is_refused_by_what_it_is(what: str, options: dict, tmp_path: Path) -> None:
    if options.get("format") == "parquet" and what == "a Parquet file":
        return
    error = refusal(write(tmp_path / "a.txt", NO_TEXT[what]), **options)
    if options.get("format") in (None, "text"):
        assert what.strip() in error.what


@pytest.mark.parametrize("content", [ROWS, ROWS.splitlines()[0], json.dumps([{"text": "x"}], indent=1), '{"a": 1}\n'])
def test_json_is_text_only_if_it_is_called_text(content: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", content)
    assert "format: jsonl" in refusal(path).fix
    assert read(path, format="text") == [content]


@pytest.mark.parametrize(
    "content", ["[a link] and text", "{ braces } of C", "", "[1\n[2", "ORCHARD", "MZ", "PAR10", "GIF89"]
)
def test_text_that_only_begins_like_something_else_is_text(content: str, tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", content)) == [content]


def test_a_separator_divides_files_of_windows_too(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.txt", "one\r\n\r\ntwo\r\n"), separator="\n\n") == ["one", "two\n"]


@pytest.mark.parametrize(
    "options", [{"encoding": "utf-99"}, {"encoding": "rot13"}, {"separator": ""}, {"field": "body"}]
)
def test_options_that_mean_nothing_are_refused(options: dict, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        read(write(tmp_path / "a.txt", "text"), **options)


# -- lines of JSON -----------------------------------------------------------------------------------------------------

GOOD_LINES = {
    "windows newline": '{"text": "good"}\r',
    "infinity and no number": '{"text": "good", "a": [NaN, Infinity, -Infinity, 1e999]}',
    "an integer of many digits": '{"text": "good", "a": ' + "1" * 5000 + "}",
    "a key twice that nobody asks for": '{"text": "good", "a": 1, "a": 2}',
    "spaces around": '  {"text": "good"}  ',
    "depth that Python can read": '{"text": "good", "a": ' + "[" * 500 + "]" * 500 + "}",
}
BAD_LINES = {
    "depth": ('{"text": "x", "a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "depth of objects": ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deeply"),
    "the key twice": ('{"text": "one", "text": "two"}', "stands twice"),
    "other key": ('{"txt": "x"}', "unknown key 'text'"),
    "list of messages": ('{"text": [{"role": "user"}]}', "is a list, not text"),
    "object": ('{"text": {"a": 1}}', "is an object, not text"),
    "number": ('{"text": 5}', "is a number, not text"),
    "truth": ('{"text": true}', "is true or false, not text"),
    "a list": ('["text"]', "it is a list"),
    "a string": ('"text"', "it is text"),
    "null": ("null", "it is null"),
    "half a line": ('{"text": "half', "not JSON"),
    "two objects": ('{"text": "a"}{"text": "b"}', "not JSON"),
    "no quotes": ("{text: 'a'}", "not JSON"),
    "NUL": ("\x00\x00\x00", "not JSON"),
    "raw control character": ('{"text": "a\x01b"}', "not JSON"),
    "bytes of another encoding": (b'{"text": "caf\xe9"}', "not UTF-8"),
}


@pytest.mark.parametrize("what", GOOD_LINES)
def test_a_strange_line_with_good_text_is_read(what: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", '{"text": "first"}\n\n' + GOOD_LINES[what] + '\n{"text": null}\n{"text": "last"}'
    )
    assert read(path, format="jsonl") == ["first", "good", "last"]


@pytest.mark.parametrize("what", BAD_LINES)
def test_a_bad_line_is_named_and_in_shards_it_is_one_fault(what: str, tmp_path: Path) -> None:
    line, says = BAD_LINES[what]
    raw = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "a.jsonl", b'{"text": "first"}\n' + raw + b'\n{"text": "last"}\n')
    error = refusal(path, format="jsonl")
    assert says in error.what and error.where == f"{path}:2"
    rows = shard_rows(path, domain="text")
    assert [bool(row.fault) for row in rows] == [False, True, False] and says in rows[1].fault


def shard_rows(path: Path, *, domain: str, text: str = "text") -> list:
    spec = {
        "name": "own",
        "domains": {"a": {"from": "shards", "name": "x"}},
        "shards": {"paths": [str(path)], "domain": domain, "text": text},
        "tokenizer": {"name": "t"},
    }
    shards = CorpusSpec.model_validate(spec).shards
    reader = ShardReader(find_shards(shards)[0], shards)
    rows = list(reader)
    return rows if not reader.damage else [*rows, reader.damage]


@pytest.mark.parametrize(
    "meta", [{"set": {"name": "web"}}, json.dumps({"set": {"name": "web"}}), {"set": json.dumps({"name": "web"})}]
)
def test_a_name_leads_into_objects_and_into_objects_written_as_text(meta: object, tmp_path: Path) -> None:
    row = {"content": {"body": TEXTS[0]}, "meta": meta}
    lines = write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    table = write(tmp_path / "a.parquet", parquet_bytes(pa.Table.from_pylist([row])))
    for path, form in ((lines, "jsonl"), (table, "parquet")):
        assert read(path, format=form, field="content.body") == [TEXTS[0]]
        assert "content.bdy" in refusal(path, format=form, field="content.bdy").what
        assert refusal(path, format=form, field="content.body.deeper")
        (found,) = shard_rows(path, domain="meta.set.name", text="content.body")
        assert (found.domain, found.text, found.fault) == ("web", TEXTS[0], "")
    (tmp_path / "hub").mkdir()
    lines.rename(tmp_path / "hub/train.jsonl")
    hub = {"from": "hf", "dataset": str(tmp_path / "hub"), "field": "content.body"}
    spec = CorpusSpec.model_validate({"name": "own", "domains": {"a": hub}})
    assert list(read_domain(spec, "a", tmp_path)) == [TEXTS[0]]


def test_a_key_that_has_dots_in_it_comes_before_what_the_dots_lead_to(tmp_path: Path) -> None:
    row = {"a.b": "with dots", "a": {"b": "inside"}}
    assert read(write(tmp_path / "a.jsonl", json.dumps(row)), format="jsonl", field="a.b") == ["with dots"]
    table = write(tmp_path / "a.parquet", parquet_bytes(pa.Table.from_pylist([{"a.b": "with dots"}])))
    assert read(table, format="parquet", field="a.b") == ["with dots"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.ZST", "a.jsonl.zstd", "a.json", "a.jsonl.gz"])
@pytest.mark.parametrize("pack", [bytes, *PACK.values()])
def test_what_a_file_is_counts_and_not_what_its_name_says(name: str, pack: Callable, tmp_path: Path) -> None:
    path = write(tmp_path / name, pack(ROWS.encode()))
    assert read(path, format="jsonl") == TEXTS
    assert [row.text for row in shard_rows(path, domain="text")] == TEXTS


def test_packed_members_one_after_the_other_with_zeros_between(tmp_path: Path) -> None:
    half = len(TEXTS) // 2
    parts = ["".join(json.dumps({"text": t}) + "\n" for t in some).encode() for some in (TEXTS[:half], TEXTS[half:])]
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        assert (
            read(write(tmp_path / "a", pack(parts[0]) + bytes(512) + pack(parts[1]) + bytes(512)), format="jsonl")
            == TEXTS
        )
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00info"
    packed = skippable + b"".join(map(PACK["zst"], parts))
    assert read(write(tmp_path / "a", packed), format="jsonl") == TEXTS


# -- tables ------------------------------------------------------------------------------------------------------------

COLUMNS = {
    "binary": pa.array([b"x", b"y"], pa.binary()),
    "large_binary": pa.array([b"x"], pa.large_binary()),
    "list": pa.array([["x", "y"]]),
    "int64": pa.array([1, 2]),
    "double": pa.array([1.5]),
    "bool": pa.array([True]),
    "null": pa.array([None, None]),
    "struct": pa.array([{"body": "x"}]),
    "map": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())),
    "timestamp": pa.array([0], pa.timestamp("ms")),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_holds_no_text_is_refused_with_its_type(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", parquet_bytes(pa.table({"text": COLUMNS[kind]})))
    what = refusal(path, format="parquet").what
    assert "'text'" in what and kind in what
    assert "'text'" in shard_rows(path, domain="text")[-1]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_column_of_strings_is_read(kind: pa.DataType, tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([*TEXTS, None, *TEXTS[:2]], pa.string()).cast(kind), "other": range(23)})
    path = write(tmp_path / "a.parquet", parquet_bytes(table))
    assert read(path, format="parquet") == TEXTS + TEXTS[:2]
    assert sum(not row.fault for row in shard_rows(path, domain="text")) == 22


def test_damaged_and_foreign_tables_are_named(tmp_path: Path) -> None:
    whole = parquet_bytes(pa.table({"text": TEXTS * 50}))
    broken = bytearray(whole)
    broken[30:200] = bytes(170)
    latin = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"caf\xe9")])
    for raw in (whole[:-9], whole[:400], bytes(broken), b"", parquet_bytes(pa.table({"text": latin}))):
        refusal(write(tmp_path / "a.parquet", raw), format="parquet")
    assert "JSON" in refusal(write(tmp_path / "a.parquet", ROWS), format="parquet").what
    assert "packed" in refusal(write(tmp_path / "a.parquet", gzip.compress(whole)), format="parquet").what


# -- tokenizers --------------------------------------------------------------------------------------------------------


def lossy(kind: str):
    from tokenizers import normalizers as n

    return {
        "lower case": n.Lowercase(),
        "compatibility": n.NFKC(),
        "decomposition": n.NFD(),
        "accents": n.Sequence([n.NFD(), n.StripAccents()]),
        "replaced blank": n.Replace(" ", "_"),
        "prepended": n.Prepend("_"),
        "a word of this text only": n.Replace("item", "ITEM"),
        "same bytes, other letter": n.Replace("j", "k"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["lower case", "compatibility", "decomposition", "accents", "replaced blank", "prepended", "a word of this text only",
     "same bytes, other letter"],
)  # fmt: skip
def test_a_tokenizer_that_does_not_give_the_text_back_is_refused_before_tokenising(
    kind: str, tmp_path: Path, corpus_folder: Path
) -> None:
    changing = load_tokenizer(corpus_folder / "tokenizer.json")
    changing.normalizer = lossy(kind)
    changing.save(str(tmp_path / "changing.json"))
    write(tmp_path / "a.txt", "\n#\n".join(f"just item {i} of a list that has a few items" for i in range(30)))
    entry = {"from": "files", "paths": [str(tmp_path / "a.txt")], "separator": "\n#\n"}
    tokenizer = {"name": str(tmp_path / "changing.json")}
    spec = CorpusSpec.model_validate({"name": "own", "domains": {"a": entry}, "tokenizer": tokenizer})
    build_documents(spec, "a", tmp_path, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="changes the text") as error:
        train_tokenizer(spec, tmp_path, tmp_path / "out.json")
    assert error.value.where in ("corpus.tokenizer", "corpus.domains.a") and not (tmp_path / "out.json").exists()


def test_a_tokenizer_that_normalises_as_the_corpus_does_is_taken(tmp_path: Path, corpus_folder: Path) -> None:
    """GPT-NeoX's has NFC, which clean text has already."""
    from tokenizers import normalizers

    given = load_tokenizer(corpus_folder / "tokenizer.json")
    given.normalizer = normalizers.NFC()
    given.save(str(tmp_path / "nfc.json"))
    write(tmp_path / "a.txt", "\n#\n".join(TEXTS))
    entry = {"from": "files", "paths": [str(tmp_path / "a.txt")], "separator": "\n#\n"}
    spec = {"name": "own", "domains": {"a": entry}, "tokenizer": {"name": str(tmp_path / "nfc.json")}}
    assert build_corpus(CorpusSpec.model_validate(spec), tmp_path / "data")


@pytest.mark.parametrize("letters", ["ACGT", "01", "-=", " \t", "\u4e00\u4e8c\u4e09"])
def test_words_without_an_end_are_learnt_from_in_bounded_time_and_keep_their_text(letters: str, tmp_path: Path) -> None:
    draw = random.Random(1)
    texts = ["x" + "".join(draw.choices(letters, k=60_000)) + f"y{i}" for i in range(3)]
    write(tmp_path / "a.txt", "\n#\n".join(texts))
    entry = {"from": "files", "paths": [str(tmp_path / "a.txt")], "separator": "\n#\n"}
    spec = CorpusSpec.model_validate({"name": "own", "domains": {"a": entry}, "tokenizer": {"vocab_size": 320}})
    build_documents(spec, "a", tmp_path, tmp_path / "a.parquet")
    began = time.process_time()
    tokenizer = load_tokenizer(train_tokenizer(spec, tmp_path, tmp_path / "tokenizer.json"))
    assert time.process_time() - began < 20  # uncut: minutes
    assert tokenizer.decode(tokenizer.encode(texts[0]).ids) == texts[0]
    assert len(tokenizer.encode(texts[0]).ids) < len(texts[0]), "something was learnt"
