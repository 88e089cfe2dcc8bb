"""A corpus is named after the content of the files that it reads: other text under the same name is another corpus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acodm_core import files
from acodm_core.cli import app
from acodm_core.data.build import build_corpus
from acodm_core.data.catalogue import CorpusSpec, read_spec
from acodm_core.data.corpus import Corpus
from acodm_core.data.sources.shards import find_shards
from acodm_core.data.tokens.documents import build_documents
from acodm_core.data.tokens.tokenizer import train_tokenizer
from acodm_core.errors import UserError
from acodm_core.files import contents, exclusive, find_files

DOCUMENTS = [f"Document {i}: of the length that a document has to have here." for i in range(40)]


def rows(texts: list[str]) -> str:
    return "".join(json.dumps({"text": text, "source": "web"}) + "\n" for text in texts)


def kinds(folder: Path, tokenizer: Path) -> dict[str, dict]:
    """Specs that read ``folder/data/mine.jsonl`` or ``folder/tokenizer.json`` in every way there is."""
    own = {"from": "files", "paths": [f"{folder}/data/*.jsonl"], "format": "jsonl"}
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/mine.jsonl").write_text(rows(DOCUMENTS))
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    existing = {"name": str(folder / "tokenizer.json")}
    return {
        "files": {"domains": {"mine": own}},
        "a folder for the hub's library": {"domains": {"mine": {"from": "hf", "dataset": f"{folder}/data"}}},
        "shards": {
            "domains": {"mine": {"from": "shards", "name": "web"}},
            "shards": {"paths": [f"{folder}/data/*.jsonl"], "domain": "source"},
            "tokenizer": existing,
        },
        "a tokenizer": {"domains": {"other": {"from": "files", "paths": [__file__]}}, "tokenizer": existing},
        "a tokenizer's folder": {
            "domains": {"other": {"from": "files", "paths": [__file__]}},
            "tokenizer": {"name": str(folder)},
        },
    }


KINDS = ["files", "a folder for the hub's library", "shards", "a tokenizer", "a tokenizer's folder"]


def swap(path: Path) -> None:
    """Other content of the same size, with the times that the file had."""
    raw, times = path.read_bytes(), path.stat()
    place = raw.index(b"Document 7") if b"Document 7" in raw else raw.index(b" ")
    path.write_bytes(raw[:place] + (b"d" if raw[place : place + 1] == b"D" else b"\t") + raw[place + 1 :])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("kind", KINDS)
def test_other_content_under_the_same_name_is_another_corpus(kind: str, tmp_path: Path, corpus_folder: Path) -> None:
    given = kinds(tmp_path, corpus_folder / "tokenizer.json")[kind]
    path = tmp_path / "tokenizer.json" if "tokenizer" in kind else tmp_path / "data/mine.jsonl"
    spec = CorpusSpec.model_validate({"name": "own"} | given)
    whole = path.read_bytes()
    first = spec.pinned()
    assert first.pinned().id == first.id == CorpusSpec.model_validate_json(first.model_dump_json()).id
    os.utime(path)
    assert spec.pinned().id == first.id, "a touched file has the content that it had"
    swap(path)
    assert spec.pinned().id != first.id
    path.write_bytes(whole)
    assert spec.pinned().id == first.id
    if "tokenizer" not in kind:
        (tmp_path / "data/more.jsonl").write_text(rows(["One more document, which is long enough to be kept."]))
        assert spec.pinned().id != first.id


def test_a_changed_file_is_built_anew_and_never_under_the_old_name(tmp_path: Path, corpus_folder: Path) -> None:
    spec = CorpusSpec.model_validate({"name": "own"} | kinds(tmp_path, corpus_folder / "tokenizer.json")["files"])
    first = build_corpus(spec, tmp_path / "data")
    planned = spec.pinned()
    swap(tmp_path / "data/mine.jsonl")
    with pytest.raises(UserError, match="changed since the corpus was planned") as error:
        build_documents(planned, "mine", tmp_path, tmp_path / "out.parquet")
    assert error.value.where == "corpus.domains.mine" and not (tmp_path / "out.parquet").exists()
    second = build_corpus(spec, tmp_path / "data")
    assert first != second and Corpus.open(first).digest != Corpus.open(second).digest
    (tmp_path / "data/mine.jsonl").unlink()
    assert build_corpus(planned, tmp_path / "data") == first, "what is built needs its files no more"
    with pytest.raises(UserError, match="no file matches"):
        build_corpus(spec, tmp_path / "data")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, corpus_folder: Path) -> None:
    spec = CorpusSpec.model_validate({"name": "own"} | kinds(tmp_path, corpus_folder / "tokenizer.json")["files"])
    path = tmp_path / "data/mine.jsonl"

    def meanwhile(_: int) -> None:
        path.write_text(rows(DOCUMENTS[:30]))

    with pytest.raises(UserError, match="changed since the corpus was planned"):
        build_documents(spec.pinned(), "mine", tmp_path, tmp_path / "out.parquet", progress=meanwhile)


def test_shards_and_tokenizers_that_are_not_the_planned_ones_are_refused(tmp_path: Path, corpus_folder: Path) -> None:
    given = kinds(tmp_path, corpus_folder / "tokenizer.json")["shards"]
    spec = CorpusSpec.model_validate({"name": "own"} | given).pinned()
    swap(tmp_path / "data/mine.jsonl")
    with pytest.raises(UserError, match=r"corpus\.shards: the files changed"):
        find_shards(spec.shards)
    swap(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"corpus\.tokenizer: the files changed"):
        train_tokenizer(spec, tmp_path, tmp_path / "out.json")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tokenizer": {"name": "nowhere/at/all"}}, "corpus.tokenizer.name"),
        ({"tokenizer": {"name": "lower.json"}}, "corpus.tokenizer.name"),
        ({"domains": {"mine": {"from": "hf", "dataset": "./chat"}}}, "corpus.domains.mine.dataset"),
        ({"domains": {"mine": {"from": "files", "paths": ["./*.nothing"]}}}, "corpus.domains.mine.paths"),
    ],
)
def test_a_missing_file_is_named_with_its_place_in_the_spec(change: dict, where: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"name": "own", "domains": {"mine": {"from": "files", "paths": [__file__]}}} | change))
    with pytest.raises(UserError) as error:
        read_spec(path)
    assert error.value.where == where


# -- files by their content --------------------------------------------------------------------------------------------


def test_large_files_are_read_once_and_again_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_ALWAYS_READ_BYTES", 10)
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text(f"the content of {path.name}")
    first = contents(paths)
    assert not files.CONTENTS.exists(), "a file that has just been written may change within the same time stamp"
    monkeypatch.setattr(files, "_SETTLED_NS", -(10**12))
    assert contents(paths) == first and files.CONTENTS.exists()
    read = []
    monkeypatch.setattr(files, "xxh3", lambda path, real=files.xxh3: read.append(path) or real(path))
    assert contents(paths) == first and not read
    swap(paths[1])
    assert contents(paths)[0] == first[0] and contents(paths)[1] != first[1] and read == [str(paths[1])]
    files.CONTENTS.write_text("{")
    assert contents(paths)[0] == first[0], "a damaged memory is none"


def test_a_planned_terabyte_takes_no_time_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that size cannot be read here: what is remembered of it must do."""
    monkeypatch.chdir(tmp_path)
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as file:
        file.truncate(10**12)
    files.write_json(files.CONTENTS, {str(huge): [files._mark(huge), "0" * 32]})
    assert contents([huge]) == ["0" * 32]


def test_names_with_brackets_other_names_of_a_file_and_loops_of_links(tmp_path: Path) -> None:
    for name in ("d[1].jsonl", "d1.jsonl", "deep/er/d.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "deep/loop").symlink_to(tmp_path / "deep")
    (tmp_path / "deep/er/loop").symlink_to(tmp_path)
    (tmp_path / "same.jsonl").symlink_to(tmp_path / "d1.jsonl")

    def found(*patterns: str) -> list[str]:
        return [str(path.relative_to(tmp_path)) for path in find_files([f"{tmp_path}/{p}" for p in patterns], where="")]

    assert found("d[1].jsonl") == ["d[1].jsonl"]
    assert found("d[[]1].jsonl", "d[0-9].jsonl") == ["d1.jsonl", "d[1].jsonl"]
    assert found("*1*.jsonl", "same.jsonl", "./d1.jsonl") == ["d1.jsonl", "d[1].jsonl"]
    assert found("**/d.jsonl", "deep/**") == ["deep/er/d.jsonl", "deep/er/loop/d1.jsonl", "deep/er/loop/d[1].jsonl"]


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "folder/inner").mkdir(parents=True)
    for name, says in {
        "pipe": "a pipe",
        "broken": "a broken link",
        "self": "a broken link",
        "folder": "a folder",
    }.items():
        with pytest.raises(UserError, match=says):
            find_files([str(tmp_path / name)], where="paths")
    for pattern in ("fold*", "folder/*", "folder/**", "p[i]pe", "absent"):
        with pytest.raises(UserError, match="no file matches"):
            find_files([str(tmp_path / pattern)], where="paths")


# -- one builder at a time, and enough text ----------------------------------------------------------------------------


def test_two_builds_in_one_folder_the_second_is_refused_and_touches_nothing(
    tmp_path: Path, corpus_folder: Path
) -> None:
    given = kinds(tmp_path, corpus_folder / "tokenizer.json")["files"]
    spec = CorpusSpec.model_validate({"name": "own"} | given).pinned()
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    folder = tmp_path / "built/corpora" / spec.id
    command = [
        sys.executable,
        "-m",
        "acodm_core.cli",
        "data",
        "build",
        f"{tmp_path}/spec.json",
        "--data",
        f"{tmp_path}/built",
    ]
    with exclusive(folder, "building this corpus"):
        half = folder / ".half.1.part"
        half.write_text("what the first is writing")
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 1 and half.exists()
        assert (
            f"{folder}: another process is building this corpus" in second.stderr and "Traceback" not in second.stderr
        )
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert Corpus.open(folder).domains == ("mine",)


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """A built corpus whose held-out splits are short, and the arguments of a plan that trains on it with a context."""
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_text(rows(DOCUMENTS))
    corpus = {
        "name": "short",
        "tokenizer": {"vocab_size": 300},
        "domains": {"mine": {"from": "files", "format": "jsonl", "paths": ["mine.jsonl"]}},
    }
    Path("spec.json").write_text(json.dumps(corpus))
    build_corpus(read_spec(Path("spec.json")), Path("data"))

    def arguments(context: int) -> list[str]:
        settings = {"experiment": "e", "corpus": corpus, "compare": ["natural"], "training": {"context": context}}
        Path("e.yaml").write_text(json.dumps(settings))
        return ["plan", "e.yaml", "--write", "."]

    return arguments


def test_a_split_shorter_than_one_context_is_refused_by_the_plan_where_the_corpus_is_built(short) -> None:
    corpus = Corpus.open(next(Path("data/corpora").iterdir()))
    tokens = corpus.record("test", "mine").tokens
    refused = CliRunner().invoke(app, short(tokens))
    assert isinstance(refused.exception, UserError)
    assert f"domain 'mine' has {tokens:,} test tokens" in str(refused.exception)
    assert f"needs {tokens + 1:,} tokens" in str(refused.exception)
    both = min(tokens, corpus.record("valid", "mine").tokens) - 1
    assert CliRunner().invoke(app, short(both)).exit_code == 0


def test_a_split_shorter_than_one_context_is_refused_before_the_first_step(short) -> None:
    from acodm_core.lm.train import Trainer
    from acodm_core.study.config import load_experiment
    from acodm_core.study.files_on_disk import grounded
    from acodm_core.study.planner import plan

    corpus = Corpus.open(next(Path("data/corpora").iterdir()))
    tokens = corpus.record("test", "mine").tokens
    short(8)
    (spec,) = (s for s in plan(grounded(load_experiment(Path("e.yaml")))).runs.values() if s.seed == 0)
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"context": tokens})})
    with pytest.raises(UserError, match=f"'mine' has {tokens:,} test tokens"):
        Trainer(spec, corpus, Path("run"))
