"""From a mixture to the sequences of one optimiser step: stateless but for one counter per domain.

The order of a domain's sequences depends on the seed, the domain's name and the epoch; the draw of a step on the seed and the
step. So two methods with the same seed differ only in what they decide, and a resumed run needs K integers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from acodm_core.data.corpus import Corpus
from acodm_core.errors import UserError
from acodm_core.streams import DRAWS, stream


@dataclass(frozen=True)
class Batch:
    """Sequences of one optimiser step, those of a domain contiguous, domains in order."""

    tokens_BS: np.ndarray  # (B, context + 1) int64
    counts_K: np.ndarray  # (K,) sequences of each domain; their sum is B


class Sampler:
    """Draws the batches of a run from the training split of ``corpus``.

    Args:
        context: tokens per sequence; one more is read, which the last one predicts.
        draw: ``systematic`` (each domain within one of batch * share, unbiased) or ``multinomial``.
    """

    def __init__(self, corpus: Corpus, *, seed: int, batch: int, context: int, draw: str = "systematic") -> None:
        self.seed, self.batch, self.context, self.draw = seed, batch, context, draw
        self.domains = corpus.domains
        self._tokens = [corpus.tokens("train", name) for name in corpus.domains]
        self.windows_K = np.array([(len(t) - 1) // context for t in self._tokens])
        for name, windows, tokens in zip(corpus.domains, self.windows_K, self._tokens, strict=True):
            if windows < 1:
                raise UserError(f"domain {name!r} has {len(tokens)} training tokens, under one context of {context}")
        self.drawn_K = np.zeros(len(self.domains), dtype=np.int64)  # sequences drawn so far; the whole state
        self._keys = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) for name in corpus.domains]

    def sequence_counts(self, mixture_K: np.ndarray, step: int) -> np.ndarray:
        """(K,) sequences to draw at ``step`` for the shares asked for. Does not change state."""
        return sequence_counts(mixture_K, self.batch, seed=self.seed, step=step, draw=self.draw)

    def next(self, mixture_K: np.ndarray, step: int) -> Batch:
        """The batch of ``step`` and advance."""
        counts_K = self.sequence_counts(mixture_K, step)
        rows = [self._window(k, self.drawn_K[k] + i) for k, count in enumerate(counts_K) for i in range(count)]
        self.drawn_K += counts_K
        return Batch(np.stack(rows).astype(np.int64), counts_K)

    def _window(self, k: int, index: int) -> np.ndarray:
        epoch, position = divmod(int(index), int(self.windows_K[k]))
        key = np.random.SeedSequence([self.seed, epoch, self._keys[k]]).generate_state(4, np.uint32)
        start = permute(position, int(self.windows_K[k]), key) * self.context
        return self._tokens[k][start : start + self.context + 1]


def sequence_counts(mixture_K: np.ndarray, batch: int, *, seed: int, step: int, draw: str = "systematic") -> np.ndarray:
    """(K,) sequences of each domain in a batch that is drawn by ``mixture_K``; as ``Sampler`` draws them."""
    rng = stream(seed, step, DRAWS)
    if draw == "multinomial":
        return rng.multinomial(batch, mixture_K)
    edges = np.minimum(np.floor(np.cumsum(mixture_K) * batch + rng.random()), batch)
    edges[-1] = batch  # the shares sum to one, but not to the last bit
    return np.diff(edges, prepend=0.0).astype(np.int64)


def permute(index: int, size: int, key: np.ndarray) -> int:
    """Image of ``index`` under a pseudo-random permutation of range(size), in constant memory.

    A four-round Feistel network over the next power of four, walked until it lands inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002).
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for word in key:
            # Multiply-xorshift of the half and the round key: all that is needed is a well-mixed function of both.
            mixed = ((right + int(word)) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
            mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
            left, right = right, left ^ ((mixed >> 32) & mask)
        index = (left << half) | right
        if index < size:
            return index
