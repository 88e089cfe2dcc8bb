"""What the text of a corpus may come from: the models of its domains, shards and tokenizer."""

from __future__ import annotations

import codecs
from abc import abstractmethod
from glob import escape
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from acodm_core.data.sources.readers import check_reader
from acodm_core.errors import UserError
from acodm_core.files import contents, digest, find_files
from acodm_core.settings.types import Count, Line, Seed, Strict, Title, text_like

Megabytes = Annotated[float, Field(gt=0, le=1e9)]  # in units of 10^6 bytes
#: A word that an index knows, so that none is an option of the program that fetches it, or a path.
Indexed = text_like(
    r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$", "begins with a letter or digit, then those or . _ + ! -", longest=200
)
Option = str | bool | int | float | list[str] | dict[str, str]


class Model(Strict):
    """A part of a spec."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class Archive(Model):
    """One file of the Python package index, pinned by its hash. Read in place: never installed, never imported."""

    package: Indexed = Field(description="Name of the package on the index.")
    version: Indexed = Field(description="Exact version; quote it in YAML.")
    filename: Indexed = Field(description="Name of the archive, as the index spells it.")
    sha256: str = Field(description="Hash of the archive, 64 hexadecimal digits.", pattern=r"^[0-9a-f]{64}$")
    sdist: bool = Field(False, description="Whether the archive is the source distribution and not a wheel.")


class Part(Model):
    """Some members of one archive and how to read them."""

    archive: Archive = Field(description="The archive.")
    members: list[str] = Field(description="Patterns of member names; * also matches /.", min_length=1)
    exclude: list[str] = Field([], description="Patterns of member names to leave out.")
    reader: str = Field("text", description="Name of a function in acodm_core/data/sources/readers.py.")
    options: dict[str, Option] = Field({}, description="Keyword arguments of the reader.")

    @model_validator(mode="after")
    def _reader_exists(self) -> Part:
        as_value_error(check_reader, self.reader, self.options)
        return self


class _Entry(Model):
    title: Title = Field("", description="What the text is, in a few words.")
    pile_analogue: str = Field("", description="The domain of the Pile it stands in for.")
    licence: str = Field("not stated", description="Licence of the text, which may differ from its package's.")
    citation: str = Field("", description="Where the text comes from, and whom to cite.")
    rights_unclear: bool = Field(
        False, description="Whether the right to copy the text is in doubt: opt-in, do not share."
    )


class PackagesDomain(_Entry):
    """Text that packages of the Python index carry."""

    kind: Literal["packages"] = Field("packages", alias="from", description="Where the text comes from.")
    parts: list[Part] = Field(description="The archives to draw from.", min_length=1)


class OnDisk(Model):
    """What reads files of your own: their content is part of the corpus's identity."""

    later = frozenset({"content"})
    content: str | None = Field(
        None,
        description="Hash of the local files' content. Leave it out: the plan works it out. Given, the files must have it,"
        " and need not be there once the corpus is built.",
        pattern=r"^[0-9a-f]{32}$",
    )

    @abstractmethod
    def files(self) -> list[Path]:
        """The local files that are read, in order. UserError if one is not there."""

    def pinned(self, where: str) -> Self:
        """The same with its ``content``; None remains where no file is local.

        Raises:
            UserError: with the place ``where``, if a file is missing or cannot be read.
        """
        return self if self.content else self.model_copy(update={"content": self.found(where)})

    def found(self, where: str) -> str | None:
        """The content of the files as they are now; None if none is local."""
        try:
            files = self.files()
            return digest(contents(files), 32) if files else None
        except UserError as error:
            raise UserError(error.what, where=f"{where}.{error.where}".rstrip("."), fix=error.fix) from error

    def check(self, where: str) -> None:
        """Raise a UserError if the files are not what the corpus is named after."""
        if self.content and (found := self.found(where)) != self.content:
            raise UserError(
                f"the files changed since the corpus was planned: content {found}, planned with {self.content}",
                where=where,
                fix="plan or build again from your own configuration, without `content:`: other text is another corpus",
            )


class FilesDomain(_Entry, OnDisk):
    """Text files of your own."""

    kind: Literal["files"] = Field(alias="from", description="Where the text comes from.")
    paths: list[Line] = Field(description="Paths or globs (** for any depth).", min_length=1)
    format: Literal["text", "jsonl", "parquet"] | None = Field(
        None,
        description="null: text, and files that look like JSON are refused. Text and jsonl may be packed (.gz, .zst).",
    )
    field: str = Field("text", description="The (dotted) key (jsonl) or column (parquet) that holds the text.")
    separator: str | None = Field(
        None, description="Text only: what divides documents; null: one document per file.", min_length=1
    )
    encoding: str | None = Field(
        None, description="Encoding of text and jsonl, e.g. cp1252; null: UTF-8, or what a byte-order mark says."
    )
    revision: str = Field("", description="A label of your choosing; another label makes another corpus.")

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str | None) -> str | None:
        try:
            codecs.getincrementaldecoder(value or "utf-8")
            b"text".decode(value or "utf-8", errors="replace")
        except (LookupError, ValueError):
            raise ValueError(f"no encoding is named {value!r}: utf-8, utf-16, cp1252, latin-1, ...") from None
        return value

    @model_validator(mode="after")
    def _options_fit_the_format(self) -> Self:
        fits = {
            "separator": self.format in (None, "text"),
            "encoding": self.format != "parquet",
            "field": self.format in ("jsonl", "parquet"),
        }
        for option, it_fits in fits.items():
            if not it_fits and getattr(self, option) != type(self).model_fields[option].default:
                raise ValueError(
                    f"`{option}` means nothing for format {self.format or 'text'}: drop it, or write `format:`"
                )
        return self

    def files(self) -> list[Path]:
        """The files, sorted by name."""
        return find_files(self.paths, where="paths")


class HubDomain(_Entry, OnDisk):
    """A data set of the Hugging Face hub, streamed, or in a local folder. Needs ``pip install 'acodm-bench[hub]'``."""

    kind: Literal["hf"] = Field(alias="from", description="Where the text comes from.")
    dataset: str = Field(description="Name of the data set, owner/name.")
    config: str | None = Field(None, description="Name of its configuration.")
    split: str = Field("train", description="Name of its split.")
    field: str = Field("text", description="The column that holds the text.")
    revision: str = Field("main", description="Commit or tag; a commit makes the corpus repeatable.")
    documents: Count | None = Field(None, description="Read this many documents and stop; null: all.")
    where: dict[str, str] = Field({}, description="Keep rows whose (dotted) column has this value.")

    def files(self) -> list[Path]:
        """All files of a local folder, sorted by name; none of a data set on the hub."""
        if _is_path(self.dataset) and not Path(self.dataset).is_dir():
            raise UserError(f"no folder {self.dataset!r}", where="dataset", fix="correct it, or bring the folder")
        return find_files([f"{escape(self.dataset)}/**"], where="dataset") if Path(self.dataset).is_dir() else []


class GeneratorDomain(_Entry):
    """Text made by a program."""

    kind: Literal["generator"] = Field(alias="from", description="Where the text comes from.")
    generator: Literal["mathematics"] = Field(description="Name of the generator.")
    seed: Seed = Field(0, description="Seed of the generator.")
    megabytes: Megabytes = Field(description="How much text to make, in units of 10^6 bytes.")


class Language(Model):
    """An artificial language: a Markov chain over its words (synthetic.py). Its name, words and order decide its table."""

    name: str = Field(description="Begins each of its words; two names share no word.", pattern=r"^[a-z]{1,8}$")
    words: int = Field(description="How many words it has.", ge=2, le=100)
    order: int = Field(1, description="How many words decide the next one.", ge=1, le=3)
    successors: int = Field(4, description="How many words may follow a context.", ge=1, le=100)
    noise: float = Field(0.0, description="Share of words drawn from all words, whatever the context.", ge=0, le=1)
    dialect: int = Field(0, description="Two dialects share words and contexts, and contradict in each.", ge=0, le=100)
    share: float = Field(1.0, description="Weight of the language in the domain's documents.", gt=0, le=1e9)

    @model_validator(mode="after")
    def _enough_words(self) -> Language:
        if (self.dialect + 1) * self.successors > self.words:
            raise ValueError(
                f"language {self.name!r}: dialect {self.dialect} with {self.successors} successors needs "
                f"{(self.dialect + 1) * self.successors} words, it has {self.words}"
            )
        if self.words**self.order > 1_000_000:
            raise ValueError(f"language {self.name!r}: {self.words}^{self.order} contexts are more than a million")
        return self


class SyntheticDomain(_Entry):
    """Text of artificial languages, document by document: domains whose best mixture can be known."""

    kind: Literal["synthetic"] = Field(alias="from", description="Where the text comes from.")
    languages: list[Language] = Field(description="The languages of its documents.", min_length=1)
    seed: Seed = Field(0, description="Seed of the sample: another seed, other documents of the same languages.")
    megabytes: Megabytes = Field(description="How much text to make, in units of 10^6 bytes.")


class ShardsDomain(_Entry):
    """The documents of the corpus's ``shards`` that bear one name. All such domains are read in one pass."""

    kind: Literal["shards"] = Field(alias="from", description="Where the text comes from.")
    name: str = Field(description="What the shards call the domain, e.g. Pile-CC.")
    share: float = Field(1.0, description="Keep this share of its documents, chosen by a hash of the text.", gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _titled(cls, value: Any) -> Any:
        return {"title": value.get("name", "")} | value if isinstance(value, dict) else value


AnyDomain = PackagesDomain | FilesDomain | HubDomain | GeneratorDomain | SyntheticDomain | ShardsDomain
Entry = Annotated[AnyDomain, Field(discriminator="kind")]
FOR_PEOPLE = set(_Entry.model_fields)  # what a reader of the card needs, and no byte depends on


class TrainedTokenizer(Model):
    """A byte-level BPE trained on the corpus's own train split."""

    vocab_size: int = Field(4096, description="Tokens, with 256 bytes and one special among them.", ge=257, le=10**7)
    train_megabytes: Megabytes = Field(2.0, description="Text it learns from, at most, per domain (10^6 bytes).")


class ExistingTokenizer(OnDisk):
    """A byte-level tokenizer made elsewhere."""

    name: Line = Field(description="Path of a tokenizer.json or of its folder, or a Hugging Face name.")
    end_of_text: str = Field("<|endoftext|>", description="The token that ends a document.")

    def files(self) -> list[Path]:
        """Its local ``tokenizer.json``; none if the hub has it."""
        path = Path(self.name) / "tokenizer.json" if Path(self.name).is_dir() else Path(self.name)
        if not path.is_file() and (_is_path(self.name) or Path(self.name).is_dir()):
            raise UserError(f"no file {str(path)!r}", where="name", fix="correct it, or bring the file")
        return [path] if path.is_file() else []


class Shards(OnDisk):
    """Files that hold documents of many domains, each document with its domain's name: the Pile, SlimPajama.

    The content of those at a URL is not part of the corpus's name (it is recorded in ``sources.json``): name a commit in the
    URL, or change ``revision`` when they change.
    """

    paths: list[Line] = Field(
        description="Paths or globs (** for any depth) of .jsonl, .jsonl.gz, .jsonl.zst or .parquet files, local or as a URL"
        " that fsspec knows: hf://datasets/OWNER/NAME@COMMIT/train/**/*.jsonl.zst.",
        min_length=1,
    )
    text: str = Field("text", description="The (dotted) key or column that holds the text.")
    domain: str = Field(description="The (dotted) key or column that names the domain, e.g. meta.pile_set_name.")
    others: list[str] = Field([], description="Names in the shards that are left out on purpose.")
    revision: str = Field("", description="A label of your choosing; another label makes another corpus.")
    pieces: int = Field(32, description="Jobs that the shards are divided among. Decides no byte.", gt=0, le=99_999)
    bad_share: float = Field(
        0.001, description="Give up above this share of bad lines in a piece, or of damaged shards.", ge=0, lt=1
    )

    def files(self) -> list[Path]:
        """Those that are local, sorted by name."""
        return find_files([path for path in self.paths if not remote(path)], where="paths")


def remote(path: str) -> bool:
    """Whether a path is a URL of another host."""
    return "://" in path and not path.startswith("file://")


def _is_path(name: str) -> bool:
    """Whether a name can only be a place on this machine, and not a name on the hub."""
    return name.startswith((".", "/", "~")) or name.endswith(".json") or name.count("/") > 1


def as_value_error(function: Any, *arguments: Any) -> Any:
    """Call, turning a UserError into the ValueError that pydantic places in its path."""
    try:
        return function(*arguments)
    except UserError as error:
        raise ValueError(str(error)) from error
