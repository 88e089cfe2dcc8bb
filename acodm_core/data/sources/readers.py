"""Readers: from the members of an archive (or local files) to documents, one generator each.

A reader takes the members and its options (keyword-only) and yields raw documents; cleaning comes after (documents.py).
A new format is one function here: its name is what ``reader:`` says in the catalogue, its keywords are ``options:``.
"""

from __future__ import annotations

import csv
import gzip
import html
import inspect
import io
import json
import re
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, BinaryIO
from xml.etree import ElementTree

from acodm_core.data.sources.fields import parse, rows_of, text_of
from acodm_core.data.sources.formats import HEAD_BYTES, codec_of, no_text
from acodm_core.data.sources.lines import Damaged, NotText, lines, whole_text
from acodm_core.errors import UserError, unknown_name


@dataclass
class Place:
    """How far a reader is in a file."""

    line: int | None = None


@dataclass(frozen=True)
class Member:
    """A named stream of bytes: a member of an archive, or a file. Open it once, before asking for the next."""

    name: str
    open: Callable[[], BinaryIO]

    def bytes(self) -> bytes:
        with self.open() as stream:
            return stream.read()

    def text(self, encoding: str | None = None) -> str:
        """Its text, unpacked if it is packed: UTF-8, what its byte-order mark says, or ``encoding``."""
        with self.placed(), self.open() as stream:
            return whole_text(stream, self.name, encoding)

    @contextmanager
    def placed(self) -> Iterator[Place]:
        """A UserError with the member's name, and its line or row, for what is wrong with it."""
        place = Place()
        try:
            yield place
        except (Damaged, NotText, UserError, OSError) as error:
            where = (
                self.name if place.line is None or isinstance(error, NotText | OSError) else f"{self.name}:{place.line}"
            )
            if isinstance(error, UserError):
                raise UserError(error.what, where=error.where or where, fix=error.fix) from error
            what = f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            fix = error.fix if isinstance(error, NotText) else "fetch the file again, or take it out"
            raise UserError(what, where=where, fix=fix) from error

    def json(self) -> Any:
        try:
            return json.loads(self.bytes())
        except ValueError as error:
            raise UserError(f"not JSON: {error}", where=self.name) from error


Members = Iterable[Member]
Reader = Callable[..., Iterator[str]]


# -- formats -----------------------------------------------------------------------------------------------------------


def text(members: Members, *, separator: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """A document per file, or several divided by ``separator``."""
    for member in members:
        yield from _divided(member.text(encoding), separator)


def plain(members: Members, *, separator: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """As ``text``, for files that nobody has called text: one that looks like JSON is refused."""
    for member in members:
        whole = member.text(encoding)
        if _looks_like_json(whole):
            raise UserError(
                "this looks like JSON, and would be trained on with its keys and brackets",
                where=member.name,
                fix="write `format: jsonl` (one object per line), or `format: text` to train on it as it stands",
            )
        yield from _divided(whole, separator)


def jsonl(members: Members, *, field: str = "text", encoding: str | None = None) -> Iterator[str]:
    """A JSON object per line; the document is its (dotted) ``field``. Nulls are left out. Packed files are unpacked."""
    for member in members:
        with member.placed() as place, member.open() as stream:
            for place.line, line in enumerate(lines(stream, member.name, encoding=encoding), 1):
                if line.strip() and (document := text_of(parse(line), field)) is not None:
                    yield document


def parquet(members: Members, *, field: str = "text") -> Iterator[str]:
    """A row per document; the text is the (dotted) column ``field``. Nulls are left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for member in members:
        with member.placed() as place, member.open() as stream:
            try:
                file = pq.ParquetFile(pa.PythonFile(stream, mode="r"))
                for place.line, row in enumerate(rows_of(file, [field]), 1):
                    if (document := text_of(row, field)) is not None:
                        yield document
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                what = _what_it_is(member) or f"not a Parquet file, or damaged: {error}"
                raise UserError(what, fix="correct `format:`, fetch the file again, or take it out") from error


def table(members: Members, *, field: str = "text", replace: Mapping[str, str] | None = None) -> Iterator[str]:
    """A row of a CSV, or of the CSVs in a zip within the archive, a document. ``replace``: pieces of text to mend."""
    csv.field_size_limit(sys.maxsize)
    for member in members:
        for name, stream in _csv_streams(member):
            rows = csv.DictReader(io.TextIOWrapper(stream, "utf-8", newline=""))
            if field not in (rows.fieldnames or []):
                raise unknown_name("column", field, rows.fieldnames or [], where=name)
            for row in rows:
                document = row[field] or ""
                for old, new in (replace or {}).items():
                    document = document.replace(old, new)
                yield document


# -- particular packages -----------------------------------------------------------------------------------------------


def pubmed(members: Members, *, with_copyright: bool = False) -> Iterator[str]:
    """Titles and abstracts of PubMed XML.

    A record with a CopyrightInformation element is its publisher's: left out unless asked for.
    """
    for member in members:
        with gzip.open(member.open()) as stream:
            for _, element in ElementTree.iterparse(stream):
                if element.tag != "PubmedArticle":
                    continue
                if with_copyright or element.find(".//CopyrightInformation") is None:
                    paragraphs = ["".join(part.itertext()) for part in element.findall(".//Abstract/AbstractText")]
                    title = "".join(element.find(".//ArticleTitle").itertext()) if paragraphs else ""
                    if paragraphs:
                        yield html.unescape("\n\n".join([title, *paragraphs]))
                element.clear()


def gutenberg(members: Members) -> Iterator[str]:
    """Books of Project Gutenberg, without its headers and footers. A file may hold several books."""
    for member in members:
        for book in filter(None, _BOOK.split(member.text().replace("\r\n", "\n"))):
            yield _END_OF_BOOK.split(_START_OF_BOOK.split(book)[-1])[0]


def verses(members: Members) -> Iterator[str]:
    """A chapter of an SQLite Bible a document, a verse a line, without verse numbers."""
    order = "TestamentID, BookID, ChapterID, VerseID"
    for member in members:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(member.bytes())
        rows = connection.execute(
            f"select TestamentID, BookID, ChapterID, Passage1, Passage2 from Bible order by {order}"
        )
        for _, chapter in groupby(rows, key=lambda row: row[:3]):
            yield "\n".join(_VERSE_NUMBER.sub("\n", " ".join(filter(None, row[3:]))).strip() for row in chapter)
        connection.close()


def summaries(members: Members) -> Iterator[str]:
    """Encyclopedia summaries: {title: {title, extract}}."""
    for member in members:
        for article in member.json().values():
            yield f"{article['title']}\n\n{article['extract']}"


def recipes(members: Members) -> Iterator[str]:
    """Recipes: {name: {title, ingredients, steps}}."""
    for member in members:
        for recipe in member.json().values():
            ingredients = [f"- {line}" for line in recipe["ingredients"]]
            steps = [f"{number}. {line}" for number, line in enumerate(recipe["steps"], 1)]
            whole = "\n".join([recipe["title"], "", "Ingredients:", *ingredients, "", "Steps:", *steps])
            yield _TAG.sub("", html.unescape(whole))


def dictionary(members: Members) -> Iterator[str]:
    """An entry of a dictionary a document: word, part of speech, etymology, numbered senses, examples."""
    for member in members:
        for word, entry in member.json().items():
            lines = []
            for sense in entry["pos"]:
                head = f"{word}, {sense.get('part_of_speech') or ''} {sense.get('etymology') or ''}"
                definitions = sense["definitions"]
                lines.append(_WEBSTER.sub("", head).strip(" ,"))
                for number, definition in enumerate(definitions, 1):
                    bullet = f"{number}. " if len(definitions) > 1 else ""
                    lines.append(bullet + _WEBSTER.sub("", definition["text"]).strip())
                    lines += [f"  {_WEBSTER.sub('', _plain(e)).strip()}" for e in definition.get("examples") or ()]
            yield "\n".join(lines)


def dialogue(members: Members) -> Iterator[str]:
    """A conversation a document, a turn a line; the two speakers are A and B in the order in which they speak."""
    for member in members:
        for conversation in member.json().values():
            names: dict[str, str] = {}
            turns = []
            for turn in filter(None, conversation["messages"]):
                speaker = names.setdefault(turn[0]["sender"], chr(ord("A") + len(names)))
                turns.append(f"{speaker}: " + " ".join(message["text"] for message in turn))
            yield "\n".join(turns)


def patents(members: Members) -> Iterator[str]:
    """A full patent a document: title, abstract, brief, description, claims, without markup and paragraph numbers.

    Old patents that are uncorrected OCR of their printed page are left out.
    """
    for member in members:
        for patent in member.json():
            sections = [patent.get(key) or "" for key in ("abstractHtml", "briefHtml", "descriptionHtml", "claimsHtml")]
            body = _TAG.sub("", _BREAK.sub("\n", "\n\n".join([patent["inventionTitle"], *filter(None, sections)])))
            if not _SCANNED.search(body):
                yield _PARAGRAPH_NUMBER.sub("", html.unescape(body))


def front_matter(members: Members, *, shortest: int = 400) -> Iterator[str]:
    """Texts after a YAML header between ``---`` lines; English ones of at least ``shortest`` characters."""
    for member in members:
        _, _, rest = member.text().partition("---\n")
        header, _, body = rest.partition("\n---\n")
        if len(body) >= shortest and not _NOT_ENGLISH.search(header):
            yield body


# -- names and options -------------------------------------------------------------------------------------------------

READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        *(text, jsonl, parquet, table),
        *(pubmed, gutenberg, verses, summaries, recipes, dictionary, dialogue, patents, front_matter),
    )
}


def find_reader(name: str) -> Reader:
    """The reader of this name, or a UserError that names the nearest one."""
    if name not in READERS:
        raise unknown_name("reader", name, READERS)
    return READERS[name]


def check_reader(name: str, options: Mapping[str, object]) -> None:
    """Raise a UserError unless the reader exists and takes these options."""
    parameters = inspect.signature(find_reader(name)).parameters.values()
    valid = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in valid:
            raise unknown_name(f"option of reader {name!r}", option, valid)


# -- helpers -----------------------------------------------------------------------------------------------------------

_BOOK = re.compile(r"^(?=The Project Gutenberg EBook of )", re.MULTILINE)
_START_OF_BOOK = re.compile(
    r"^\*\*\* ?START OF TH.*$|^\*END\*? ?THE SMALL PRINT!.*$|^\*END THE SMALL PRINT.*$", re.MULTILINE
)
_END_OF_BOOK = re.compile(
    r"^\*\*\* ?END OF TH.*$|^End of (?:the |this )?Project Gutenberg.*$", re.MULTILINE | re.IGNORECASE
)
_VERSE_NUMBER = re.compile(r"\s*\b\d+:\d+\s+")  # some rows hold two verses
_WEBSTER = re.compile(r"\s*\[?1913 Webster\]?")
_BREAK = re.compile(r"<br\s*/?>|</?(?:p|div|tr|table|li|ul|ol|h\d)\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_SCANNED = re.compile(r"\AOCR SCANNED DOCUMENT|\A[^\n]*\n+United States Patent ")
_PARAGRAPH_NUMBER = re.compile(r"^[ \t]*\(\d+\)[ \t]*", re.MULTILINE)
_NOT_ENGLISH = re.compile(r"^language: (?!en\b)", re.MULTILINE)


def _plain(example: object) -> str:
    return example if isinstance(example, str) else str(example.get("text", "")) if isinstance(example, dict) else ""


def _divided(whole: str, separator: str | None) -> list[str]:
    """Documents between separators, whose newlines may be written as Windows does in the file."""
    if not separator:
        return [whole]
    return whole.replace("\r\n", "\n").split(separator.replace("\r\n", "\n"))


def _looks_like_json(whole: str) -> bool:
    """Whether a text, or its first line, is an object or array of JSON."""
    start = whole.lstrip()
    if not start.startswith(("{", "[")):
        return False
    for candidate in (start.partition("\n")[0], start):
        try:
            return isinstance(json.loads(candidate), dict | list)
        except (ValueError, RecursionError):
            continue
    return False


def _what_it_is(member: Member) -> str:
    """What a file that is no Parquet file is instead; empty if that is not known."""
    with member.open() as stream:
        head = stream.read(HEAD_BYTES)
    if codec_of(head):
        return "not a Parquet file, but one that is packed"
    if (found := no_text(head)) and "Parquet" not in found[0]:
        return f"not a Parquet file: this is {found[0]}"
    return "not a Parquet file: this looks like JSON" if head.lstrip().startswith((b"{", b"[")) else ""


def _csv_streams(member: Member) -> Iterator[tuple[str, BinaryIO]]:
    if not member.name.endswith(".zip"):
        yield member.name, member.open()
        return
    with zipfile.ZipFile(io.BytesIO(member.bytes())) as inner:
        for name in sorted(inner.namelist()):
            yield f"{member.name}/{name}", inner.open(name)
