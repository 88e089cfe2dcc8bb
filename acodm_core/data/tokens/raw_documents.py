"""The raw documents of a domain, wherever they come from: packages, files, the hub, a generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.sources import archives, mathematics, readers, synthetic
from acodm_core.data.sources.fields import pick, text_of
from acodm_core.data.sources.specs import (
    FilesDomain,
    GeneratorDomain,
    HubDomain,
    OnDisk,
    PackagesDomain,
    SyntheticDomain,
)
from acodm_core.errors import UserError


def read_domain(spec: CorpusSpec, domain: str, archives_dir: Path) -> Iterator[str]:
    """Yield the raw documents of a domain, in an order that its entry fixes.

    Raises:
        UserError: an archive or file is missing or damaged, or a library or the network is.
    """
    entry = spec.entry(domain)
    documents = _read(spec, domain, archives_dir)
    return _checked(documents, entry, f"corpus.domains.{domain}") if isinstance(entry, OnDisk) else documents


def _checked(documents: Iterator[str], entry: OnDisk, where: str) -> Iterator[str]:
    """The documents, of files that are what the corpus is named after: not only when they are opened, but to the end."""
    entry.check(where)
    yield from documents
    entry.check(where)


def _read(spec: CorpusSpec, domain: str, archives_dir: Path) -> Iterator[str]:
    entry = spec.entry(domain)
    match entry:
        case PackagesDomain():
            return _from_packages(entry, domain, archives_dir)
        case FilesDomain():
            return _from_files(entry)
        case HubDomain():
            return _from_hub(entry, domain)
        case GeneratorDomain():
            return mathematics.documents(entry.seed, _kept_megabytes(spec, domain))
        case SyntheticDomain():
            return synthetic.documents(entry.languages, entry.seed, _kept_megabytes(spec, domain))


def _kept_megabytes(spec: CorpusSpec, domain: str) -> float:
    """How much to make: a generated document is as good as any other, so no more than the cap keeps."""
    cap, megabytes = spec.cap_bytes(domain), spec.entry(domain).megabytes
    return megabytes if cap is None else min(megabytes, cap / 1e6)


def _from_packages(entry: PackagesDomain, domain: str, archives_dir: Path) -> Iterator[str]:
    for part in entry.parts:
        path = archives.check(part.archive, archives_dir, needed_by=[domain])
        members = archives.members(path, part.members, part.exclude)
        yield from readers.find_reader(part.reader)(members, **part.options)


def _from_files(entry: FilesDomain) -> Iterator[str]:
    members = (readers.Member(str(path), lambda path=path: path.open("rb")) for path in entry.files())
    if entry.format == "parquet":
        return readers.parquet(members, field=entry.field)
    if entry.format == "jsonl":
        return readers.jsonl(members, field=entry.field, encoding=entry.encoding)
    read = readers.text if entry.format == "text" else readers.plain
    return read(members, separator=entry.separator, encoding=entry.encoding)


def _from_hub(entry: HubDomain, domain: str) -> Iterator[str]:
    where, place = f"corpus.domains.{domain}", readers.Place()
    try:
        import datasets
    except ImportError as error:
        raise UserError("the `datasets` library is not installed", where=where, fix="pip install datasets") from error
    try:
        rows = datasets.load_dataset(
            entry.dataset, name=entry.config, split=entry.split, revision=entry.revision, streaming=True
        )
        taken = 0
        for place.line, row in enumerate(rows, 1):
            if any(str(pick(row, key)) != value for key, value in entry.where.items()):
                continue
            if (document := text_of(row, entry.field)) is None:
                continue
            yield document
            taken += 1
            if taken == entry.documents:
                return
    except UserError as error:
        raise UserError(f"row {place.line} of {entry.dataset}: {error.what}", where=where, fix=error.fix) from error
    except Exception as error:  # the hub raises a dozen kinds: no such data set, no such split, no network, gated
        raise UserError(
            f"cannot read {entry.dataset} from the hub: {type(error).__name__}: {error}",
            where=where,
            fix="check the name and the network, or use `from: files` with a copy of your own",
        ) from error
