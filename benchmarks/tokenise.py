"""Tokenising shards of the Pile's format: speed a core, scaling over processes, memory as the input grows, disk.

    python benchmarks/tokenise.py CORPUS_FOLDER [--megabytes 24] [--jobs 2] [--blocks 4] [--tokenizer tokenizer.json]

Takes the text of a built corpus (data/corpora/ID), writes it as .jsonl.zst shards with `meta.pile_set_name`, and tokenises a
piece a process, with one process and with JOBS, in interleaved blocks (A B B A ...), RAYON_NUM_THREADS=1. Rates are by the clock
and by the processes' own processor time, which tells what they would reach on cores of their own where the machine has other work.
Without `--tokenizer` it learns a byte-level BPE of Pythia's size (50,254) from that text. Then it joins the domains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.sources.shards import ShardReader, divide, find_shards
from acodm_core.data.sources.specs import TrainedTokenizer
from acodm_core.data.tokens.documents import read_documents
from acodm_core.data.tokens.join import join_domain
from acodm_core.data.tokens.pieces import RECORD, PieceRecord, piece_folder, tokenize_piece
from acodm_core.data.tokens.tokenizer import _train
from acodm_core.measure.ratio import ratio_of_medians

THREADS = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Timing(NamedTuple):
    """One piece in one process."""

    text_bytes: int
    cpu_seconds: float
    peaks: dict[float, int]  # megabytes of text done, doubling -> the process's peak bytes so far


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--megabytes", type=float, default=24, help="text of a piece (10^6 bytes)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=4, help="blocks of each")
    parser.add_argument("--tokenizer", type=Path)
    arguments = parser.parse_args()
    os.environ.update(THREADS)
    domains = sorted(path.stem for path in (arguments.corpus / "documents").glob("*.parquet"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(arguments.corpus, domains, folder, arguments.jobs, arguments.megabytes)
        tokenizer = arguments.tokenizer or learn(arguments.corpus, domains, folder / "tokenizer.json")
        spec = spec_of(domains, folder, tokenizer, arguments.jobs)
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        reading(spec)
        tokenising(spec, tokenizer, folder, arguments.jobs, arguments.blocks)
        joining(spec, folder)


def write_shards(corpus: Path, domains: list[str], folder: Path, count: int, megabytes: float) -> None:
    """One shard a process; the domains' documents in turn, and again from the first when all were used."""
    rows = documents_in_turn(corpus, domains)
    for number in range(count):
        size = 0
        with zstandard.ZstdCompressor().stream_writer((folder / f"{number:02d}.jsonl.zst").open("wb")) as file:
            while size < megabytes * 1e6:
                domain, text = next(rows)
                size += len(text.encode())
                file.write(json.dumps({"text": text, "meta": {"pile_set_name": domain}}).encode() + b"\n")


def documents_in_turn(corpus: Path, domains: list[str]) -> Iterator[tuple[str, str]]:
    while True:
        texts = [read_documents(corpus / "documents" / f"{domain}.parquet", "train") for domain in domains]
        for round_ in itertools.zip_longest(*texts):
            yield from ((domain, text) for domain, text in zip(domains, round_, strict=True) if text)


def learn(corpus: Path, domains: list[str], path: Path) -> Path:
    sample = itertools.islice(documents_in_turn(corpus, domains), 20_000)
    _train(TrainedTokenizer(vocab_size=50_254), (text for _, text in sample)).save(str(path))
    return path


def spec_of(domains: list[str], folder: Path, tokenizer: Path, pieces: int) -> CorpusSpec:
    return CorpusSpec(
        name="benchmark",
        domains={domain: {"from": "shards", "name": domain} for domain in domains},
        tokenizer={"name": str(tokenizer)},
        split_seed=1,  # these are the train documents of seed 0
        valid_fraction=0.2,  # a domain of forty books has some for each split
        test_fraction=0.2,
        shards={"paths": [f"{folder}/*.jsonl.zst"], "domain": "meta.pile_set_name", "pieces": pieces},
    )


def reading(spec: CorpusSpec) -> None:
    """How much of the time is not the tokenizer's."""
    (shard,) = divide(find_shards(spec.shards), spec.shards.pieces)[0]
    start = time.process_time()
    size = sum(len(row.text.encode()) for row in ShardReader(shard, spec.shards))
    print(f"unpacking, hashing, parsing      {size / 1e6 / (time.process_time() - start):8.1f} MB/s a core")


def tokenising(spec: CorpusSpec, tokenizer: Path, folder: Path, jobs: int, blocks: int) -> None:
    clock: dict[int, list[float]] = {1: [], jobs: []}
    cores: dict[int, list[float]] = {1: [], jobs: []}
    for processes in ([1, jobs, jobs, 1] * blocks)[: 2 * blocks]:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:  # fresh: a peak is never forgotten
            list(pool.map(warm_up, range(4 * jobs)))
            start = time.perf_counter()
            done = list(
                pool.map(one_piece, range(processes), *([value] * processes for value in (spec, tokenizer, folder)))
            )
            clock[processes].append(sum(t.text_bytes for t in done) / 1e6 / (time.perf_counter() - start))
            cores[processes].append(sum(t.text_bytes / 1e6 / t.cpu_seconds for t in done))
    for name, rates in (("by the clock", clock), ("by processor time", cores)):
        alone, together = np.array(rates[1]), np.array(rates[jobs])
        ratio, low, high = ratio_of_medians(together, alone)
        print(
            f"tokenising, {name:17} {np.median(alone):8.2f} MB/s [{alone.min():.2f}, {alone.max():.2f}] with 1 process,"
            f" {np.median(together):.2f} [{together.min():.2f}, {together.max():.2f}] with {jobs}:"
            f" {ratio:.2f} times [{low:.2f}, {high:.2f}]"
        )
    print("peak memory after " + ", ".join(f"{mb:g} MB: {peak / 1e6:.0f} MB" for mb, peak in done[0].peaks.items()))


def warm_up(_: int) -> None:
    import pyarrow.parquet  # noqa: F401
    import tokenizers  # noqa: F401

    time.sleep(0.2)  # so that every process of the pool gets its turn


def one_piece(piece: int, spec: CorpusSpec, tokenizer: Path, folder: Path) -> Timing:
    peaks: dict[float, int] = {}

    def watch(text_bytes: int) -> None:
        if text_bytes >= 1e6 * 2 ** len(peaks):
            peaks[round(text_bytes / 1e6)] = peak_memory()

    start = time.process_time()
    record = tokenize_piece(spec, find_shards(spec.shards), piece, tokenizer, folder / "parts", watch)
    used = time.process_time() - start
    text_bytes = sum(domain.text_bytes for domain in record.domains.values())
    return Timing(text_bytes, used, peaks | {round(text_bytes / 1e6): peak_memory()})


def peak_memory() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def joining(spec: CorpusSpec, folder: Path) -> None:
    pieces = [piece_folder(folder / "parts", piece, spec.shards.pieces) for piece in range(spec.shards.pieces)]
    records = [PieceRecord.model_validate_json((piece / RECORD).read_bytes()) for piece in pieces]
    found = [domain for record in records for domain in record.domains.values()]
    text, tokens = sum(domain.text_bytes for domain in found), sum(domain.tokens for domain in found)
    parts = sum(path.stat().st_size for piece in pieces for path in piece.glob("*.parquet"))
    packed = sum(shard.bytes for record in records for shard in record.shards)
    start = time.perf_counter()
    for domain in spec.sharded:
        join_domain(spec, domain, folder / "parts", folder / "tokens" / domain)
    print(f"joining                          {text / 1e6 / (time.perf_counter() - start):8.1f} MB/s of text")
    print(
        f"{text / tokens:.2f} bytes a token; disk for a GB of text: shards {packed / text:.2f}, parts {parts / text:.2f},"
        f" tokens {tokens * 2 / text:.2f} GB"
    )


if __name__ == "__main__":
    main()
