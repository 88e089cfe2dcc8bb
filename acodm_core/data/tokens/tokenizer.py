"""The corpus's tokenizer: a byte-level BPE learnt from its own train split, or an existing one.

Byte-level means that a token is a string of bytes and a document is exactly the bytes of its tokens. That is what lets
a loss in nats per token become bits per byte without approximation, and compare between vocabularies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.sources.specs import ExistingTokenizer, TrainedTokenizer
from acodm_core.data.tokens.documents import Progress, clean, read_documents
from acodm_core.data.tokens.hashing import fingerprint, unit
from acodm_core.errors import UserError
from acodm_core.seals import marked

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
_TRIED_DOCUMENTS, _TRIED_CHARACTERS = 200, 10_000  # of each domain, before an existing tokenizer is taken
_MOST = 4  # times its share of bytes a domain with long documents may give


LONGEST_WORD = 1000  # characters of one kind without a break; a longer run is learnt from in pieces
_PROBE = clean(
    "The Quick BROWN fox\n\n\tcaf\u00e9 \u00c5ngstr\u00f6m \ufb01 \uff21 \u4f60\u597d \U0001f600  2\u00b3 = 8\u2026 it\u2019s <s>"
)


def train_tokenizer(spec: CorpusSpec, documents_dir: Path, out_path: Path, progress: Progress | None = None) -> Path:
    """Write the corpus's ``tokenizer.json``: trained on ``documents_dir/<domain>.parquet``, or the existing one copied.

    Every domain gives about the same number of bytes (``tokenizer.train_megabytes``, or all its train split if less):
    else a large domain would own the vocabulary and make every other look hard. Which documents it gives is decided by
    hashes of their text. The same documents give the same file. An existing one has to give back a sample of every domain.

    Args:
        progress: called with the bytes that have been read to learn from.

    Raises:
        UserError: the existing tokenizer is not found, not byte-level, or changes text.
    """
    match spec.tokenizer:
        case ExistingTokenizer() as existing:
            tokenizer = _existing(existing)
            _require_round_trip(tokenizer, spec, documents_dir)
        case TrainedTokenizer() as wanted:
            texts = (text for name in spec.domains for text in _sample(spec, documents_dir, name, wanted))
            tokenizer = _train(wanted, _counted(texts, progress))
    with marked(out_path) as temporary:
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

    The sum over a document's tokens is the length of its UTF-8.

    Raises:
        UserError: the tokenizer is not byte-level.
    """
    return np.array([len(spelling) for spelling in spellings(tokenizer)], np.int64)


def spellings(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes that each token stands for, V of them; none for special tokens and unused ids.

    Raises:
        UserError: the tokenizer is not byte-level.
    """
    _require_byte_level(tokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    spelt = [b""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        try:
            spelt[number] = bytes(_BYTE_OF[character] for character in token)
        except KeyError:  # not of the alphabet of bytes: it is spelt as it is
            spelt[number] = token.encode()
    for number, added in tokenizer.get_added_tokens_decoder().items():
        spelt[number] = b"" if added.special else added.content.encode()
    return spelt


def end_of_text(spec: CorpusSpec, tokenizer: Tokenizer) -> int:
    """The id of the token that ends a document."""
    name = spec.tokenizer.end_of_text if isinstance(spec.tokenizer, ExistingTokenizer) else END_OF_TEXT
    number = tokenizer.token_to_id(name)
    if number is None:
        raise UserError(f"the tokenizer has no token {name!r}", where="corpus.tokenizer.end_of_text")
    return number


def _train(wanted: TrainedTokenizer, texts: Iterator[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # Merging takes the square of a word's length: pieces of what has no end (DNA, base64, a ruler) teach as much.
    run = "|".join(f"{kind}{{{LONGEST_WORD}}}" for kind in (r"\p{L}", r"\p{N}", r"\s", r"[^\s\p{L}\p{N}]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(run), "isolated"), words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=wanted.vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # all 256 bytes, seen or not: nothing is unknown
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = words
    return tokenizer


def _counted(texts: Iterator[str], progress: Progress | None) -> Iterator[str]:
    read = 0
    for text in texts:
        yield text
        read += len(text.encode())
        if progress:
            progress(read)


def _sample(spec: CorpusSpec, documents_dir: Path, domain: str, wanted: TrainedTokenizer) -> Iterator[str]:
    path = documents_dir / f"{domain}.parquet"
    total = sum(len(text.encode()) for text in read_documents(path, "train"))
    share = wanted.train_megabytes * 1e6 / max(total, 1)
    room = int(_MOST * wanted.train_megabytes * 1e6)
    for text in read_documents(path, "train"):
        if room > 0 and unit(fingerprint(text), f"tokenizer:{spec.split_seed}") < share:
            yield text[:room]
            room -= len(text)


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
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _require_byte_level(tokenizer)
    return tokenizer


def _require_round_trip(tokenizer: Tokenizer, spec: CorpusSpec, documents_dir: Path) -> None:
    """Refuse a tokenizer that does not give back what it has encoded: of a line of every sort, and of each domain's documents."""
    tried = [("corpus.tokenizer", iter([_PROBE]))]
    for domain in spec.unsharded:
        texts = read_documents(documents_dir / f"{domain}.parquet", "train")
        tried.append((f"corpus.domains.{domain}", islice(texts, _TRIED_DOCUMENTS)))
    spelt = spellings(tokenizer)
    for where, texts in tried:
        for text in texts:
            raw = text[:_TRIED_CHARACTERS].encode()
            ids = tokenizer.encode(raw.decode(), add_special_tokens=False).ids
            if (back := b"".join(spelt[number] for number in ids)) != raw:
                raise changed_text(raw, back, where=where)


def changed_text(text: bytes, back: bytes, *, where: str) -> UserError:
    """The error for a tokenizer that gives ``back`` for ``text``: it shows where they part."""
    place = next((i for i, pair in enumerate(zip(text, back, strict=False)) if pair[0] != pair[1]), len(text))
    shown, given = (piece[max(0, place - 20) : place + 20].decode(errors="replace") for piece in (text, back))
    return UserError(
        f"the tokenizer changes the text (a normalizer? an added blank?): {given!r} for {shown!r};"
        " it would train on other text than it is measured on",
        where=where,
        fix="use a tokenizer without a normalizer and without `add_prefix_space` in `corpus.tokenizer.name`, or train one",
    )


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokenizers write the bytes: printable ones themselves, the others from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _require_byte_level(tokenizer: Tokenizer) -> None:
    if '"type":"ByteLevel"' not in json.dumps(json.loads(tokenizer.to_str())["decoder"], separators=(",", ":")):
        raise UserError(
            "the tokenizer is not byte-level, so bits per byte would be a guess",
            where="corpus.tokenizer",
            fix="use a byte-level BPE (GPT-2, GPT-NeoX, Llama 3), or train one",
        )
