"""All steps from archives to a sealed corpus, one after the other; finished steps are not repeated."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.corpus import Corpus
from acodm_core.data.manifest import MANIFEST, PARTS, SHARDS, TOKENIZER
from acodm_core.data.seal import seal
from acodm_core.data.sources import archives, shards
from acodm_core.data.tokens import documents, join, pieces, token_files, tokenizer
from acodm_core.data.tokens.documents import SPLITS
from acodm_core.files import clear_leftovers, exclusive, write_json


def build_corpus(spec: CorpusSpec, data: Path, jobs: int = 1) -> Path:
    """Build a corpus under ``data/corpora/<id>`` from archives under ``data/archives``; return its folder.

    Args:
        jobs: pieces of shards that are tokenised at once, a process each.

    Raises:
        UserError: another process builds this corpus, or what a step says.
    """
    spec = spec.pinned()
    folder = data / "corpora" / spec.id
    if not (folder / MANIFEST).exists():
        with exclusive(folder, "building this corpus"):
            _build(spec, folder, data / "archives", jobs)
    Corpus.open(folder)
    return folder


def _build(spec: CorpusSpec, folder: Path, archives_dir: Path, jobs: int) -> None:
    clear_leftovers(folder)
    write_json(folder / "spec.json", spec.model_dump(mode="json"))
    for name, archive in spec.archives().items():
        with _step(f"fetch {name}"):
            archives.fetch(archive, archives_dir, needed_by=_readers_of(spec, name))
    for domain in spec.unsharded:
        out = folder / "documents" / f"{domain}.parquet"
        if not out.exists():
            with _step(f"documents {domain}") as progress:
                documents.build_documents(spec, domain, archives_dir, out, progress)
    if not (folder / TOKENIZER).exists():
        with _step("tokenizer") as progress:
            tokenizer.train_tokenizer(spec, folder / "documents", folder / TOKENIZER, progress)
    for domain in spec.unsharded:
        parquet, out = folder / "documents" / f"{domain}.parquet", folder / "tokens" / domain
        with _step(f"tokenize {domain}") as progress:
            token_files.tokenize_domain(spec, domain, parquet, folder / TOKENIZER, out, progress)
    if spec.shards:
        _from_shards(spec, folder, jobs)
    with _step("seal"):
        seal(spec, folder)


def _from_shards(spec: CorpusSpec, folder: Path, jobs: int) -> None:
    """Tokenise the pieces that are not finished, and join domain by domain, each domain's parts deleted when it is joined."""
    listing, parts = folder / SHARDS, folder / PARTS
    if not listing.exists():
        with _step("list shards"):
            shards.write_listing(shards.find_shards(spec.shards), listing)
    folders = [pieces.piece_folder(parts, piece, spec.shards.pieces) for piece in range(spec.shards.pieces)]
    left = [piece for piece, its in enumerate(folders) if not (its / pieces.RECORD).exists()]
    with _step(f"tokenize {len(left)} of {len(folders)} pieces"), _workers(jobs) as pool:
        arguments = (spec, shards.read_listing(listing), folder / TOKENIZER, parts)
        running = [pool.submit(_piece, piece, *arguments) for piece in left]
        try:
            for done in as_completed(running):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    for domain in spec.sharded:
        out = folder / "tokens" / domain
        if not all((out / f"{split}.{kind}").exists() for split in SPLITS for kind in ("bin", "idx.npy")):
            with _step(f"join {domain}") as progress:
                join.join_domain(spec, domain, parts, out, progress)
        for its in folders:
            (its / f"{domain}.parquet").unlink(missing_ok=True)


def _piece(piece: int, spec: CorpusSpec, listing: list[shards.Shard], tokenizer_path: Path, parts: Path) -> None:
    pieces.tokenize_piece(spec, listing, piece, tokenizer_path, parts)


def _workers(jobs: int) -> Executor:
    """Processes that share the machine's cores; with one job, this one."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_use_threads, initargs=(threads,))


def _use_threads(threads: int) -> None:
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # read by the tokenizer's library when it is first used
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without words: this process says it once


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
