"""Corpora of shards that mix domains: one pass for all of them, the same bytes however it is divided, killed or resumed."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from acodm_core.data.build import build_corpus
from acodm_core.data.catalogue import CorpusSpec, embedded_spec
from acodm_core.data.corpus import Corpus
from acodm_core.data.programs import app
from acodm_core.data.sources.shards import Shard, divide, find_shards, read_listing, write_listing
from acodm_core.data.tokens import join as joining
from acodm_core.data.tokens.documents import SPLITS
from acodm_core.data.tokens.pieces import tokenize_piece
from acodm_core.data.tokens.token_files import Encoder
from acodm_core.errors import UserError
from acodm_core.study.config import load_experiment

NAMES = {"web": "Pile-CC", "code": "Github", "mail": "Enron Emails"}
ROOT = Path(__file__).parents[3]


@cache
def rows(count: int = 600) -> list[dict]:
    """Documents of three domains in no order; about one in six repeats an earlier one of its domain."""
    draw = random.Random(0)
    made: list[dict] = []
    texts: dict[str, list[str]] = {name: [] for name in NAMES.values()}
    for i in range(count):
        name = draw.choice([*NAMES.values()])
        text = f"{name} has document {i}: " + " ".join(draw.choices(["stone", "r\u00edo", "cloud", "=+\n"], k=20))
        if texts[name] and draw.random() < 1 / 6:
            text = draw.choice(texts[name])
        texts[name].append(text)
        made.append({"text": text, "meta": {"pile_set_name": name}})
    return made


def write_shards(folder: Path, made: list[dict], count: int = 6) -> None:
    """``count`` shards of neighbouring rows: packed with zstandard and gzip in turn, and one not packed."""
    for number, chosen in enumerate(np.array_split(np.arange(len(made)), count)):
        raw = "".join(json.dumps(made[i]) + "\n" for i in chosen).encode()
        if number == 0:
            (folder / f"{number:02d}.jsonl").write_bytes(raw)
        elif number % 2:
            (folder / f"{number:02d}.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(raw))
        else:
            (folder / f"{number:02d}.jsonl.gz").write_bytes(gzip.compress(raw))


def make_spec(folder: Path, tokenizer: Path, domains: dict | None = None, **shards: object) -> CorpusSpec:
    settings = {"paths": [f"{folder}/*.jsonl*"], "domain": "meta.pile_set_name", "pieces": 3} | shards
    domains = domains or {domain: {"from": "shards", "name": name} for domain, name in NAMES.items()}
    return CorpusSpec.model_validate(
        {
            "name": "mixed",
            "domains": domains,
            "shards": settings,
            "tokenizer": {"name": str(tokenizer)},
            "valid_fraction": 0.2,
            "test_fraction": 0.2,
        }
    )


@pytest.fixture(scope="module")
def tokenizer(corpus_folder: Path) -> Path:
    return corpus_folder / "tokenizer.json"


@pytest.fixture
def spec(tmp_path: Path, tokenizer: Path) -> CorpusSpec:
    write_shards(tmp_path, rows())
    return make_spec(tmp_path, tokenizer)


def content(folder: Path) -> dict[str, bytes]:
    """Every file that does not depend on how the work was divided."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "parts" not in path.parts and path.name not in ("spec.json", "manifest.json")
    }


def run_piece(spec: CorpusSpec, tmp_path: Path, piece: int = 0):
    path = Path(spec.tokenizer.name)
    return tokenize_piece(spec, find_shards(spec.shards), piece, path, tmp_path / "parts")


# -- the corpus --------------------------------------------------------------------------------------------------------


def test_shards_give_what_a_file_a_domain_gives(spec: CorpusSpec, tmp_path: Path, tokenizer: Path) -> None:
    made = rows()
    domains = {}
    for domain, name in NAMES.items():
        path = tmp_path / f"{domain}.alone"
        path.write_text("".join(json.dumps(row) + "\n" for row in made if row["meta"]["pile_set_name"] == name))
        domains[domain] = {"from": "files", "paths": [str(path)], "format": "jsonl"}
    fields = {"tokenizer": {"name": str(tokenizer)}, "valid_fraction": 0.2, "test_fraction": 0.2}
    alone = CorpusSpec.model_validate({"name": "alone", "domains": domains} | fields)
    mixed = Corpus.open(build_corpus(spec, tmp_path / "data"))
    assert mixed.digest == Corpus.open(build_corpus(alone, tmp_path / "data")).digest
    mixed.verify()


@pytest.mark.parametrize(("pieces", "jobs"), [(1, 1), (6, 2), (9, 1)])
def test_the_number_of_pieces_and_processes_decides_no_byte(
    spec: CorpusSpec, tmp_path: Path, tokenizer: Path, pieces: int, jobs: int
) -> None:
    other = make_spec(tmp_path, tokenizer, pieces=pieces)
    assert other.id == spec.id
    first = build_corpus(spec, tmp_path / "first")
    assert content(build_corpus(other, tmp_path / "second", jobs)) == content(first)
    assert not list(first.rglob("*.part*")), "nothing temporary is left, and no part"


def test_sources_account_for_every_row(spec: CorpusSpec, tmp_path: Path) -> None:
    folder = build_corpus(spec, tmp_path / "data")
    sources = json.loads((folder / "sources.json").read_text())
    corpus = Corpus.open(folder)
    kept = {d: sum(corpus.record(split, d).documents for split in SPLITS) for d in NAMES}
    assert sources["rows"] == 600 == sum(kept.values()) + sum(sources["repeats"].values())
    unique = {(row["meta"]["pile_set_name"], row["text"].strip()) for row in rows()}
    assert sum(kept.values()) == len(unique)
    assert [shard["path"] for shard in sources["shards"]] == [shard.path for shard in find_shards(spec.shards)]
    assert all(len(shard["sha256"]) == 64 and not shard["damage"] for shard in sources["shards"])


def test_repeats_are_found_in_every_bucket_of_keys(
    spec: CorpusSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(build_corpus(spec, tmp_path / "one"))
    monkeypatch.setattr(joining, "_KEYS_AT_ONCE", 16)
    assert content(build_corpus(spec, tmp_path / "two")) == expected


def test_steps_by_hand_give_what_build_gives(spec: CorpusSpec, tmp_path: Path) -> None:
    folder = build_corpus(spec, tmp_path / "data")
    path, out = folder / "spec.json", tmp_path / "out"

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "6 shards" in run("shards", path, "--out", out / "shards.json")
    run("tokenizer", path, "--documents", out, "--out", out / "tokenizer.json")
    files = ["--shards", out / "shards.json", "--tokenizer", out / "tokenizer.json", "--out", out / "parts"]
    assert sum("documents" in run("piece", path, piece, *files) for piece in range(3)) == 3
    for domain in NAMES:
        run("join", path, domain, "--parts", out / "parts", "--out", out / "tokens" / domain)
    assert run("seal", path, out).strip() == Corpus.open(folder).digest


def test_parquet_shards_give_what_json_shards_give(spec: CorpusSpec, tmp_path: Path, tokenizer: Path) -> None:
    for number, chosen in enumerate(np.array_split(np.arange(600), 4)):
        pq.write_table(pa.Table.from_pylist([rows()[i] for i in chosen]), tmp_path / f"{number}.parquet")
    other = make_spec(tmp_path, tokenizer, paths=[f"{tmp_path}/*.parquet"])
    found = [Corpus.open(build_corpus(s, tmp_path / "data")).digest for s in (spec, other)]
    assert found[0] == found[1]


def test_shards_are_read_from_any_host_that_fsspec_knows(spec: CorpusSpec, tmp_path: Path, tokenizer: Path) -> None:
    import fsspec

    host = fsspec.filesystem("memory")
    for path in tmp_path.glob("*.jsonl*"):
        host.pipe(f"/pile/train/{path.name}", path.read_bytes())
    other = make_spec(tmp_path, tokenizer, paths=["memory://pile/**/*.jsonl*"])
    found = [Corpus.open(build_corpus(s, tmp_path / "data")).digest for s in (spec, other)]
    assert found[0] == found[1]


def test_a_share_keeps_the_same_documents_wherever_they_stand(tmp_path: Path, tokenizer: Path) -> None:
    """Half of a domain, and nothing that the whole does not have; the other domains stay as they are."""
    write_shards(tmp_path, rows())
    domains = {domain: {"from": "shards", "name": name} for domain, name in NAMES.items()}
    half = make_spec(tmp_path, tokenizer, domains | {"web": domains["web"] | {"share": 0.5}})
    whole = Corpus.open(build_corpus(make_spec(tmp_path, tokenizer), tmp_path / "data"))
    fewer = Corpus.open(build_corpus(half, tmp_path / "data"))

    def documents(corpus: Corpus, domain: str) -> set[bytes]:
        tokens, offsets = corpus.tokens("train", domain), corpus.offsets("train", domain)
        return {tokens[start:stop].tobytes() for start, stop in itertools.pairwise(offsets)}

    assert documents(fewer, "web") < documents(whole, "web")
    assert 0.3 < len(documents(fewer, "web")) / len(documents(whole, "web")) < 0.7
    assert documents(fewer, "code") == documents(whole, "code")


KILLED = """
import os, signal, sys
from pathlib import Path
import acodm_core.files as files
from acodm_core.data.build import build_corpus
from acodm_core.data.catalogue import read_spec
import pyarrow.parquet, tokenizers, rich.console, zstandard

spec, data, after = read_spec(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
real = os.replace

def killing(left):
    def replace(source, target):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)
    return replace

lives = 0
while True:
    if not (child := os.fork()):
        os.replace = killing(after + 3 * lives % 29)  # a domain is written anew until all its 14 files stand
        build_corpus(spec, data)
        os._exit(0)
    lives += 1
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        print(lives)
        sys.exit(os.WEXITSTATUS(status))
"""


def test_killed_before_any_rename_and_built_again_it_is_the_same_corpus(spec: CorpusSpec, tmp_path: Path) -> None:
    """A file is born by a rename: kills at every distance from the last one hit each kind of file."""
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    undisturbed = build_corpus(spec, tmp_path / "whole")
    for after in (2, 5):
        data = tmp_path / f"killed-{after}"
        arguments = [sys.executable, "-c", KILLED, tmp_path / "spec.json", data, str(after)]
        lives = int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
        assert lives > 4, "it was killed several times"
        assert content(data / "corpora" / spec.pinned().id) == content(undisturbed)


def test_finished_pieces_are_not_read_again(spec: CorpusSpec, tmp_path: Path) -> None:
    spec = spec.pinned()
    listing = find_shards(spec.shards)
    last = listing[-1]
    whole = Path(last.path).read_bytes()
    folder = tmp_path / "data/corpora" / spec.id
    write_listing(listing, folder / "shards.json")
    Path(last.path).write_bytes(whole[:-9] + bytes(9))
    with pytest.raises(UserError, match=r"shards are damaged|not what was listed"):
        build_corpus(spec, tmp_path / "data")
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("piece.json")}
    Path(last.path).write_bytes(whole)
    assert len(kept) == 2
    for shard in itertools.chain(*divide(find_shards(spec.shards), 3)[:2]):
        Path(shard.path).unlink()
    build_corpus(spec, tmp_path / "data")
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


# -- what is wrong with shards -----------------------------------------------------------------------------------------


def spoilt(tmp_path: Path, tokenizer: Path, spoil: dict[int, str], **shards: object) -> CorpusSpec:
    """One shard of 600 lines, some of them (by number) replaced."""
    lines = [json.dumps(row) for row in rows()]
    for number, line in spoil.items():
        lines[number - 1] = line
    (tmp_path / "00.jsonl").write_text("".join(line + "\n" for line in lines))
    return make_spec(tmp_path, tokenizer, pieces=1, **shards)


BAD_LINES = {
    7: '{"text": "half a li',
    30: '["a list"]',
    99: '{"text": "no name"}',
    100: '{"text": 5, "meta": {"pile_set_name": "Github"}}',
    101: "",
    400: json.dumps({"text": "of a domain that nobody asked for", "meta": {"pile_set_name": "Pile-CCC"}}),
}


def test_bad_lines_are_named_and_counted_and_the_rest_is_kept(tmp_path: Path, tokenizer: Path) -> None:
    record = run_piece(spoilt(tmp_path, tokenizer, BAD_LINES, bad_share=0.01), tmp_path)
    assert record.rows == 600 and record.faults == {"broken line": 5, "unknown domain": 1}
    assert [example.split(":")[1] for example in record.examples] == [str(number) for number in BAD_LINES]
    assert all(example.startswith(f"{tmp_path}/00.jsonl:") for example in record.examples)
    assert "'Pile-CCC'" in record.examples[-1]
    assert sum(domain.documents for domain in record.domains.values()) == 594


def test_too_many_bad_lines_are_fatal_and_leave_no_piece(tmp_path: Path, tokenizer: Path) -> None:
    spec = spoilt(tmp_path, tokenizer, BAD_LINES, bad_share=0.009)
    with pytest.raises(UserError, match=r"1\.00% of 600 lines are bad") as error:
        run_piece(spec, tmp_path)
    assert "00.jsonl:7: not JSON" in str(error.value)
    assert not [path for path in (tmp_path / "parts").rglob("*") if path.is_file()]


def test_a_name_left_out_on_purpose_is_no_fault(tmp_path: Path, tokenizer: Path) -> None:
    domains = {domain: {"from": "shards", "name": NAMES[domain]} for domain in ("web", "code")}
    write_shards(tmp_path, rows())
    record = run_piece(make_spec(tmp_path, tokenizer, domains, others=["Enron Emails"], pieces=1), tmp_path)
    assert not record.faults
    assert record.left_out == {"other names": sum(r["meta"]["pile_set_name"] == "Enron Emails" for r in rows())}


@pytest.mark.parametrize("name", ["01.jsonl.zst", "02.jsonl.gz"])
def test_a_cut_shard_is_reported_with_its_last_line_and_fatal_above_the_share(
    tmp_path: Path, tokenizer: Path, name: str
) -> None:
    write_shards(tmp_path, rows(count=9_000), count=3)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-40_000])
    with pytest.raises(UserError, match=rf"1 of 3 shards are damaged.*\n.*{name}:\d+: cut short"):
        run_piece(make_spec(tmp_path, tokenizer, pieces=1), tmp_path)
    record = run_piece(make_spec(tmp_path, tokenizer, pieces=1, bad_share=0.4), tmp_path)
    damaged = next(shard for shard in record.shards if shard.damage)
    assert 0 < damaged.rows < 3_000 and record.rows == 6_000 + damaged.rows


def test_damage_is_added_up_over_pieces(tmp_path: Path, tokenizer: Path) -> None:
    """Two damaged shards of ten, each within the share of its piece's sight, are too many together."""
    write_shards(tmp_path, rows(count=3_000), count=10)
    for name in ("01.jsonl.zst", "09.jsonl.zst"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="2 of 10 shards are damaged"):
        build_corpus(make_spec(tmp_path, tokenizer, pieces=10, bad_share=0.15), tmp_path / "data")


def test_a_text_that_the_tokenizer_changes_is_a_fault_of_its_line(tmp_path: Path, tokenizer: Path) -> None:
    from tokenizers import Tokenizer, normalizers

    changing = Tokenizer.from_file(str(tokenizer))
    changing.normalizer = normalizers.Replace("qqqq", "q")
    changing.save(str(tmp_path / "changing.json"))
    row = {"text": "a text that has qqqq in it, and is long enough", "meta": {"pile_set_name": "Github"}}
    spec = spoilt(tmp_path, tmp_path / "changing.json", {17: json.dumps(row)}, bad_share=0.01)
    record = run_piece(spec, tmp_path)
    assert record.faults == {"changed by the tokenizer": 1}
    assert record.examples[0].startswith(f"{tmp_path}/00.jsonl:17:")


def test_a_shard_that_changed_since_it_was_listed_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    spec = spoilt(tmp_path, tokenizer, {})
    listing = [Shard(path=shard.path, bytes=shard.bytes - 1) for shard in find_shards(spec.shards)]
    with pytest.raises(UserError, match="changed, or cut off on its way"):
        tokenize_piece(spec, listing, 0, tokenizer, tmp_path / "parts")


def test_a_domain_without_documents_is_named(tmp_path: Path, tokenizer: Path) -> None:
    write_shards(tmp_path, rows())
    domains = {domain: {"from": "shards", "name": name} for domain, name in (NAMES | {"law": "FreeLaw"}).items()}
    with pytest.raises(UserError, match="0 rows bear the name 'FreeLaw'") as error:
        build_corpus(make_spec(tmp_path, tokenizer, domains), tmp_path / "data")
    assert error.value.where == "corpus.domains.law"


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["nowhere/*.zst"], "no file matches"),
        (["memory://nowhere/*.zst"], "no file matches"),
        (["hf://datasets/own/er/*.zst"], "cannot list"),
    ],
)
def test_shards_that_are_not_there_are_named(tmp_path: Path, tokenizer: Path, paths: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        find_shards(make_spec(tmp_path, tokenizer, paths=paths).shards)
    assert paths[0] in str(error.value)


def test_a_missing_list_and_a_missing_piece_say_what_to_type(spec: CorpusSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="acodm data shards SPEC"):
        read_listing(tmp_path / "shards.json")
    run_piece(spec, tmp_path)
    with pytest.raises(UserError, match="piece not finished") as error:
        joining.join_domain(spec, "web", tmp_path / "parts", tmp_path / "out")
    assert "00001-of-00003" in error.value.where


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shards": None}, "need each other"),
        ({"domains": {"web": {"from": "files", "paths": ["x"]}}}, "need each other"),
        ({"tokenizer": {"vocab_size": 300}}, "existing one"),
        ({"max_megabytes": 5}, "share"),
        ({"domains": {d: {"from": "shards", "name": "Github"} for d in ("a", "b")}}, "named twice.*Github"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(spec: CorpusSpec, change: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CorpusSpec.model_validate(spec.model_dump() | change)


# -- its parts ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1_000), max_size=40), st.integers(1, 12))
def test_pieces_are_the_shards_in_their_order(sizes: list[int], pieces: int) -> None:
    listing = [Shard(path=str(i), bytes=size) for i, size in enumerate(sizes)]
    divided = divide(listing, pieces)
    assert len(divided) == pieces and [shard for piece in divided for shard in piece] == listing
    if sizes:
        sums = [sum(shard.bytes for shard in piece) for piece in divided]
        assert max(sums) <= sum(sizes) / pieces + max(sizes)


def test_a_long_text_has_the_same_tokens_in_stretches(spec: CorpusSpec, tokenizer: Path, monkeypatch) -> None:
    words = ["stone", "r\u00edo", "it's", "3.5", "=>", "\u4e2d\u6587", "x\n", "\n\n", ".\n", "  ", "caf\u00e9\n\ty"]
    texts = [" ".join(random.Random(seed).choices(words, k=400)) for seed in range(8)] + ["", "no", "y" * 900]
    encoder = Encoder(spec, tokenizer)
    whole = encoder(texts)
    for characters in (1, 17, 300):
        monkeypatch.setattr("acodm_core.data.tokens.token_files.BATCH_CHARACTERS", characters)
        stretches = [len(list(encoder._stretches(text))) for text in texts]
        assert max(stretches) > 3
        for one, other in zip(encoder(texts), whole, strict=True):
            assert np.array_equal(one, other)


MEMORY = """
import json, os, random, re, sys
from pathlib import Path
from acodm_core.data.tokens import pieces
from acodm_core.data.tokens import token_files
from acodm_core.data.catalogue import read_spec
from acodm_core.data.tokens.join import join_domain
from acodm_core.data.tokens.pieces import tokenize_piece
from acodm_core.data.sources.shards import find_shards

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

folder = Path(sys.argv[1])
draw = random.Random(0)
token_files.BATCH_CHARACTERS = pieces.BATCH_CHARACTERS = 50_000  # buffers that the smaller input fills, too
pieces._ROW_GROUP_BYTES = 200_000
peaks = []
for megabytes in (1, 4):
    with (folder / "00.jsonl").open("w") as file:
        for i in range(megabytes * 200):
            text = f"{i} " + " ".join(draw.choices(["stone", "river", "cloud", "ember"], k=900))
            file.write(json.dumps({"text": text, "meta": {"pile_set_name": draw.choice(["Pile-CC", "Github"])}}) + "\\n")
    spec = read_spec(folder / "spec.json")
    tokenize_piece(spec, find_shards(spec.shards), 0, Path(spec.tokenizer.name), folder / "parts")
    for domain in spec.sharded:
        join_domain(spec, domain, folder / "parts", folder / "tokens" / domain)
    peaks.append(peak())
print(*peaks)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_input(tmp_path: Path, tokenizer: Path, monkeypatch) -> None:
    domains = {domain: {"from": "shards", "name": NAMES[domain]} for domain in ("web", "code")}
    spec = make_spec(tmp_path, tokenizer, domains, pieces=1)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    printed = subprocess.check_output([sys.executable, "-c", MEMORY, tmp_path], text=True)
    small, large = map(float, printed.split())
    assert large - small < 10, f"four times the text took {large - small:.0f} MB more"


# -- what must not change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "corpus"),
    [
        ("quick", "embedded-e0e76ff5eddb"),
        ("synthetic", "synthetic-1ab685a066f0"),
        ("mini", "embedded-f4f6fea6b38b"),
    ],
)
def test_corpora_without_shards_keep_the_names_they_had_before_there_were_any(preset: str, corpus: str) -> None:
    experiment = load_experiment(ROOT / "workflow/config" / f"{preset}.yaml")
    assert experiment.corpus.id == corpus
    assert "shards" not in embedded_spec().model_dump()


@pytest.mark.parametrize(("preset", "domains"), [("paper-pile-1b", 22), ("paper-slimpajama-1b", 7)])
def test_the_papers_presets_read_shards_once_for_all_domains(preset: str, domains: int) -> None:
    corpus = load_experiment(ROOT / "workflow/config" / f"{preset}.yaml").corpus
    assert len(corpus.sharded) == len(corpus.domains) == domains
    assert corpus.shards.bad_share <= 0.001
