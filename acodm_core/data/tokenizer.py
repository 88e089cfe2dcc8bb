"""The corpus's tokenizer: a byte-level BPE learnt from its own train split, or an existing one.

Byte-level means that a token is a string of bytes and a document is exactly the bytes of its tokens. That is what lets
a loss in nats per token become bits per byte without approximation, and compare between vocabularies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.documents import read_documents
from acodm_core.data.hashing import fingerprint, unit
from acodm_core.data.sources import ExistingTokenizer, TrainedTokenizer
from acodm_core.errors import UserError
from acodm_core.files import atomic

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(spec: CorpusSpec, documents_dir: Path, out_path: Path) -> Path:
    """Write the corpus's ``tokenizer.json``: trained on ``documents_dir/<domain>.parquet``, or the existing one copied.

    Every domain gives about the same number of bytes (``tokenizer.train_megabytes``, or all its train split if less):
    else a large domain would own the vocabulary and make every other look hard. Which documents it gives is decided by
    hashes of their text. The same documents give the same file.

    Raises:
        UserError: the existing tokenizer is not found or not byte-level.
    """
    match spec.tokenizer:
        case ExistingTokenizer() as existing:
            tokenizer = _existing(existing)
        case TrainedTokenizer() as wanted:
            tokenizer = _train(
                wanted, (text for name in spec.domains for text in _sample(spec, documents_dir, name, wanted))
            )
    with atomic(out_path) as temporary:
        tokenizer.save(str(temporary))
    return out_path


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``. Text that spells a special token is encoded as text: only we end documents.

    Raises:
        UserError: missing or unreadable.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"not a tokenizer: {error}", where=str(path)) from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """Length of every token in bytes: int64, (V,). Special tokens and unused ids are 0.

    The sum over a document's tokens is the length of its UTF-8: a character of a byte-level token stands for a byte.

    Raises:
        UserError: the tokenizer is not byte-level.
    """
    _require_byte_level(tokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    length_V = np.zeros(max(vocabulary.values()) + 1, np.int64)
    for token, number in vocabulary.items():
        length_V[number] = len(token)
    for number, added in tokenizer.get_added_tokens_decoder().items():
        length_V[number] = 0 if added.special else len(added.content.encode())
    return length_V


def end_of_text(spec: CorpusSpec, tokenizer: Tokenizer) -> int:
    """The id of the token that ends a document."""
    name = spec.tokenizer.end_of_text if isinstance(spec.tokenizer, ExistingTokenizer) else END_OF_TEXT
    number = tokenizer.token_to_id(name)
    if number is None:
        raise UserError(f"the tokenizer has no token {name!r}", where="corpus.tokenizer.end_of_text")
    return number


def _train(wanted: TrainedTokenizer, texts: Iterator[str]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=wanted.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # all 256 bytes, seen or not: nothing is unknown
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _sample(spec: CorpusSpec, documents_dir: Path, domain: str, wanted: TrainedTokenizer) -> Iterator[str]:
    path = documents_dir / f"{domain}.parquet"
    total = sum(len(text.encode()) for text in read_documents(path, "train"))
    share = wanted.train_megabytes * 1e6 / max(total, 1)
    for text in read_documents(path, "train"):
        if unit(fingerprint(text), f"tokenizer:{spec.split_seed}") < share:
            yield text


def _existing(existing: ExistingTokenizer) -> Tokenizer:
    from tokenizers import Tokenizer

    where = "corpus.tokenizer"
    existing.check(where)
    if local := existing.files():
        tokenizer = load_tokenizer(local[0])
        existing.check(where)
    else:
        try:
            tokenizer = Tokenizer.from_pretrained(existing.name)
        except Exception as error:  # bare Exception again; no network, no such name
            raise UserError(
                f"no tokenizer {existing.name!r} on disk, and the hub did not give it: {error}",
                where="corpus.tokenizer.name",
                fix="give the path of a tokenizer.json",
            ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _require_byte_level(tokenizer)
    return tokenizer


def _require_byte_level(tokenizer: Tokenizer) -> None:
    if '"type":"ByteLevel"' not in json.dumps(json.loads(tokenizer.to_str())["decoder"], separators=(",", ":")):
        raise UserError(
            "the tokenizer is not byte-level, so bits per byte would be a guess",
            where="corpus.tokenizer",
            fix="use a byte-level BPE (GPT-2, GPT-NeoX, Llama 3), or train one",
        )
