"""Scores with their standard errors, the unigram yardstick, and contamination."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acodm_core.data.tokens.documents import read_documents
from acodm_core.downstream import contamination, scores
from acodm_core.downstream.contamination import RUN, Question, words
from acodm_core.downstream.unigram import unigram_nats


def resampled(score, *columns: np.ndarray) -> float:
    """The standard deviation of a score over 2000 bootstrap samples of the questions."""
    rng = np.random.default_rng(3)
    n = len(columns[0])
    draws = [rng.integers(0, n, n) for _ in range(2000)]
    return float(np.std([score(*(column[i] for column in columns))["value"] for i in draws]))


def test_standard_errors_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    bytes_N = rng.integers(3, 60, 400)
    bits_N = bytes_N * rng.gamma(4, 0.5, 400) + rng.gamma(2, 3, 400)
    gold_N = rng.integers(0, 4, 400)
    chosen_N = np.where(rng.random(400) < 0.3, gold_N, rng.choice(4, 400, p=[0.7, 0.1, 0.1, 0.1]))
    for score, columns in (
        (lambda value_N: scores.mean("x", value_N), (bits_N,)),
        (lambda over_N, under_N: scores.ratio("x", over_N, under_N), (bits_N, bytes_N)),
        (lambda g_N, c_N: scores.above_letters(g_N, c_N, 4), (gold_N, chosen_N)),
    ):
        assert score(*columns)["standard_error"] == pytest.approx(resampled(score, *columns), rel=0.08)
    assert scores.ratio("x", bits_N, bytes_N)["value"] == pytest.approx(bits_N.sum() / bytes_N.sum())


def test_choosing_letters_without_reading_earns_nothing_above_letters() -> None:
    gold_N = np.repeat(np.arange(4), [3222, 3462, 3582, 3776])  # as often as they are right in MMLU
    for letter in range(4):
        always = scores.above_letters(gold_N, np.full(14042, letter), 4)
        assert always["value"] == pytest.approx(0, abs=1e-12)
        assert always["standard_error"] == 0 and scores.is_chance(always)
    right = scores.above_letters(gold_N, gold_N, 4)
    assert right["value"] == pytest.approx(1 - sum(((gold_N == k).mean()) ** 2 for k in range(4)))


def test_a_score_is_at_chance_when_its_interval_holds_it() -> None:
    near = {"value": 0.257, "standard_error": 0.004, "chance": 0.25}
    assert scores.is_chance(near) is True and scores.is_chance(near | {"value": 0.259}) is False
    assert scores.is_chance(near | {"chance": math.nan}) is None
    assert scores.detectable_difference(0.00365) == pytest.approx(0.01446, abs=2e-5)  # (1.95996 + 0.84162) sqrt(2) s.e.


def test_the_unigram_model_is_the_uniform_mixture_of_the_domains_counts(corpus) -> None:
    nats_V = unigram_nats(corpus)
    assert np.exp(-nats_V).sum() == pytest.approx(1)
    token = int(corpus.tokens("train", "words")[5])
    share = [
        (np.sum(np.asarray(corpus.tokens("train", d)) == token) + 1)
        / (len(corpus.tokens("train", d)) + corpus.vocab_size)
        for d in corpus.domains
    ]
    assert nats_V[token] == pytest.approx(-math.log(np.mean(share)))
    assert nats_V.max() < math.inf


@pytest.fixture(scope="module")
def planted(corpus) -> list[Question]:
    """Questions that share 13 words, 12 words, 13 words across an edge, or nothing with the training text."""
    first, second = list(read_documents(corpus.folder / "documents" / "words.parquet", "train"))[:2]
    one, two = words(first), words(second)
    assert len(one) >= 15
    return [
        Question("mine", "thirteen", ("unlike", "So: " + ", ".join(one[1:14]).upper() + "! And more")),
        Question("mine", "twelve", ("Is " + " ".join(one[1:13]) + " it?",)),
        Question("mine", "edge", (" ".join(one[-7:] + two[:6]),)),
        Question("mine", "short", ("too few words to tell", "none")),
        Question("other", "two pieces", (" ".join(one[1:8]), " ".join(one[8:14]))),
    ]


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not(corpus, planted, tmp_path) -> None:
    found = contamination.overlaps(planted, corpus)
    assert {domain: list(here) for domain, here in found.items()} == {
        "counting": [],
        "words": [0],
        "brackets": [],
        "noise": [],
    }
    summary = contamination.report(planted, found, corpus, tmp_path, source="here")
    mine = summary["benchmarks"]["mine"]
    assert (mine["questions"], mine["too_short"], mine["met"], mine["domains"]["words"]) == (4, 1, 1, 1)
    assert summary["benchmarks"]["other"]["met"] == 0
    (row,) = pd.read_parquet(tmp_path / "contamination.parquet").to_dict("records")
    assert row["question"] == "thirteen" and row["documents"] == 1 and row["runs"] == 1
    assert row["example"] == " ".join(words(planted[0].pieces[1])[1:14])


text = st.lists(st.sampled_from(["a", "b", "é", "x1", "The"]), max_size=40).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(text, min_size=1, max_size=4), documents=st.lists(text, min_size=1, max_size=4))
def test_the_search_agrees_with_sets_of_words(pieces: list[str], documents: list[str]) -> None:
    def runs(text: str) -> set[str]:
        w = words(text)
        return {" ".join(w[i : i + RUN]) for i in range(len(w) - RUN + 1)}

    questions = [Question("q", str(i), (piece,)) for i, piece in enumerate(pieces)]
    found = contamination._Index(questions).search(documents)
    for document, met in zip(documents, found, strict=True):
        shared = {i: runs(piece) & runs(document) for i, piece in enumerate(pieces)}
        assert {i: set(met_runs) for i, met_runs in met.items()} == {i: both for i, both in shared.items() if both}
