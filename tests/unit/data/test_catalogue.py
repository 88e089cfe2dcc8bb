"""The catalogue that ships, and the spec of a corpus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from acodm_core.data.catalogue import CorpusSpec, embedded_spec, load_catalogue, read_spec
from acodm_core.data.sources.specs import FilesDomain, PackagesDomain
from acodm_core.errors import UserError

FILES = {"from": "files", "paths": ["*.txt"]}


def spec(**changes: object) -> CorpusSpec:
    return CorpusSpec.model_validate({"name": "small", "domains": {"mine": FILES}} | changes)


def test_catalogue_states_rights_and_source_of_every_domain() -> None:
    catalogue = load_catalogue()
    for name, entry in catalogue.domains.items():
        assert entry.title and entry.citation and entry.licence != "not stated", name
    assert {name for name, entry in catalogue.domains.items() if entry.rights_unclear} == {"news"}


def test_embedded_corpus_has_clear_rights_and_every_archive_is_used() -> None:
    catalogue = load_catalogue()
    assert not any(catalogue.domains[name].rights_unclear for name in catalogue.sets["embedded"])
    everything = CorpusSpec(name="all", domains=list(catalogue.domains))
    assert set(everything.archives()) == {archive.filename for archive in catalogue.archives.values()}


def test_a_set_stands_for_its_domains() -> None:
    core = load_catalogue().sets["core"]
    assert CorpusSpec(name="set", domains="core") == CorpusSpec(name="set", domains=core)
    with pytest.raises(ValidationError, match="unknown set of domains 'cores'"):
        CorpusSpec(name="set", domains="cores")


def test_two_domains_share_an_archive() -> None:
    shared = embedded_spec(domains=["code", "documentation"])
    assert shared.archives_of("code") == shared.archives_of("documentation") == list(shared.archives())
    assert len(shared.archives()) == 1


def test_spec_survives_json_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(embedded_spec().model_dump_json())
    assert read_spec(path) == embedded_spec()
    assert read_spec(path).digest() == embedded_spec().digest()


def test_digest_is_the_same_in_another_process() -> None:
    code = "from acodm_core.data.catalogue import embedded_spec; print(embedded_spec().digest())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == embedded_spec().digest()


@pytest.mark.parametrize(
    "change",
    [
        {"split_seed": 1},
        {"valid_fraction": 0.1},
        {"max_megabytes": 1.0},
        {"max_megabytes": {"mine": 1.0}},
        {"tokenizer": {"vocab_size": 512}},
        {"tokenizer": {"name": "elsewhere"}},
        {"domains": {"mine": FILES | {"revision": "2"}}},
        {"domains": {"other": FILES}},
    ],
)
def test_digest_follows_what_decides_the_bytes(change: dict[str, object]) -> None:
    assert spec(**change).digest() != spec().digest()


def test_digest_ignores_what_is_for_people() -> None:
    described = FILES | {"title": "T", "licence": "L", "citation": "C", "pile_analogue": "P", "rights_unclear": True}
    assert spec(name="other", domains={"mine": described}).digest() == spec().digest()


def test_order_of_domains_counts() -> None:
    assert embedded_spec(domains=["code", "books"]).digest() != embedded_spec(domains=["books", "code"]).digest()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"domains": ["bookz"]}, "did you mean 'books'"),
        ({"domains": {"bookz": None}}, "did you mean 'books'"),
        ({"max_megabytes": {"mein": 1.0}}, "did you mean 'mine'"),
        ({"max_megabytes": -1}, "greater than 0"),
        ({"valid_fractoin": 0.1}, "Extra inputs"),
        ({"domains": {"Bad Name": FILES}}, "should match pattern"),
        ({"domains": {"mine": {"from": "nowhere"}}}, "does not match any of the expected tags"),
        ({"domains": {}}, "at least 1"),
    ],
)
def test_mistakes_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        spec(**change)
    assert says in str(error.value)


def test_unknown_reader_of_a_part_is_refused_with_its_place(tmp_path: Path) -> None:
    part = load_catalogue().domains["books"].model_dump()
    part["parts"][0]["reader"] = "gutenburg"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "domains": {"books": part}}))
    with pytest.raises(UserError) as error:
        read_spec(path)
    assert "domains.books" in str(error.value) and "did you mean 'gutenberg'" in str(error.value)


def test_one_file_name_has_one_hash() -> None:
    entry = load_catalogue().domains["books"].model_dump()
    other = PackagesDomain.model_validate(entry).model_dump()
    other["parts"][0]["archive"]["sha256"] = "0" * 64
    with pytest.raises(ValidationError, match="two different sha256"):
        spec(domains={"one": entry, "two": other})


def test_files_are_sorted_and_a_pattern_without_files_is_an_error(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    entry = FilesDomain.model_validate({"from": "files", "paths": [f"{tmp_path}/**/*.txt"]})
    assert [path.name for path in entry.files()] == ["a.txt", "b.txt", "c.txt"]
    with pytest.raises(UserError, match="no file matches"):
        FilesDomain.model_validate({"from": "files", "paths": [f"{tmp_path}/*.md"]}).files()


def test_importing_the_catalogue_stays_light() -> None:
    heavy = ["torch", "transformers", "pyarrow", "tokenizers", "datasets", "sympy", "pandas", "numpy"]
    code = f"import sys, acodm_core.data.catalogue; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
