"""The sampler on a real corpus: what it draws depends on the seed, the domain and how much was drawn, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from acodm_core.data.sampler import Batch, Sampler
from acodm_core.errors import UserError

BATCH, CONTEXT = 8, 16


def sampler(corpus, **changes: object) -> Sampler:
    return Sampler(corpus, **(dict(seed=3, batch=BATCH, context=CONTEXT) | changes))


class Part:
    """A corpus of some of another's domains, in another order."""

    def __init__(self, corpus, domains: tuple[str, ...]) -> None:
        self.domains, self.tokens = domains, corpus.tokens


def rows_of(sampler: Sampler, batch: Batch, domain: str) -> np.ndarray:
    k = sampler.domains.index(domain)
    ends = np.cumsum(batch.counts_K)
    return batch.tokens_BS[ends[k] - batch.counts_K[k] : ends[k]]


def only(sampler: Sampler, domain: str) -> np.ndarray:
    return np.array([1.0 if name == domain else 0.0 for name in sampler.domains])


def windows(corpus, domain: str) -> np.ndarray:
    tokens = corpus.tokens("train", domain)
    count = (len(tokens) - 1) // CONTEXT
    return np.stack([tokens[i * CONTEXT : (i + 1) * CONTEXT + 1] for i in range(count)]).astype(np.int64)


def draw(sampler: Sampler, domain: str, count: int) -> np.ndarray:
    """The next ``count`` sequences of one domain."""
    rows = [sampler.next(only(sampler, domain), step).tokens_BS for step in range(-(-count // sampler.batch))]
    return np.concatenate(rows)[:count]


def test_batch_is_contiguous_by_domain_and_inside_it(corpus) -> None:
    one = sampler(corpus)
    batch = one.next(np.full(4, 0.25), 0)
    assert batch.tokens_BS.shape == (BATCH, CONTEXT + 1) and batch.tokens_BS.dtype == np.int64
    assert batch.counts_K.sum() == BATCH
    for domain in corpus.domains:
        known = {row.tobytes() for row in windows(corpus, domain)}
        assert all(row.tobytes() in known for row in rows_of(one, batch, domain)), "not a window of its domain"


@pytest.mark.parametrize("domain", ["noise", "brackets"])
def test_an_epoch_visits_every_window_once_and_the_next_in_another_order(corpus, domain: str) -> None:
    one = sampler(corpus)
    whole = windows(corpus, domain)
    count = len(whole)
    assert count > 20
    drawn = draw(one, domain, 2 * count)
    epochs = drawn[:count], drawn[count : 2 * count]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch.view("V136").ravel()), np.sort(whole.view("V136").ravel()))
    assert not np.array_equal(*epochs)
    assert not np.array_equal(epochs[0], whole), "the order is shuffled"
    first = [int(np.flatnonzero((whole == row).all(1))[0]) for row in epochs[0]]
    assert abs(np.corrcoef(first, np.arange(count))[0, 1]) < 0.5


def test_order_of_a_domain_does_not_depend_on_the_others_or_on_the_mixture(corpus) -> None:
    """Two runs with other mixtures, domains and batches read the same sequences of a domain in the same order."""
    rng = np.random.default_rng(0)
    expected = draw(sampler(corpus), "words", 60)
    variants = [
        sampler(corpus, batch=5),
        sampler(Part(corpus, ("words",))),
        sampler(Part(corpus, ("noise", "words", "counting"))),
        sampler(Part(corpus, tuple(reversed(corpus.domains))), draw="multinomial"),
    ]
    for variant in variants:
        seen, step = [], 0
        while sum(map(len, seen)) < 60:
            batch = variant.next(rng.dirichlet(np.ones(len(variant.domains))), step)
            seen.append(rows_of(variant, batch, "words"))
            step += 1
        np.testing.assert_array_equal(np.concatenate(seen)[:60], expected)


def test_order_depends_on_the_seed(corpus) -> None:
    one, other = (draw(sampler(corpus, seed=seed), "words", 40) for seed in (3, 4))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(draw(sampler(corpus), "words", 40), one)


def test_domains_with_the_same_text_have_their_own_order(corpus) -> None:
    class Twins:
        domains = ("one", "other")

        @staticmethod
        def tokens(split: str, name: str) -> np.ndarray:
            return corpus.tokens(split, "words")

    twins = Sampler(Twins, seed=3, batch=BATCH, context=CONTEXT)
    assert not np.array_equal(
        draw(twins, "one", 40), draw(Sampler(Twins, seed=3, batch=BATCH, context=CONTEXT), "other", 40)
    )


@pytest.mark.parametrize("kind", ["systematic", "multinomial"])
def test_restoring_the_counters_continues_identically(corpus, kind: str) -> None:
    mixture_TK = np.random.default_rng(1).dirichlet(np.ones(4), 40)
    whole = sampler(corpus, draw=kind)
    batches = []
    for step in range(40):
        if step == 17:
            saved = whole.drawn_K.copy()
        batches.append(whole.next(mixture_TK[step], step))
    resumed = sampler(corpus, draw=kind)
    resumed.drawn_K[:] = saved
    for step in range(17, 40):
        batch = resumed.next(mixture_TK[step], step)
        np.testing.assert_array_equal(batch.tokens_BS, batches[step].tokens_BS)
        np.testing.assert_array_equal(batch.counts_K, batches[step].counts_K)
    np.testing.assert_array_equal(resumed.drawn_K, whole.drawn_K)
    np.testing.assert_array_equal(whole.drawn_K, np.sum([b.counts_K for b in batches], axis=0))


@pytest.mark.parametrize("kind", ["systematic", "multinomial"])
def test_counts_meet_the_shares_on_average(corpus, kind: str) -> None:
    mixture_K = np.array([0.61, 0.3, 0.08, 0.01])
    one = sampler(corpus, draw=kind)
    counts_TK = np.array([one.sequence_counts(mixture_K, step) for step in range(3000)])
    assert (counts_TK.sum(1) == BATCH).all() and (one.drawn_K == 0).all()
    deviation_K = np.sqrt(BATCH * mixture_K * (1 - mixture_K) / 3000)
    assert (np.abs(counts_TK.mean(0) - BATCH * mixture_K) < 4 * deviation_K).all()
    assert counts_TK[:, 3].max() >= 1, "a rare domain is drawn now and then"


def test_systematic_counts_vary_less_than_multinomial_ones(corpus) -> None:
    mixture_K = np.array([0.4, 0.3, 0.2, 0.1])
    deviations = {}
    for kind in ("systematic", "multinomial"):
        one = sampler(corpus, draw=kind)
        deviations[kind] = np.std([one.sequence_counts(mixture_K, step) for step in range(400)], axis=0)
    assert (deviations["systematic"] < 0.6 * deviations["multinomial"]).all()


def test_steps_draw_independently_of_each_other(corpus) -> None:
    """The draw of a step is a function of seed and step: a resume may ask for it again."""
    mixture_K = np.array([0.28, 0.22, 0.26, 0.24])
    one = sampler(corpus)
    forward = [one.sequence_counts(mixture_K, step) for step in range(50)]
    backward = [one.sequence_counts(mixture_K, step) for step in reversed(range(50))]
    np.testing.assert_array_equal(forward, backward[::-1])
    one.next(mixture_K, 0)
    again = [one.sequence_counts(mixture_K, step) for step in range(50)]
    np.testing.assert_array_equal(again, forward, "what was drawn before does not matter")
    assert len({tuple(counts) for counts in forward}) > 1


def test_domain_shorter_than_the_context_is_refused(corpus) -> None:
    with pytest.raises(UserError, match=r"'noise'|'brackets'|'words'|'counting'"):
        sampler(corpus, context=10**6)
