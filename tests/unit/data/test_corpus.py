"""From documents to a sealed corpus: tokens, manifest, what is refused on opening."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from acodm_core.data.build import build_corpus
from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.corpus import Corpus
from acodm_core.data.programs import app
from acodm_core.data.seal import seal
from acodm_core.data.tokens.documents import SPLITS, read_documents
from acodm_core.data.tokens.token_files import token_dtype, tokenize_domain
from acodm_core.data.tokens.tokenizer import load_tokenizer, token_bytes, train_tokenizer
from acodm_core.errors import UserError
from acodm_core.files import read_json, sealed_json
from acodm_core.seals import marked


def make_spec(folder: Path, **changes: object) -> CorpusSpec:
    texts = {
        "numbers": [f"Item {i} follows item {i - 1} and precedes item {i + 1}." for i in range(200)],
        "letters": ["na\u00efve " * 5 + chr(ord("a") + i % 26) * 30 + f" {i} <|endoftext|>" for i in range(150)],
    }
    for name, lines in texts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    domains = {n: {"from": "files", "paths": [str(folder / f"{n}.jsonl")], "format": "jsonl"} for n in texts}
    return CorpusSpec.model_validate({"name": "small", "domains": domains, "tokenizer": {"vocab_size": 320}} | changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[CorpusSpec, Path]:
    folder = tmp_path_factory.mktemp("corpus")
    spec = make_spec(folder)
    return spec, build_corpus(spec, folder / "data")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A corpus folder that a test may damage."""
    return build_corpus(make_spec(tmp_path), tmp_path / "data")


def test_tokens_spell_the_documents(built: tuple[CorpusSpec, Path]) -> None:
    spec, folder = built
    corpus = Corpus.open(folder)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    for domain in spec.domains:
        for split in SPLITS:
            texts = list(read_documents(folder / "documents" / f"{domain}.parquet", split))
            tokens, offsets = corpus.tokens(split, domain), corpus.offsets(split, domain)
            assert len(offsets) == len(texts) + 1 and offsets[-1] == len(tokens)
            for text, start, stop in zip(texts, offsets, offsets[1:], strict=False):
                assert tokens[stop - 1] == corpus.end_of_text
                assert corpus.end_of_text not in tokens[start : stop - 1], (
                    "text that spells the special token stays text"
                )
                assert tokenizer.decode(tokens[start : stop - 1].tolist()) == text
            record = corpus.record(split, domain)
            assert record.text_bytes == sum(len(text.encode()) for text in texts)
            assert record.documents == len(texts)


def test_attributes(built: tuple[CorpusSpec, Path]) -> None:
    spec, folder = built
    corpus = Corpus.open(folder)
    assert corpus.domains == tuple(spec.domains) == ("numbers", "letters")
    assert corpus.vocab_size == len(corpus.token_bytes) == 320
    assert corpus.train_tokens.dtype == np.int64
    assert corpus.train_tokens.tolist() == [len(corpus.tokens("train", name)) for name in corpus.domains]
    assert corpus.tokens("train", "numbers").dtype == np.uint16
    assert corpus.token_bytes[corpus.end_of_text] == 0
    assert (corpus.token_bytes > 0).sum() == 319
    assert corpus.manifest.spec == spec.pinned()
    assert corpus.tokens("train", "numbers") is corpus.tokens("train", "numbers")
    with pytest.raises(ValueError, match="read-only"):
        corpus.tokens("train", "numbers")[0] = 1


def test_unknown_domain_names_the_nearest(built: tuple[CorpusSpec, Path]) -> None:
    with pytest.raises(UserError, match="did you mean 'letters'"):
        Corpus.open(built[1]).tokens("train", "leters")


def test_built_twice_gives_the_same_bytes(built: tuple[CorpusSpec, Path], tmp_path: Path) -> None:
    spec, first = built
    second = build_corpus(spec, tmp_path)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for path in files:
        assert (first / path).read_bytes() == (second / path).read_bytes(), path


def test_built_again_opens_what_is_there(built: tuple[CorpusSpec, Path]) -> None:
    spec, folder = built
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert build_corpus(spec, folder.parents[1]) == folder
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_card_has_a_row_a_domain(built: tuple[CorpusSpec, Path]) -> None:
    text = (built[1] / "card.md").read_text()
    assert text.count("| numbers |") == text.count("| letters |") == 2
    assert str(Corpus.open(built[1]).record("valid", "letters").tokens) in text


@pytest.mark.parametrize("name", ["tokens/letters/valid.bin", "tokens/letters/valid.idx.npy", "token_bytes.npy"])
def test_cut_or_missing_file_is_named_on_opening(fresh: Path, name: str) -> None:
    path = fresh / name
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match="cut short") as error:
        Corpus.open(fresh)
    assert str(path) == error.value.where
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        Corpus.open(fresh)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tokens/letters/train.bin", lambda corpus: corpus.tokens("train", "letters")),
        ("tokens/letters/valid.bin", lambda corpus: corpus.tokens("valid", "letters")),
        ("tokens/letters/test.idx.npy", lambda corpus: corpus.offsets("test", "letters")),
        ("token_bytes.npy", lambda corpus: corpus.token_bytes),
        ("tokenizer.json", lambda corpus: corpus.tokenizer_path),
    ],
)
def test_a_changed_file_is_refused_where_it_is_read(fresh: Path, name: str, read) -> None:
    path = fresh / name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    corpus = Corpus.open(fresh)
    for look in (read, Corpus.verify):
        with pytest.raises(UserError, match="truncated or changed") as error:
            look(corpus)
        assert error.value.where == str(path)


def test_files_that_changed_places_are_refused(fresh: Path) -> None:
    one, other = (fresh / "tokens" / "letters" / f"{split}.idx.npy" for split in ("valid", "test"))
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match=r"valid\.idx\.npy"):
        Corpus.open(fresh).verify()


def test_a_file_is_hashed_once_in_a_process_and_again_after_a_change(fresh: Path, monkeypatch) -> None:
    from acodm_core import seals

    corpus = Corpus.open(fresh)
    corpus.verify()
    before = seals._checksum.cache_info().misses
    Corpus.open(fresh).verify()
    assert seals._checksum.cache_info().misses == before
    (fresh / "tokenizer.json").touch()
    corpus.verify()
    assert seals._checksum.cache_info().misses == before + 1


def test_unfinished_and_damaged_manifests_are_refused(fresh: Path) -> None:
    manifest = fresh / "manifest.json"
    whole = manifest.read_text()
    for text, says in [
        (whole[:-40], "truncated"),
        (whole.replace('"vocab_size": 320', '"vocab_size": 321'), "damaged or edited"),
        (sealed_json(read_json(manifest) | {"format": 99}), "format 99"),
    ]:
        manifest.write_text(text)
        with pytest.raises(UserError, match=says):
            Corpus.open(fresh)
    manifest.unlink()
    with pytest.raises(UserError, match="not finished"):
        Corpus.open(fresh)


def test_seal_refuses_tokens_that_are_not_as_they_were_written(fresh: Path) -> None:
    path = fresh / "tokens/numbers/train.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match="truncated or changed"):
        seal(make_spec(fresh.parents[2]), fresh)


def test_existing_tokenizer_is_taken_over(built: tuple[CorpusSpec, Path], tmp_path: Path) -> None:
    spec = make_spec(tmp_path, tokenizer={"name": str(built[1] / "tokenizer.json")})
    again = Corpus.open(build_corpus(spec, tmp_path / "data"))
    assert again.digest == Corpus.open(built[1]).digest, "the same text, the same tokenizer: the same content"
    assert again.manifest.spec_digest != Corpus.open(built[1]).manifest.spec_digest


def test_tokenizer_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"a": 0, "<|endoftext|>": 1}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    spec = make_spec(tmp_path, tokenizer={"name": str(tmp_path)})
    with pytest.raises(UserError, match="not byte-level"):
        train_tokenizer(spec, tmp_path, tmp_path / "out.json")


def test_tokenizer_that_changes_the_text_is_refused(built: tuple[CorpusSpec, Path], tmp_path: Path) -> None:
    from tokenizers import normalizers

    spec, folder = built
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    tokenizer.normalizer = normalizers.NFKD()
    with marked(tmp_path / "tokenizer.json") as path:
        tokenizer.save(str(path))
    with pytest.raises(UserError, match="changes the text"):
        tokenize_domain(
            spec, "letters", folder / "documents/letters.parquet", tmp_path / "tokenizer.json", tmp_path / "out"
        )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["tokenizer.json", "tokens/letters/test.bin", "tokens/numbers/valid.idx.npy"])
def test_what_changes_between_the_steps_is_not_sealed(fresh: Path, name: str) -> None:
    raw = bytearray((fresh / name).read_bytes())
    raw[-3] ^= 1
    (fresh / name).write_bytes(raw)
    with pytest.raises(UserError, match="truncated or changed") as told:
        seal(make_spec(fresh.parents[2]), fresh)
    assert told.value.where == str(fresh / name)


def test_balance_keeps_a_large_domain_from_owning_the_vocabulary(tmp_path: Path) -> None:
    """Two hundred words fifty times each would take all 43 merges before the one word of the small domain."""
    words = [f"{a}{b}{a}{b}" for a in "bcdfghjlmnprst" for b in "vwxyz0123456789"]
    big = [" ".join(words[i % 7 :: 7]) + f" {i}" for i in range(3000)]
    small = [f"{'quokka ' * 6} {i}" for i in range(60)]
    for name, texts in (("big", big), ("small", small)):
        (tmp_path / f"{name}.txt").write_text("\n#\n".join(texts))
    paths = {name: [str(tmp_path / f"{name}.txt")] for name in ("big", "small")}
    domains = {name: {"from": "files", "paths": paths[name], "separator": "\n#\n"} for name in paths}
    tokenizer = {"vocab_size": 300, "train_megabytes": 0.003}
    spec = CorpusSpec.model_validate({"name": "small", "domains": domains, "tokenizer": tokenizer})
    vocabulary = load_tokenizer(build_corpus(spec, tmp_path / "data") / "tokenizer.json").get_vocab()
    assert any("quokka" in token for token in vocabulary)


def test_token_type_is_the_narrowest() -> None:
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")


def test_bits_per_byte_of_a_uniform_guess(built: tuple[CorpusSpec, Path]) -> None:
    """Guessing bytes uniformly costs 8 bits a byte, whatever the tokens."""
    length = token_bytes(load_tokenizer(built[1] / "tokenizer.json"))
    ids = Corpus.open(built[1]).tokens("valid", "numbers")
    nats = float(np.mean(length[ids] * np.log(256)))
    assert nats * len(ids) / length[ids].sum() / np.log(2) == pytest.approx(8)


def test_steps_by_hand_give_what_build_gives(built: tuple[CorpusSpec, Path], tmp_path: Path) -> None:
    spec, folder = built
    path, out = tmp_path / "spec.json", tmp_path / "out"
    path.write_text(spec.model_dump_json())

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    for name in spec.domains:
        parquet = out / "documents" / f"{name}.parquet"
        assert "documents" in run("documents", path, name, "--archives", tmp_path, "--out", parquet)
    run("tokenizer", path, "--documents", out / "documents", "--out", out / "tokenizer.json")
    for name in spec.domains:
        parquet = out / "documents" / f"{name}.parquet"
        run(
            "tokenize",
            path,
            name,
            "--documents",
            parquet,
            "--tokenizer",
            out / "tokenizer.json",
            "--out",
            out / "tokens" / name,
        )
    assert run("seal", path, out).strip() == Corpus.open(folder).digest
    assert "| numbers |" in run("card", out)
    assert "as it was sealed" in run("verify", out)
    with pytest.raises(UserError, match="not an archive's pin"):
        run("fetch", '{"package": "x"}', "--out", tmp_path)


def test_opening_imports_nothing_heavy(built: tuple[CorpusSpec, Path]) -> None:
    heavy = ["torch", "transformers", "pyarrow", "tokenizers", "datasets", "sympy", "pandas"]
    code = (
        "import sys; from acodm_core.data.corpus import Corpus\n"
        f"Corpus.open({str(built[1])!r}).tokens('train', 'numbers')\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
