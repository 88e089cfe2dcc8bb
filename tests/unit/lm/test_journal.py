"""The journal of a run in progress: every bit kept, cut back on resume, no row for what was not measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acodm_core.errors import UserError
from acodm_core.lm.run.journal import Journal

DOMAINS = ("one", "other")


def step(journal: Journal, number: int, **changes: object) -> None:
    fields = dict(
        step=number, tokens=number * 64, requested=np.array([0.25, 0.75]), drawn=np.array([0.5, 0.5]),
        loss=1 / 3 + number, grad_norm=0.1, lr=1e-3, domain_loss=np.array([0.1 + number, 0.2]), diagnostics={"reward": 0.3},
    )  # fmt: skip
    journal.append("step", **(fields | changes))


def evaluation(journal: Journal, number: int, split: str = "valid") -> None:
    loss = np.array([2.0, 3.0]) / 7
    journal.append("evaluation", split=split, step=number, tokens=number * 64, loss=loss, bits_per_byte=loss / 2)


def tables(journal: Journal, folder: Path) -> dict[str, pd.DataFrame]:
    paths = journal.write_tables(folder, "a-run", DOMAINS)
    return {path.stem: pd.read_parquet(path) for path in paths}


def test_floats_keep_every_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "journal.jsonl", 0)
    values = np.random.default_rng(0).normal(size=2) * [1e-300, 1e300]
    step(journal, 1, domain_loss=values, loss=float(np.nextafter(1.0, 2.0)))
    found = tables(journal, tmp_path)["metrics"]
    assert found[(found.metric == "loss") & (found.domain == "")].value.item() == np.nextafter(1.0, 2.0)
    np.testing.assert_array_equal(found[(found.metric == "loss") & (found.domain != "")].value, values)


def test_resume_cuts_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = Journal(path, 0)
    for number in (1, 2):
        step(whole, number)
    offset = whole.offset()
    assert offset == path.stat().st_size, "what the checkpoint counts is on disk"
    before = path.read_bytes()
    step(whole, 3)
    evaluation(whole, 3)
    whole.close()
    with open(path, "ab") as file:
        file.write(b'{"kind": "st')  # killed in the middle of a line
    again = Journal(path, offset)
    assert path.read_bytes() == before
    step(again, 3)
    assert [line["step"] for line in again.lines()] == [1, 2, 3]
    assert again.offset() > offset


def test_a_journal_shorter_than_its_checkpoint_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    with pytest.raises(UserError, match="0 bytes"):
        Journal(path, 10)
    path.write_bytes(b"12345")
    with pytest.raises(UserError, match="5 bytes") as refusal:
        Journal(path, 10)
    assert str(path.parent) in refusal.value.fix and path.read_bytes() == b"12345"


def test_a_closed_journal_writes_no_more(tmp_path: Path) -> None:
    """The next process may have the file by then."""
    path = tmp_path / "journal.jsonl"
    first = Journal(path, 0)
    step(first, 1)
    offset = first.offset()
    step(first, 2)  # not on disk yet
    first.close()
    second = Journal(path, offset)
    step(second, 7)
    second.offset()
    del first
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 7]


def test_a_fresh_start_forgets_a_run_that_saved_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"kind": "step", "step": 1}\n{"half')
    journal = Journal(path, 0)
    assert list(journal.lines()) == [] and journal.offset() == 0


def test_tables_hold_what_was_measured_and_no_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", 0)
    evaluation(journal, 0)
    step(journal, 1, domain_loss=np.array([np.nan, 0.2]), diagnostics={})
    step(journal, 2)
    evaluation(journal, 2, "test")
    found = tables(journal, tmp_path)
    metrics, mixture, diagnostics = found["metrics"], found["mixture"], found["diagnostics"]
    train = metrics[metrics.split == "train"]
    assert set(train[(train.step == 1) & (train.metric == "loss")].domain) == {"", "other"}, (
        "absent: no row, not a zero"
    )
    assert metrics.value.notna().all()
    assert set(metrics[metrics.split == "valid"].step) == {0} and set(metrics[metrics.split == "test"].step) == {2}
    assert set(metrics[metrics.split == "test"].metric) == {"loss", "bits_per_byte"}
    assert mixture[["step", "domain"]].values.tolist() == [[1, "one"], [1, "other"], [2, "one"], [2, "other"]]
    assert mixture.requested.tolist() == [0.25, 0.75] * 2 and mixture.drawn.tolist() == [0.5] * 4
    assert diagnostics.values.tolist() == [["a-run", 2, "reward", 0.3]]
    assert all((frame.run == "a-run").all() for frame in found.values())


def test_the_same_lines_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        journal = Journal(tmp_path / name / "journal.jsonl", 0)
        evaluation(journal, 0)
        step(journal, 1)
        journal.write_tables(tmp_path / name, "a-run", DOMAINS)
    for path in (tmp_path / "first").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_a_metric_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    from acodm_core.results.table_files import write_table

    row = {"run": "r", "step": 1, "tokens": 1, "split": "train", "domain": "", "metric": "perplexity", "value": 1.0}
    with pytest.raises(ValueError, match="perplexity"):
        write_table([row], "metrics", tmp_path / "metrics.parquet")
    assert list(tmp_path.iterdir()) == []


def test_lines_are_json_of_one_line_each(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", 0)
    step(journal, 1)
    evaluation(journal, 1)
    journal.offset()
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["step", "evaluation"]


def test_a_changed_digit_is_found_with_its_line_and_so_is_a_line_of_another_run(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.jsonl"
    journal = Journal(path, 0, "this run")
    for number in (1, 2, 3):
        step(journal, number)
    offset = journal.offset()
    whole = path.read_bytes()
    assert len(list(Journal(path, offset, "this run").lines())) == 3
    lines = whole.splitlines(keepends=True)
    damaged = {
        2: lines[0] + lines[1].replace(b'"step": 2', b'"step": 7') + lines[2],
        1: lines[1] + lines[0] + lines[2],
        3: whole[:-9] + b"1" * 8 + b"\n",
    }
    for number, text in damaged.items():
        path.write_bytes(text)
        with pytest.raises(UserError, match="checksum is another") as told:
            Journal(path, offset, "this run")
        assert told.value.where == f"{path}:{number}"
    path.write_bytes(whole)
    with pytest.raises(UserError, match="of another run"):
        Journal(path, offset, "that run")
