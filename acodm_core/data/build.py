"""All steps from archives to a sealed corpus, one after the other; finished steps are not repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from acodm_core.data import archives, corpus, documents, tokenizer, tokens
from acodm_core.data.catalogue import CorpusSpec
from acodm_core.files import atomic


def build_corpus(spec: CorpusSpec, data: Path) -> Path:
    """Build a corpus under ``data/corpora/<id>`` from archives under ``data/archives``; return its folder."""
    folder, archives_dir = data / "corpora" / spec.id, data / "archives"
    if (folder / corpus.MANIFEST).exists():
        corpus.Corpus.open(folder)
        return folder
    with atomic(folder / "spec.json") as temporary:
        temporary.write_text(spec.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for name, archive in spec.archives().items():
        with _step(f"fetch {name}"):
            archives.fetch(archive, archives_dir, needed_by=_readers_of(spec, name))
    for domain in spec.domains:
        out = folder / "documents" / f"{domain}.parquet"
        if not out.exists():
            with _step(f"documents {domain}") as progress:
                documents.build_documents(spec, domain, archives_dir, out, progress)
    if not (folder / corpus.TOKENIZER).exists():
        with _step("tokenizer"):
            tokenizer.train_tokenizer(spec, folder / "documents", folder / corpus.TOKENIZER)
    for domain in spec.domains:
        parquet, out = folder / "documents" / f"{domain}.parquet", folder / "tokens" / domain
        with _step(f"tokenize {domain}") as progress:
            tokens.tokenize_domain(spec, domain, parquet, folder / corpus.TOKENIZER, out, progress)
    with _step("seal"):
        corpus.seal(spec, folder)
    return folder


def _readers_of(spec: CorpusSpec, filename: str) -> list[str]:
    return [domain for domain in spec.domains if filename in spec.archives_of(domain)]


@contextmanager
def _step(name: str) -> Iterator[Callable[[int], None]]:
    """Show a step: a live line with megabytes on a terminal, and a plain line with its seconds when it ends."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    start, shown = time.monotonic(), 0.0
    with console.status(f"{name} ...") if console.is_terminal else _nothing() as status:

        def progress(num_bytes: int) -> None:
            nonlocal shown
            if status is not None and time.monotonic() - shown > 0.2:
                shown = time.monotonic()
                status.update(f"{name}: {num_bytes / 1e6:.1f} MB")

        yield progress
    console.print(f"{name:<48} {time.monotonic() - start:7.1f} s")


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
