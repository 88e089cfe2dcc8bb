"""What domains and corpora are made of: the models behind ``catalogue.yaml`` and every ``spec.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from acodm_core.data.sources.specs import (
    FOR_PEOPLE,
    AnyDomain,
    Archive,
    Entry,
    ExistingTokenizer,
    Megabytes,
    Model,
    OnDisk,
    PackagesDomain,
    Shards,
    ShardsDomain,
    TrainedTokenizer,
    as_value_error,
)
from acodm_core.errors import unknown_name
from acodm_core.files import read_json
from acodm_core.settings.types import DomainName, Seed, checked, distinct, shown
from acodm_core.settings.yaml_files import read_yaml, shipped

#: Part of every corpus digest. Raise it when a change of code changes the text or the tokens of the same spec.
RECIPE = 2

_DECIDES_NO_BYTE = {"pieces", "bad_share"}


class CorpusSpec(Model):
    """Everything that decides a corpus. ``digest()`` names its bytes."""

    later = frozenset({"shards"})
    name: DomainName = Field(description="A word for people; the digest does the naming.")
    domains: dict[DomainName, Entry] = Field(
        description="Domains in order. A list of names, a name with null, or the name of a set (core, embedded) takes entries of "
        "the catalogue.",
        min_length=1,
    )
    tokenizer: TrainedTokenizer | ExistingTokenizer = Field(TrainedTokenizer(), description="How text becomes tokens.")
    valid_fraction: float = Field(0.05, description="Share of documents held out for validation.", gt=0, lt=0.5)
    test_fraction: float = Field(0.05, description="Share of documents held out for the test.", gt=0, lt=0.5)
    max_megabytes: Megabytes | dict[str, Megabytes] | None = Field(
        None, description="Upper bound on a domain's text (10^6 bytes): for all, per domain, or null."
    )
    split_seed: Seed = Field(0, description="Seed of the choice of held-out and of capped documents.")
    shards: Shards | None = Field(None, description="Files of mixed domains, which domains `from: shards` share.")

    @field_validator("domains", mode="before")
    @classmethod
    def _from_catalogue(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = as_value_error(domain_set, value)
        if isinstance(value, list):
            if wrong := [name for name in value if not isinstance(name, str)]:
                raise ValueError(f"a list of domains holds names of the catalogue; got {shown(wrong[0])}")
            value = dict.fromkeys(distinct(value))
        if not isinstance(value, dict):
            return value
        return {name: as_value_error(catalogue_entry, name) if e is None else e for name, e in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> CorpusSpec:
        if isinstance(self.max_megabytes, dict):
            for name in self.max_megabytes:
                if name not in self.domains:
                    raise ValueError(str(unknown_name("domain", name, self.domains, where="max_megabytes")))
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

    def pinned(self, *, where: str = "corpus") -> CorpusSpec:
        """The same with the content of every local file in it, so that ``digest()`` names what they hold.

        Raises:
            UserError: a file is missing or cannot be read.
        """
        domains = {
            name: entry.pinned(f"{where}.domains.{name}") if isinstance(entry, OnDisk) else entry
            for name, entry in self.domains.items()
        }
        named = {"shards": self.shards, "tokenizer": self.tokenizer}
        others = {key: part.pinned(f"{where}.{key}") for key, part in named.items() if isinstance(part, OnDisk)}
        return self.model_copy(update={"domains": domains, **others})

    def _archives_of(self, domain: str) -> list[Archive]:
        entry = self.domains[domain]
        return [part.archive for part in entry.parts] if isinstance(entry, PackagesDomain) else []

    def digest(self) -> str:
        """Sha256 over all that decides the tokens: not the name, titles, licences. The order of domains counts."""
        decisive = {
            "recipe": RECIPE,
            "domains": [[name, entry.model_dump(exclude=FOR_PEOPLE)] for name, entry in self.domains.items()],
            **self.model_dump(exclude={"name": True, "domains": True, "shards": _DECIDES_NO_BYTE}),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def id(self) -> str:
        """Name of the corpus's folder: the word for people and twelve digits of the digest."""
        return f"{self.name}-{self.digest()[:12]}"


class Catalogue(Model):
    """The entries that ship with the project."""

    archives: dict[str, Archive] = Field(description="Archives by package; YAML anchors carry them into the domains.")
    domains: dict[DomainName, Entry] = Field(description="Domains by name.")
    sets: dict[DomainName, list[DomainName]] = Field(description="Names of domains by the name of a set.")


@cache
def load_catalogue() -> Catalogue:
    """Read the shipped ``catalogue.yaml``."""
    return checked(Catalogue, shipped(Path(__file__).with_name("catalogue.yaml")))


def catalogue_entry(name: str) -> AnyDomain:
    """One entry of the shipped catalogue, or a UserError that names the nearest one."""
    domains = load_catalogue().domains
    if name not in domains:
        raise unknown_name("domain", name, domains, where="catalogue")
    return domains[name]


def domain_set(name: str) -> list[str]:
    """The domains of a set of the shipped catalogue, or a UserError that names the nearest one."""
    sets = load_catalogue().sets
    if name not in sets:
        raise unknown_name("set of domains", name, sets, where="catalogue")
    return list(sets[name])


def embedded_spec(name: str = "embedded", domains: Sequence[str] | None = None, **settings: Any) -> CorpusSpec:
    """A corpus of catalogue domains, the whole embedded set by default. ``settings`` are other fields of the spec."""
    return CorpusSpec(name=name, domains=list(domains or domain_set("embedded")), **settings)


def read_spec(path: Path) -> CorpusSpec:
    """Read a spec from JSON or YAML, and the content of the files that it names.

    Raises:
        UserError: the file is missing or not a spec, with the first mistake's place. Or a file that it names is missing.
    """
    found = read_json(path) if path.suffix == ".json" else read_yaml(path)
    return checked(CorpusSpec, found, where=str(path)).pinned()
