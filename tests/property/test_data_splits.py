"""Laws of the split and of the tokenizer, for any documents."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from acodm_core.data.sources.specs import TrainedTokenizer
from acodm_core.data.tokens.documents import Document, choose, clean, split_documents
from acodm_core.data.tokens.hashing import fingerprint, unit
from acodm_core.data.tokens.tokenizer import _train, token_bytes

documents = st.lists(
    st.builds(Document, st.binary(min_size=16, max_size=16), st.integers(32, 10**6)),
    unique_by=lambda d: d.key,
    max_size=60,
)
fractions = st.floats(0.01, 0.4)


@settings(deadline=None)
@given(documents, fractions, fractions, st.integers(0, 5))
def test_every_document_has_one_split_and_no_split_is_empty(docs, valid, test, seed) -> None:
    splits = split_documents(docs, valid, test, seed)
    if len(docs) < 3:
        assert splits == {}
    else:
        assert splits.keys() == {document.key for document in docs}
        assert set(splits.values()) == {"train", "valid", "test"}


@settings(deadline=None)
@given(documents, fractions, fractions, st.randoms())
def test_order_of_documents_does_not_matter(docs, valid, test, random) -> None:
    shuffled = list(docs)
    random.shuffle(shuffled)
    assert split_documents(shuffled, valid, test, 0) == split_documents(docs, valid, test, 0)
    assert {d.key for d in choose(shuffled, 10**6, 0)} == {d.key for d in choose(docs, 10**6, 0)}


@settings(deadline=None)
@given(documents, documents)
def test_adding_documents_moves_none_where_hashes_alone_decide(docs, more) -> None:
    """With equal sizes and no fallback, a document's split is its own affair."""
    known = {document.key for document in docs}
    before = [Document(document.key, 100) for document in docs]
    after = before + [Document(document.key, 100) for document in more if document.key not in known]

    def by_hash(all_documents):
        splits = split_documents(all_documents, 0.2, 0.2, 0)
        share = {name: sum(s == name for s in splits.values()) / max(len(splits), 1) for name in ("valid", "test")}
        places = {d.key: unit(d.key, "split:0") for d in all_documents}
        pure = {k: "test" if u < 0.2 else "valid" if u < 0.4 else "train" for k, u in places.items()}
        return splits, splits == pure and min(share.values(), default=0) > 0

    (old, old_pure), (new, new_pure) = by_hash(before), by_hash(after)
    if old_pure and new_pure:
        assert old == {key: new[key] for key in old}


@settings(deadline=None)
@given(documents, st.integers(1, 10**7))
def test_cap_is_an_upper_bound(docs, cap) -> None:
    kept = choose(docs, cap, 0)
    assert sum(document.size for document in kept) <= cap
    assert choose(docs, None, 0) == docs


@settings(deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing(text) -> None:
    assert clean(clean(text)) == clean(text)


@cache
def tokenizer() -> Tokenizer:
    tokenizer = _train(TrainedTokenizer(vocab_size=300), iter(["the cat sat on the mat, caf\u00e9 \u4e2d\u6587 " * 30]))
    tokenizer.encode_special_tokens = True
    return tokenizer


@settings(max_examples=200, deadline=None)
@given(st.text() | st.sampled_from(["<|endoftext|>", "a<|endoftext|>b", "", "  \n\t ", "\U0001f600"]))
def test_bytes_of_tokens_are_the_bytes_of_the_text(text) -> None:
    encoding = tokenizer().encode(text)
    assert token_bytes(tokenizer())[encoding.ids].sum() == len(text.encode())
    assert tokenizer().decode(encoding.ids) == text


@settings(deadline=None)
@given(st.text(), st.sampled_from(["split:0", "cap:0", "x"]))
def test_unit_is_in_the_half_open_interval(text, purpose) -> None:
    assert 0 <= unit(fingerprint(text), purpose) < 1
