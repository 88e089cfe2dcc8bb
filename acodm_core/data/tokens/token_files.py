"""From texts to flat token files: per domain and split, ``<split>.bin`` and ``<split>.idx.npy``.

``.bin`` holds the tokens of all documents in order, little-endian, each document ended by the end-of-text token.
``.idx.npy`` holds D + 1 int64 offsets: document d is ``tokens[offsets[d]:offsets[d + 1]]``, its end included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.tokens.documents import SPLITS, Progress, Split, read_documents
from acodm_core.data.tokens.tokenizer import changed_text, end_of_text, load_tokenizer, spellings
from acodm_core.seals import mark_of, marked, verify_mark

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_CHARACTERS = 1_000_000  # the library holds about a hundred bytes for each
Append = Callable[[np.ndarray, np.ndarray], None]  # tokens of some documents (T,), and their lengths (D,)


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrowest of uint16 and uint32 that holds every token, little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def tokenize_domain(
    spec: CorpusSpec,
    domain: str,
    documents: Path,
    tokenizer_path: Path,
    out_dir: Path,
    progress: Progress | None = None,
) -> None:
    """Write ``out_dir/{train,valid,test}.{bin,idx.npy}`` from a domain's Parquet file.

    Raises:
        UserError: the tokenizer does not spell the text byte for byte.
    """
    spec.entry(domain)
    encoder = Encoder(spec, tokenizer_path)
    done_bytes = 0
    for split in SPLITS:
        with token_files(out_dir, split) as append:
            for texts in batches(read_documents(documents, split)):
                tokens, lengths_D = encoder(texts)
                for text, back in zip(texts, encoder.spell(tokens, lengths_D), strict=True):
                    if back != text.encode():
                        raise changed_text(text.encode(), back, where=f"corpus.domains.{domain}")
                    done_bytes += len(back)
                append(tokens, lengths_D)
                if progress:
                    progress(done_bytes)


@contextmanager
def token_files(folder: Path, split: Split) -> Iterator[Append]:
    """The two files of a split, written document by document in constant memory; whole or absent when the block ends."""
    with (
        marked(folder / f"{split}.bin") as bin_path,
        marked(folder / f"{split}.idx.npy") as idx_path,
        bin_path.open("wb") as tokens_file,
        idx_path.open("wb") as offsets_file,
    ):
        documents = end = 0

        def append(tokens: np.ndarray, lengths_D: np.ndarray) -> None:
            nonlocal documents, end
            tokens_file.write(tokens.data)
            offsets_file.write((end + np.cumsum(lengths_D, dtype="<i8")).data)
            documents, end = documents + len(lengths_D), end + len(tokens)

        _write_header(offsets_file, 1)
        offsets_file.write(bytes(8))  # the first document begins at 0
        yield append
        offsets_file.seek(0)
        _write_header(offsets_file, documents + 1)


class Encoder:
    """Turns texts into tokens, each text ended by the end-of-text token.

    A long text goes through the tokenizer in stretches, cut where the tokenizer itself always cuts (before a blank between
    two letters, after a newline between two signs), so that the tokens are the same and memory does not grow with it.
    """

    def __init__(self, spec: CorpusSpec, tokenizer_path: Path) -> None:
        if mark_of(tokenizer_path).exists():  # else it is somebody else's; `seal` asks for it
            verify_mark(tokenizer_path, fix=f"delete {tokenizer_path}, and make it again: acodm data tokenizer")
        self._tokenizer = load_tokenizer(tokenizer_path)
        spelt = spellings(self._tokenizer)
        self._bytes = np.frombuffer(b"".join(spelt), np.uint8)
        self._length_V = np.array([len(spelling) for spelling in spelt], np.int64)
        self._start_V = np.cumsum(self._length_V) - self._length_V
        self._end = end_of_text(spec, self._tokenizer)
        self._cuts = _always_cuts(self._tokenizer)
        self.dtype = token_dtype(len(self._length_V))

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the texts (T,), and how many each text has (D,), its end included."""
        stretches = [(d, stretch) for d, text in enumerate(texts) for stretch in self._stretches(text)]
        tokens: list[np.ndarray] = []
        lengths_D = np.zeros(len(texts), np.int64)
        place = 0
        for batch in batches(stretch for _, stretch in stretches):
            for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                d = stretches[place][0]
                place += 1
                ids = encoding.ids
                if place == len(stretches) or stretches[place][0] != d:
                    ids.append(self._end)
                tokens.append(np.asarray(ids, self.dtype))
                lengths_D[d] += len(ids)
        return np.concatenate(tokens), lengths_D

    def spell(self, tokens: np.ndarray, lengths_D: np.ndarray) -> Iterator[bytes]:
        """What the tokens of each document spell: D times bytes."""
        for its in np.split(tokens, np.cumsum(lengths_D)[:-1]):
            length_T = self._length_V[its]
            first_T = np.cumsum(length_T) - length_T
            place_B = np.arange(length_T.sum()) + np.repeat(self._start_V[its] - first_T, length_T)
            yield self._bytes[place_B].tobytes()

    def _stretches(self, text: str) -> Iterator[str]:
        start = 0
        while self._cuts and len(text) - start > BATCH_CHARACTERS:
            cut = _CUT.search(text, start + BATCH_CHARACTERS)
            if cut is None:
                break
            yield text[start : cut.start()]
            start = cut.start()
        yield text[start:] if start else text


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of about ``BATCH_CHARACTERS``."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_CUT = re.compile(r"(?<=[^\W\d_])(?= [^\W\d_])|(?<=\S\n)(?=\S)")


def _always_cuts(tokenizer: Tokenizer) -> bool:
    """Whether no token reaches over the places that ``_CUT`` finds."""
    if tokenizer.pre_tokenizer is None:
        return False
    starts = {start for _, (start, _) in tokenizer.pre_tokenizer.pre_tokenize_str("ab cd\nef.\ngh")}
    return {2, 6, 10} <= starts


def _write_header(file: BinaryIO, count: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (count,)})
