"""From documents to flat token files: per domain and split, ``<split>.bin`` and ``<split>.idx.npy``.

``.bin`` holds the tokens of all documents in order, little-endian, each document ended by the end-of-text token.
``.idx.npy`` holds D + 1 int64 offsets: document d is ``tokens[offsets[d]:offsets[d + 1]]``, its end included.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.documents import SPLITS, Progress, read_documents
from acodm_core.data.tokenizer import end_of_text, load_tokenizer, token_bytes
from acodm_core.errors import UserError
from acodm_core.files import atomic

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH_BYTES = 1_000_000


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
    tokenizer = load_tokenizer(tokenizer_path)
    length_V = token_bytes(tokenizer)
    end = end_of_text(spec, tokenizer)
    done_bytes = 0
    for split in SPLITS:
        offsets = [0]
        with atomic(out_dir / f"{split}.bin") as temporary, temporary.open("wb") as file:
            for texts in _batches(read_documents(documents, split)):
                done_bytes += (size := sum(len(text.encode()) for text in texts))
                tokens, ends = _encode(tokenizer, texts, end, token_dtype(len(length_V)))
                if int(length_V[tokens].sum()) != size:
                    raise UserError(
                        "the tokenizer changes the text (a normalizer?), so bits per byte would be wrong",
                        where=f"corpus.domains.{domain}",
                        fix="use a tokenizer without a normalizer",
                    )
                file.write(tokens.tobytes())
                offsets.extend((ends + offsets[-1]).tolist())
                if progress:
                    progress(done_bytes)
        with atomic(out_dir / f"{split}.idx.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.asarray(offsets, "<i8"))


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(tokenizer: Tokenizer, texts: list[str], end: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the texts, each ended (T,), and the offset after each text (D,)."""
    ids = [[*encoding.ids, end] for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    return np.concatenate([np.asarray(document, dtype) for document in ids]), np.cumsum(
        [len(document) for document in ids]
    )
