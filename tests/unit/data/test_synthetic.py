"""The artificial languages against their declared tables, and the domains made of them."""

from __future__ import annotations

import hashlib
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acodm_core.data.build import build_corpus
from acodm_core.data.catalogue import CorpusSpec, catalogue_entry
from acodm_core.data.sources.specs import Language, SyntheticDomain
from acodm_core.data.sources.synthetic import documents, entropy_nats, ignorance_nats, transitions, words
from acodm_core.data.tokens.documents import SPLITS, read_documents
from acodm_core.data.tokens.tokenizer import load_tokenizer
from acodm_core.study.config import load_experiment

ROOT = Path(__file__).parents[3]
WORKLOAD = ["easy", "medium", "hard", "noisy", "blend", "twin", "rival", "noise"]

languages = st.builds(
    Language,
    name=st.sampled_from(["a", "ab", "k"]),
    words=st.integers(6, 20),
    order=st.integers(1, 2),
    successors=st.integers(1, 3),
    noise=st.sampled_from([0.0, 0.25, 1.0]),
    dialect=st.integers(0, 1),
)


def entry(name: str) -> SyntheticDomain:
    found = catalogue_entry(name)
    assert isinstance(found, SyntheticDomain)
    return found


def chains(language: Language, count: int, seed: int = 0) -> list[list[int]]:
    """Numbers of the words of the first ``count`` documents."""
    number = {word: i for i, word in enumerate(words(language))}
    return [[number[word] for word in text.split()] for text in islice(documents([language], seed, 1e3), count)]


def counted(language: Language, count: int) -> np.ndarray:
    """How often each word followed each context: (contexts, words)."""
    seen = np.zeros_like(transitions(language))
    for chain in chains(language, count):
        for i in range(language.order, len(chain)):
            context = 0
            for word in chain[i - language.order : i]:
                context = context * language.words + word
            seen[context, chain[i]] += 1
    return seen


@given(languages)
@settings(max_examples=40, deadline=None)
def test_a_table_has_rows_of_one_entropy_and_makes_all_words_equally_frequent(language: Language) -> None:
    rows = transitions(language)
    np.testing.assert_allclose(rows.sum(1), 1)
    entropies = -(rows * np.log(np.where(rows > 0, rows, 1))).sum(1)
    np.testing.assert_allclose(entropies, entropy_nats(language))
    groups = rows.reshape(language.words, -1, language.words)  # contexts that differ in their first word alone
    np.testing.assert_allclose(groups.sum(0), 1)  # so that the uniform distribution over contexts is stationary
    assert entropy_nats(language) <= ignorance_nats(language) + 1e-12


@pytest.mark.parametrize(
    "language",
    [
        Language(name="a", words=8),
        Language(name="a", words=8, noise=0.3, dialect=1),
        Language(name="a", words=5, order=2, successors=2, noise=0.2),
    ],
)
def test_documents_follow_the_declared_table(language: Language) -> None:
    seen, expected = counted(language, 300), transitions(language)
    assert seen[expected == 0].sum() == 0
    total = seen.sum(1, keepdims=True)
    error = np.sqrt(np.maximum(expected * (1 - expected) / total, 1e-12))
    assert np.abs((seen / total - expected) / error).max() < 5
    measured = -(seen * np.log(np.where(seen > 0, expected, 1))).sum() / seen.sum()
    assert measured == pytest.approx(entropy_nats(language), abs=0.02)


def test_noise_leaves_nothing_to_learn() -> None:
    language = Language(name="x", words=10, noise=1)
    assert entropy_nats(language) == pytest.approx(ignorance_nats(language)) == pytest.approx(np.log(10))


def test_two_dialects_share_all_words_and_contradict_in_every_context() -> None:
    one, other = Language(name="a", words=12, order=2), Language(name="a", words=12, order=2, dialect=1)
    assert words(one) == words(other)
    assert not np.any((transitions(one) > 0) & (transitions(other) > 0))


def test_languages_of_different_names_share_no_word() -> None:
    found = [set(words(Language(name=name, words=100))) for name in ("a", "b", "ab", "ba", "bab")]
    assert all(len(one) == 100 for one in found)
    assert not any(one & other for one, other in combinations(found, 2))


def test_overlap_is_the_share_of_documents_in_the_others_language() -> None:
    shared, own = Language(name="a", words=8, share=0.3), Language(name="b", words=8, share=0.7)
    first = [text.split()[0][0] for text in islice(documents([shared, own], 0, 1e3), 2000)]
    assert first.count("a") / 2000 == pytest.approx(0.3, abs=0.04)


@given(st.integers(0, 2**31), st.floats(0.001, 0.02), st.floats(0.001, 0.02))
@settings(max_examples=15, deadline=None)
def test_asking_for_more_text_appends_and_changes_nothing_before_it(seed: int, one: float, other: float) -> None:
    language = Language(name="a", words=8)
    few, many = (list(documents([language], seed, size)) for size in sorted([one, other]))
    assert many[: len(few)] == few
    assert sum(len(text) for text in few[:-1]) < min(one, other) * 1e6 <= sum(len(text) for text in few)


def test_text_of_a_seed_never_changes() -> None:
    """Results are compared between machines and months; a change needs a new RECIPE (catalogue.py)."""
    text = "".join(documents(entry("blend").languages, seed=3, megabytes=0.02))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "775dae9054c3e937"


@pytest.mark.parametrize("wrong", [{"dialect": 2}, {"successors": 9}, {"words": 101}, {"name": "A"}, {"order": 0}])
def test_a_language_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Language.model_validate({"name": "a", "words": 8} | wrong)


def test_the_shipped_domains_are_related_as_their_titles_say() -> None:
    easy, twin, medium, rival, blend = (entry(name) for name in ("easy", "twin", "medium", "rival", "blend"))
    assert twin.languages == easy.languages and twin.seed != easy.seed
    assert rival.languages == [medium.languages[0].model_copy(update={"dialect": 1})]
    assert medium.languages[0] in blend.languages
    assert entry("noise").languages[0].noise == 1
    alone = [entry(name).languages[0].name for name in ("easy", "medium", "hard", "noisy", "noise")]
    assert len(set(alone)) == len(alone)


def test_the_preset_compares_by_the_domains_worth_learning() -> None:
    experiment = load_experiment(ROOT / "workflow" / "config" / "synthetic.yaml")
    assert list(experiment.corpus.domains) == WORKLOAD
    assert set(WORKLOAD) - set(experiment.evaluation.objective_weights) == {"twin", "rival", "noise"}
    weights = experiment.methods["oracle"].options["weights"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-3)
    assert weights["rival"] == weights["noise"] == 0


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = CorpusSpec(name="s", domains=WORKLOAD, tokenizer={"vocab_size": 512}, max_megabytes=0.1)
    return build_corpus(spec, tmp_path_factory.mktemp("data"))


def test_every_word_is_one_token(small_corpus: Path) -> None:
    tokenizer = load_tokenizer(small_corpus / "tokenizer.json")
    vocabulary = {word for name in WORKLOAD for language in entry(name).languages for word in words(language)}
    assert [word for word in vocabulary if len(tokenizer.encode(f" {word}").ids) != 1] == []


def test_no_document_is_met_twice_in_splits_or_twins(small_corpus: Path) -> None:
    paths = [small_corpus / "documents" / f"{name}.parquet" for name in ("easy", "twin")]
    texts = [text for path in paths for split in SPLITS for text in read_documents(path, split)]
    assert len(texts) == len(set(texts)) > 100
