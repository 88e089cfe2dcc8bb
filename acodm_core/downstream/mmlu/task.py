"""MMLU on a checkpoint: accuracy, and measures that still move where accuracy is chance.

Every question is asked twice: by letter, as lm-eval's ``mmlu`` does, and alone (cloze, the prompts of lm-eval's
``mmlu_continuation``), where only the right answer's text is scored. One subject after the other; what is done is kept, so that a
kill loses one subject.
"""

from __future__ import annotations

import importlib.metadata
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from acodm_core.downstream import manifests, scores
from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.downstream.lm_eval_names import stock, subjects
from acodm_core.downstream.mmlu.questions import LETTERS, Source, read
from acodm_core.downstream.parallel import side_by_side
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import digest
from acodm_core.results.table_files import read_frame, write_frame, write_scores

TASK = "mmlu"
KINDS = yaml.safe_load(Path(__file__).parent.joinpath("kinds.yaml").read_text(encoding="utf-8"))
RECIPE = 1  # part of what names an evaluation: raise it when a change of code changes scores

# One row per question. nats: minus the log likelihood of what was scored; NaN where an answer alone is longer than the context.
QUESTIONS = pa.schema(
    [
        ("subject", pa.string()),
        ("question", pa.int64()),  # its place in the subject's test split
        ("gold", pa.int64()),
        *((f"nats_{letter}", pa.float64()) for letter in LETTERS),
        ("tokens", pa.int64()),  # of the prompt, before a cut
        ("shots", pa.int64()),  # examples that fitted
        ("cut", pa.bool_()),
        ("cloze_nats", pa.float64()),  # of the right answer's text
        ("cloze_bytes", pa.int64()),
        ("cloze_unigram_nats", pa.float64()),
        ("cloze_shots", pa.int64()),
        ("cloze_cut", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Settings:
    """What decides the scores of a checkpoint.

    Attributes:
        shots: few-shot examples asked for.
        too_long: see ``harness.ask``.
        subjects: those to ask; all by default.
        limit: only the first questions of a subject: for a look, not for a score.
    """

    shots: int = 0
    too_long: str = "fit"
    subjects: Sequence[str] = ()
    limit: int | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """The subjects to ask, sorted; UserError for one that does not exist."""
        if unknown := sorted(set(self.subjects) - set(subjects())):
            raise unknown_name("subject", unknown[0], subjects(), where="--subject")
        return tuple(sorted(set(self.subjects))) or subjects()


Progress = Callable[[str, int], None]  # called with a subject and its number of questions, when it is done


def evaluate(
    checkpoint: Checkpoint,
    unigram_nats_V: np.ndarray,
    source: Source,
    settings: Settings,
    out: Path,
    *,
    batch: int = 16,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``out``: scores.parquet, questions.parquet and, last, manifest.json, which is returned.

    The same weights with the same settings are not asked again: then the manifest that is there is returned.

    Args:
        unigram_nats_V: what each token costs under the unigram model, (V,).
        batch: sequences per forward pass.
        workers: subjects at once, a process and a thread each; changes no score. For a model on the CPU.

    Raises:
        UserError: the questions cannot be had, a prompt is too long and ``settings`` refuse that.
    """
    from acodm_core.downstream.compat import calmed

    identity = identify(checkpoint, source, settings)
    if (there := manifests.finished(out, identity)) is not None:
        return there
    parts = out / f"parts-{digest(identity)}"
    _write_tasks(parts / "tasks", source, settings.chosen)
    with calmed():
        for subject, n in _by_subject(checkpoint, unigram_nats_V, source, settings, parts, batch, workers):
            if progress:
                progress(subject, n)
    fix = f"delete {parts} and evaluate again"
    found = [read_frame(_part(parts, subject), fix=fix) for subject in settings.chosen]
    questions = pd.concat(found, ignore_index=True)
    _write_questions(questions, out / "questions.parquet")
    common = {"run": checkpoint.run, "step": checkpoint.step, "task": TASK, "shots": settings.shots}
    rows = [common | row for row in score(questions)]
    write_scores(rows, out / "scores.parquet")
    manifest = manifests.write(
        out, checkpoint, identity, tasks=len(settings.chosen) * len(KINDS), **_counts(questions, settings)
    )
    shutil.rmtree(parts)
    return manifest


def identify(checkpoint: Checkpoint, source: Source, settings: Settings) -> dict[str, Any]:
    """All that names an evaluation: equal identities, equal scores."""
    return {
        "recipe": RECIPE,
        "task": TASK,
        "checkpoint": checkpoint.digest,
        "context": checkpoint.context,
        "questions": source.identity,
        "shots": settings.shots,
        "too_long": settings.too_long,
        "subjects": list(settings.chosen),
        "limit": settings.limit,
        "lm_eval": importlib.metadata.version("lm-eval"),
    }


def score(questions: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of SCORES without the run: every subject, and all questions together as subject ""."""
    groups = [("", questions), *questions.groupby("subject", sort=True)]
    return [{"subject": subject, **row} for subject, group in groups for row in _score(group)]


def _score(group: pd.DataFrame) -> Iterator[dict[str, Any]]:
    nats_NL = group[[f"nats_{letter}" for letter in LETTERS]].to_numpy()
    gold_N = group["gold"].to_numpy()
    chosen_N = nats_NL.argmin(1)  # the first of equals, as lm-eval
    weight_NL = np.exp(nats_NL.min(1, keepdims=True) - nats_NL)
    chance = 1 / len(LETTERS)
    yield scores.mean("accuracy", gold_N == chosen_N, chance=chance)
    yield scores.above_letters(gold_N, chosen_N, len(LETTERS))
    gold_probability_N = weight_NL[np.arange(len(group)), gold_N] / weight_NL.sum(1)
    yield scores.mean("gold_probability", gold_probability_N, chance=chance)
    spelt = group[group["cloze_nats"].notna()]
    if len(spelt):
        bits_N = spelt["cloze_nats"] / math.log(2)
        yield scores.ratio("bits_per_byte", bits_N, spelt["cloze_bytes"])
        yield scores.ratio("unigram_ratio", spelt["cloze_nats"], spelt["cloze_unigram_nats"], chance=1.0)
    yield scores.mean("shots_kept", group["shots"])
    yield scores.mean("cut_share", group["cut"])


def _counts(questions: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """What did not fit: questions in all, and by subject where there are any."""

    def count(chosen: pd.Series) -> dict[str, Any]:
        by_subject = questions[chosen].groupby("subject").size()
        return {"all": int(chosen.sum()), **{str(subject): int(n) for subject, n in by_subject.items()}}

    return {
        "questions": len(questions),
        "fewer_shots": count(questions["shots"] < settings.shots),
        "cut": count(questions["cut"]),
        "cloze_fewer_shots": count(questions["cloze_shots"] < settings.shots),
        "cloze_cut": count(questions["cloze_cut"]),
        "cloze_unscored": count(questions["cloze_nats"].isna()),
    }


def _write_tasks(folder: Path, source: Source, chosen: Sequence[str]) -> None:
    """One task file per subject and kind: lm-eval's own, with this project's changes and the place of the questions."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, entry in KINDS.items():
        for subject in chosen:
            lines = {"include": str(stock(entry["variant"]) / f"mmlu_{subject}.yaml"), "task": _name(kind, subject)}
            text = yaml.safe_dump(lines | entry.get("changes", {}) | _place(source, subject))
            if source.revision is None:
                text += f"custom_dataset: !function {read.__module__}.{read.__name__}\n"
            (folder / f"{_name(kind, subject)}.yaml").write_text(text, encoding="utf-8")


def _place(source: Source, subject: str) -> dict[str, Any]:
    if source.revision is None:
        return {"dataset_kwargs": {"folder": source.path, "subject": subject}}
    return {"dataset_path": source.path, "dataset_kwargs": {"revision": source.revision}}


def _name(kind: str, subject: str) -> str:
    return f"mmlu_{kind}_{subject}"


def _part(parts: Path, subject: str) -> Path:
    return parts / f"{subject}.parquet"


def _by_subject(
    checkpoint: Checkpoint,
    unigram_nats_V: np.ndarray,
    source: Source,
    settings: Settings,
    parts: Path,
    batch: int,
    workers: int,
) -> Iterator[tuple[str, int]]:
    """Every subject with the number of its questions, once they are in ``parts``: asked now, or in a run before this one."""
    from lm_eval.tasks import TaskManager

    from acodm_core.downstream.harness import Model, ask

    manager = TaskManager(include_path=str(parts / "tasks"), include_defaults=False)
    names = {_name(kind, subject) for kind in KINDS for subject in settings.chosen}
    if set(manager.all_subtasks) != names:  # lm-eval runs what it finds, were it nothing at all
        raise AssertionError(f"lm-eval found {len(manager.all_subtasks)} tasks instead of {len(names)}")
    model = Model(checkpoint, batch=batch)

    def work(subject: str) -> None:
        found = {}
        for kind in KINDS:
            task = _load(manager, _name(kind, subject), source)
            found[kind] = ask(model, task, shots=settings.shots, too_long=settings.too_long, limit=settings.limit)
        _write_questions(_rows(subject, found, checkpoint.tokenizer, unigram_nats_V), _part(parts, subject))

    there = [subject for subject in settings.chosen if _part(parts, subject).exists()]
    left = [subject for subject in settings.chosen if subject not in there]
    if workers > 1:
        left.sort(key=partial(_bytes, source), reverse=True)  # or the longest, begun last, is waited for
    for subject in chain(there, side_by_side(work, left, workers)):
        yield subject, pq.read_metadata(_part(parts, subject)).num_rows


def _bytes(source: Source, subject: str) -> int:
    """Of a subject's test questions; 0 where they are on the hub."""
    return sum(path.stat().st_size for path in Path(source.path, subject).glob("test-*.parquet"))


def _load(manager: Any, name: str, source: Source) -> Any:
    """One lm-eval task with its questions; UserError where they cannot be had."""
    try:
        return manager.load(name)["tasks"][name]
    except OSError as error:  # offline mode, no network, no such data set: all are kinds of it
        raise UserError(
            f"the questions are out of reach: {' '.join(str(error).split())}",
            where=f"--source {source.path}",
            fix="--source packages needs no hub",
        ) from error


def _rows(subject: str, found: dict[str, Any], tokenizer: Any, unigram_nats_V: np.ndarray) -> pd.DataFrame:
    """QUESTIONS of one subject, from the answers of both kinds."""
    letters, cloze = found["letters"], found["cloze"]
    tokens_of = partial(tokenizer.encode, add_special_tokens=False)
    rows = []
    for asked, prompt, spelt, cloze_prompt in zip(
        letters.samples, letters.prompts, cloze.samples, cloze.prompts, strict=True
    ):
        answer = spelt["target"]
        nats = [-likelihood for likelihood, _ in asked["filtered_resps"]]
        rows.append(
            {
                "subject": subject,
                "question": asked["doc_id"],
                "gold": asked["target"],
                **{f"nats_{letter}": value for letter, value in zip(LETTERS, nats, strict=True)},
                "tokens": prompt.tokens,
                "shots": prompt.shots,
                "cut": prompt.cut,
                "cloze_nats": -spelt["filtered_resps"][0][0],
                "cloze_bytes": len(answer.encode()),
                "cloze_unigram_nats": float(unigram_nats_V[tokens_of(answer)].sum()),
                "cloze_shots": cloze_prompt.shots,
                "cloze_cut": cloze_prompt.cut,
            }
        )
    return pd.DataFrame(rows)


def _write_questions(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame[list(QUESTIONS.names)], QUESTIONS, preserve_index=False)
    write_frame(table.replace_schema_metadata({}), path)
