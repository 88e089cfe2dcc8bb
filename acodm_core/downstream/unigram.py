"""The unigram model of a corpus: what a text costs a reader who knows how frequent tokens are and nothing else.

Bits per byte of a benchmark's texts depend on their vocabulary before they depend on the model; beside the unigram model's they
say what the model adds. Every domain has the same weight: the yardstick must be one for all methods, favour none of them,
and not move with the size that a domain happens to have in the corpus (natural counts would be the natural mixture's own).
"""

from __future__ import annotations

import numpy as np

from acodm_core.data.corpus import Corpus

_COUNTED_AT_ONCE = 1 << 22  # tokens


def unigram_nats(corpus: Corpus) -> np.ndarray:
    """(V,) minus log probability of each token under the uniform mixture of the domains' train splits, nats.

    One is added to every count, so that no token is impossible.
    """
    probability_V = np.zeros(corpus.vocab_size)
    for domain in corpus.domains:
        tokens = corpus.tokens("train", domain)
        count_V = np.ones(corpus.vocab_size)
        for start in range(0, len(tokens), _COUNTED_AT_ONCE):
            count_V += np.bincount(tokens[start : start + _COUNTED_AT_ONCE], minlength=corpus.vocab_size)
        probability_V += count_V / count_V.sum() / len(corpus.domains)
    return -np.log(probability_V)
