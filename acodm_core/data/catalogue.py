"""What domains and corpora are made of: the models behind ``catalogue.yaml`` and every ``spec.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from glob import glob
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from acodm_core.data.readers import check_reader
from acodm_core.errors import UserError, unknown_name

#: Part of every corpus digest. Raise it when a change of code changes the text or the tokens of the same spec.
RECIPE = 2

#: A domain's name becomes a folder, a column and a colour key: keep it a plain word.
DomainName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Option = str | bool | int | float | list[str] | dict[str, str]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Archive(_Model):
    """One file of the Python package index, pinned by its hash. Read in place: never installed, never imported."""

    package: str = Field(description="Name of the package on the index.")
    version: str = Field(description="Exact version; quote it in YAML.")
    filename: str = Field(description="Name of the archive, as the index spells it.", pattern=r"^[^/\\]+$")
    sha256: str = Field(description="Hash of the archive, 64 hexadecimal digits.", pattern=r"^[0-9a-f]{64}$")
    sdist: bool = Field(False, description="Whether the archive is the source distribution and not a wheel.")


class Part(_Model):
    """Some members of one archive and how to read them."""

    archive: Archive = Field(description="The archive.")
    members: list[str] = Field(description="Patterns of member names; * also matches /.", min_length=1)
    exclude: list[str] = Field([], description="Patterns of member names to leave out.")
    reader: str = Field("text", description="Name of a function in acodm_core/data/readers.py.")
    options: dict[str, Option] = Field({}, description="Keyword arguments of the reader.")

    @model_validator(mode="after")
    def _reader_exists(self) -> Part:
        _as_value_error(check_reader, self.reader, self.options)
        return self


class _Entry(_Model):
    title: str = Field("", description="What the text is, in a few words.")
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


class FilesDomain(_Entry):
    """Text files of your own. Their content is not hashed: change ``revision`` when you change the files."""

    kind: Literal["files"] = Field(alias="from", description="Where the text comes from.")
    paths: list[str] = Field(description="Paths or globs (** for any depth).", min_length=1)
    format: Literal["text", "jsonl", "parquet"] = Field("text", description="jsonl may end in .gz or .zst.")
    field: str = Field("text", description="The key (jsonl) or column (parquet) that holds the text.")
    separator: str | None = Field(None, description="Text only: what divides documents; null: one document a file.")
    revision: str = Field("", description="A label of your choosing; another label makes another corpus.")

    def files(self) -> list[Path]:
        """The files, sorted.

        Raises:
            UserError: a pattern matches nothing.
        """
        found: set[str] = set()
        for pattern in self.paths:
            matches = glob(pattern, recursive=True)
            if not matches:
                raise UserError(f"no file matches {pattern!r}", fix="correct `paths` of the domain")
            found.update(matches)
        return [path for name in sorted(found) if (path := Path(name)).is_file()]


class HubDomain(_Entry):
    """A data set of the Hugging Face hub, streamed. Needs ``pip install 'acodm-bench[hub]'`` and a network."""

    kind: Literal["hf"] = Field(alias="from", description="Where the text comes from.")
    dataset: str = Field(description="Name of the data set, owner/name.")
    config: str | None = Field(None, description="Name of its configuration.")
    split: str = Field("train", description="Name of its split.")
    field: str = Field("text", description="The column that holds the text.")
    revision: str = Field("main", description="Commit or tag; a commit makes the corpus repeatable.")
    documents: int | None = Field(None, description="Read this many documents and stop; null: all.", gt=0)
    where: dict[str, str] = Field({}, description="Keep rows whose (dotted) column has this value.")


class GeneratorDomain(_Entry):
    """Text made by a program."""

    kind: Literal["generator"] = Field(alias="from", description="Where the text comes from.")
    generator: Literal["mathematics"] = Field(description="Name of the generator.")
    seed: int = Field(0, description="Seed of the generator.", ge=0)
    megabytes: float = Field(description="How much text to make, in units of 10^6 bytes.", gt=0)


class Language(_Model):
    """An artificial language: a Markov chain over its words (synthetic.py). Its name, words and order decide its table."""

    name: str = Field(description="Begins each of its words; two names share no word.", pattern=r"^[a-z]{1,8}$")
    words: int = Field(description="How many words it has.", ge=2, le=100)
    order: int = Field(1, description="How many words decide the next one.", ge=1, le=3)
    successors: int = Field(4, description="How many words may follow a context.", ge=1)
    noise: float = Field(0.0, description="Share of words drawn from all words, whatever the context.", ge=0, le=1)
    dialect: int = Field(0, description="Two dialects share words and contexts, and contradict in each.", ge=0)
    share: float = Field(1.0, description="Weight of the language in the domain's documents.", gt=0)

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
    seed: int = Field(0, description="Seed of the sample: another seed, other documents of the same languages.", ge=0)
    megabytes: float = Field(description="How much text to make, in units of 10^6 bytes.", gt=0)


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
_FOR_PEOPLE = set(_Entry.model_fields)  # what a reader of the card needs, and no byte depends on


class TrainedTokenizer(_Model):
    """A byte-level BPE trained on the corpus's own train split."""

    vocab_size: int = Field(4096, description="Tokens, with 256 bytes and one special among them.", ge=257)
    train_megabytes: float = Field(2.0, description="Text it learns from, at most, per domain (10^6 bytes).", gt=0)


class ExistingTokenizer(_Model):
    """A byte-level tokenizer made elsewhere."""

    name: str = Field(description="Path of a tokenizer.json or of its folder, or a Hugging Face name.")
    end_of_text: str = Field("<|endoftext|>", description="The token that ends a document.")


class Shards(_Model):
    """Files that hold documents of many domains, each document with its domain's name: the Pile, SlimPajama.

    Their content is not hashed into the corpus's name (it is recorded in ``sources.json``): change ``revision`` when you
    change the files.
    """

    paths: list[str] = Field(
        description="Paths or globs (** for any depth) of .jsonl, .jsonl.gz, .jsonl.zst or .parquet files, local or as a URL"
        " that fsspec knows: hf://datasets/OWNER/NAME@COMMIT/train/**/*.jsonl.zst.",
        min_length=1,
    )
    text: str = Field("text", description="The (dotted) key or column that holds the text.")
    domain: str = Field(description="The (dotted) key or column that names the domain, e.g. meta.pile_set_name.")
    others: list[str] = Field([], description="Names in the shards that are left out on purpose.")
    revision: str = Field("", description="A label of your choosing; another label makes another corpus.")
    pieces: int = Field(32, description="Jobs that the shards are divided among. Decides no byte.", gt=0)
    bad_share: float = Field(
        0.001, description="Give up above this share of bad lines in a piece, or of damaged shards.", ge=0, lt=1
    )


_DECIDES_NO_BYTE = {"pieces", "bad_share"}


class CorpusSpec(_Model):
    """Everything that decides a corpus. ``digest()`` names its bytes."""

    name: DomainName = Field(description="A word for people; the digest does the naming.")
    domains: dict[DomainName, Entry] = Field(
        description="Domains in order. A list of names, or a name with null, takes entries of the catalogue.",
        min_length=1,
    )
    tokenizer: TrainedTokenizer | ExistingTokenizer = Field(TrainedTokenizer(), description="How text becomes tokens.")
    valid_fraction: float = Field(0.05, description="Share of documents held out for validation.", gt=0, lt=0.5)
    test_fraction: float = Field(0.05, description="Share of documents held out for the test.", gt=0, lt=0.5)
    max_megabytes: float | dict[str, float] | None = Field(
        None, description="Upper bound on a domain's text (10^6 bytes): for all, per domain, or null."
    )
    split_seed: int = Field(0, description="Seed of the choice of held-out and of capped documents.", ge=0)
    shards: Shards | None = Field(None, description="Files of mixed domains, which domains `from: shards` share.")

    @field_validator("domains", mode="before")
    @classmethod
    def _from_catalogue(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = dict.fromkeys(value)
        if not isinstance(value, dict):
            return value
        return {name: _as_value_error(catalogue_entry, name) if e is None else e for name, e in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> CorpusSpec:
        if isinstance(self.max_megabytes, dict):
            for name in self.max_megabytes:
                if name not in self.domains:
                    raise ValueError(str(unknown_name("domain", name, self.domains, where="max_megabytes")))
        caps = self.max_megabytes.values() if isinstance(self.max_megabytes, dict) else [self.max_megabytes]
        if any(cap is not None and cap <= 0 for cap in caps):
            raise ValueError("max_megabytes must be above 0")
        hashes: dict[str, str] = {}
        for archive in (archive for name in self.domains for archive in self._archives_of(name)):
            if hashes.setdefault(archive.filename, archive.sha256) != archive.sha256:
                raise ValueError(f"archive {archive.filename} is given two different sha256")
        return self

    @model_validator(mode="after")
    def _shards_fit_their_domains(self) -> CorpusSpec:
        if bool(self.sharded) != (self.shards is not None):
            raise ValueError("`shards` and domains `from: shards` need each other")
        if self.shards is None:
            return self
        names = [*(self.domains[domain].name for domain in self.sharded), *self.shards.others]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"named twice among domains and shards.others: {', '.join(twice)}")
        if isinstance(self.tokenizer, TrainedTokenizer):
            raise ValueError(
                "shards are read once, with their tokenizer: give `tokenizer: {name: ...}` of an existing one"
            )
        if self.max_megabytes is not None:
            raise ValueError("shards are read once, so no cap can be known in time: give domains a `share` instead")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_shards(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A corpus without shards is written as it was before there were any: files that hold it stay the same."""
        return {key: value for key, value in dump(self).items() if key != "shards" or value is not None}

    def entry(self, domain: str) -> AnyDomain:
        """The entry of a domain, or a UserError that names the nearest one."""
        if domain not in self.domains:
            raise unknown_name("domain", domain, self.domains, where=f"corpus {self.name}")
        return self.domains[domain]

    def cap_bytes(self, domain: str) -> int | None:
        """Upper bound on a domain's text, in bytes; None for no bound."""
        cap = self.max_megabytes.get(domain) if isinstance(self.max_megabytes, dict) else self.max_megabytes
        return None if cap is None else int(cap * 1e6)

    def archives(self) -> dict[str, Archive]:
        """Every archive the corpus reads, by file name."""
        return {archive.filename: archive for name in self.domains for archive in self._archives_of(name)}

    def archives_of(self, domain: str) -> list[str]:
        """File names of the archives that a domain reads; none for a domain that is not made of packages."""
        self.entry(domain)
        return list({archive.filename: None for archive in self._archives_of(domain)})

    @property
    def sharded(self) -> list[str]:
        """The domains that share the corpus's shards."""
        return [name for name, entry in self.domains.items() if isinstance(entry, ShardsDomain)]

    @property
    def unsharded(self) -> list[str]:
        """The domains that are read one by one."""
        return [name for name in self.domains if name not in self.sharded]

    def files_of(self, domain: str) -> list[Path]:
        """The local files that a domain reads; none for a domain that is not made of files."""
        entry = self.entry(domain)
        return entry.files() if isinstance(entry, FilesDomain) else []

    def _archives_of(self, domain: str) -> list[Archive]:
        entry = self.domains[domain]
        return [part.archive for part in entry.parts] if isinstance(entry, PackagesDomain) else []

    def digest(self) -> str:
        """Sha256 over all that decides the tokens: not the name, titles, licences. The order of domains counts."""
        decisive = {
            "recipe": RECIPE,
            "domains": [[name, entry.model_dump(exclude=_FOR_PEOPLE)] for name, entry in self.domains.items()],
            **self.model_dump(exclude={"name": True, "domains": True, "shards": _DECIDES_NO_BYTE}),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def id(self) -> str:
        """Name of the corpus's folder: the word for people and twelve digits of the digest."""
        return f"{self.name}-{self.digest()[:12]}"


class Catalogue(_Model):
    """The entries that ship with the project."""

    archives: dict[str, Archive] = Field(description="Archives by package; YAML anchors carry them into the domains.")
    domains: dict[DomainName, Entry] = Field(description="Domains by name.")
    embedded: list[DomainName] = Field(description="The domains of the embedded corpus: small downloads, clear rights.")


@cache
def load_catalogue() -> Catalogue:
    """Read the shipped ``catalogue.yaml``."""
    text = resources.files("acodm_core.data").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return Catalogue.model_validate(yaml.safe_load(text))


def catalogue_entry(name: str) -> AnyDomain:
    """One entry of the shipped catalogue, or a UserError that names the nearest one."""
    domains = load_catalogue().domains
    if name not in domains:
        raise unknown_name("domain", name, domains, where="catalogue")
    return domains[name]


def embedded_spec(name: str = "embedded", domains: Sequence[str] | None = None, **settings: Any) -> CorpusSpec:
    """A corpus of catalogue domains, the whole embedded set by default. ``settings`` are other fields of the spec."""
    return CorpusSpec(name=name, domains=list(domains or load_catalogue().embedded), **settings)


def read_spec(path: Path) -> CorpusSpec:
    """Read a spec from JSON or YAML.

    Raises:
        UserError: the file is missing or not a spec; every mistake is listed with its place.
    """
    try:
        return CorpusSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read the corpus spec: {error.strerror}", where=str(path)) from error
    except yaml.YAMLError as error:
        raise UserError(f"neither JSON nor YAML: {error}", where=str(path)) from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'spec'}: {e['msg']}" for e in error.errors()]
        raise UserError("\n".join(["not a corpus spec", *lines]), where=str(path)) from error


def _as_value_error(function: Any, *arguments: Any) -> Any:
    """Call, turning a UserError into the ValueError that pydantic places in its path."""
    try:
        return function(*arguments)
    except UserError as error:
        raise ValueError(str(error)) from error
