"""Domains whose best mixture can be known: text of artificial languages, each a Markov chain over a few words.

A language's next word depends on its last ``order`` words, the context. With probability ``noise`` it is any word of the
language; otherwise it is one of the context's own ``successors``, by a Zipf law. Languages of different names share no
word, so they meet in a model only in its capacity; two dialects of one language share all words and contexts and no
successor, so what is right in one is wrong in the other. A domain is a mixture of languages, document by document: that makes
overlap a number, and lets a duplicate be the same languages under another seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from acodm_core.data.sources.specs import Language

WORDS_PER_DOCUMENT = 200
_CONSONANTS, _VOWELS = "bdfghjklmnprstvwxyzc", "aeiou"  # a word is its language's name and one of 100 syllables


def documents(languages: Sequence[Language], seed: int, megabytes: float) -> Iterator[str]:
    """Yield documents of ``WORDS_PER_DOCUMENT`` words, until they hold ``megabytes`` (10^6 bytes).

    Document ``i`` depends on ``(seed, i)`` alone: asking for more appends and changes nothing before it. Every word, the
    first included, follows a blank: a byte-level tokenizer can then make each word one token.
    """
    edges = np.cumsum([language.share for language in languages])
    size = number = 0
    while size < megabytes * 1e6:
        rng = np.random.default_rng([seed, number])
        language = languages[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]
        vocabulary = words(language)
        document = "".join(f" {vocabulary[i]}" for i in _chain(language, rng))
        size += len(document.encode())
        number += 1
        yield document


def words(language: Language) -> list[str]:
    """The words of a language; no two languages of different names share one."""
    return [f"{language.name}{_CONSONANTS[i // 5]}{_VOWELS[i % 5]}" for i in range(language.words)]


def transitions(language: Language) -> np.ndarray:
    """Probability of each next word after each context: (words ** order, words), rows sum to one.

    The number of a context is that of its words as digits in base ``words``, the latest word last.
    """
    rows = np.full((language.words**language.order, language.words), language.noise / language.words)
    np.put_along_axis(
        rows, _successors(language), (1 - language.noise) * _zipf(language) + language.noise / language.words, axis=1
    )
    return rows


def entropy_nats(language: Language) -> float:
    """Entropy rate, nats per word: the loss of a model that knows the language. All contexts have the same entropy."""
    row = transitions(language)[0]
    row = row[row > 0]
    return float(-(row * np.log(row)).sum())


def ignorance_nats(language: Language) -> float:
    """Loss of a model that knows the words and no context, nats per word: all words are equally frequent."""
    return math.log(language.words)


def _zipf(language: Language) -> np.ndarray:
    weight = 1 / np.arange(1, language.successors + 1)
    return weight / weight.sum()


@cache
def _successors(language: Language) -> np.ndarray:
    """(contexts, successors) numbers of the words that may follow each context, the likeliest first.

    Row c is ``start[c] + offset``, and contexts that differ in their first word alone start at different words: each word
    follows each such group equally often, so that all words and contexts are equally frequent. The table belongs to the
    language's name, words and order; a dialect takes the next few offsets.
    """
    rng = np.random.default_rng([*language.name.encode(), language.words, language.order])
    start = rng.random((language.words, language.words ** (language.order - 1))).argsort(axis=0).reshape(-1, 1)
    offset = rng.random(language.words).argsort()
    first = language.dialect * language.successors
    return (start + offset[first : first + language.successors]) % language.words


def _chain(language: Language, rng: np.random.Generator) -> list[int]:
    """Numbers of the words of one document; the context before its first word is random."""
    count, total = WORDS_PER_DOCUMENT, language.words**language.order
    successors = _successors(language)
    context = int(rng.random() * total)
    pick = np.searchsorted(_zipf(language).cumsum()[:-1], rng.random(count), side="right").tolist()
    noisy = (rng.random(count) < language.noise).tolist()
    anything = (rng.random(count) * language.words).astype(int).tolist()
    chain = []
    for i in range(count):
        word = anything[i] if noisy[i] else int(successors[context, pick[i]])
        context = (context * language.words + word) % total
        chain.append(word)
    return chain
