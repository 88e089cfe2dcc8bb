"""HumanEval as one task: the samples of a checkpoint and what the sandbox made of them, as rows of SCORES."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.downstream import manifests
from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.downstream.humaneval.samples import TASK
from acodm_core.downstream.humaneval.score import score
from acodm_core.downstream.sandbox.sandbox import available
from acodm_core.downstream.scores import mean
from acodm_core.files import read_json
from acodm_core.results.table_files import read_frame, write_scores
from acodm_core.seals import verify_mark


def score_samples(
    checkpoint: Checkpoint, sampled: dict[str, Any], out: Path, *, ks: Sequence[int], workers: int
) -> None:
    """Score ``out``/samples into ``out``/score, and write ``out``/scores.parquet and ``out``/manifest.json for both.

    Where no sandbox works nothing runs, and pass@k is a row with the reason.

    Args:
        sampled: the manifest of the samples.
        ks: pass@k is given for these k.
        workers: samples run at once.

    Raises:
        UserError: the samples are not as they were written.
    """
    samples, fix = out / "samples", f"delete {out / 'samples'} and evaluate again"
    common = {"run": checkpoint.run, "step": checkpoint.step, "task": TASK, "shots": 0}
    rows = read_frame(samples / "scores.parquet", fix=fix).to_dict("records")
    unasked_P = np.arange(sampled["problems"]) < len(sampled["too_long"])
    rows.append(common | mean("unasked_share", unasked_P))
    skipped, reasons = {}, {}
    verify_mark(samples / "samples.jsonl", fix=fix)
    if available():
        scored = score(samples / "samples.jsonl", out / "score", ks=tuple(ks), workers=workers)
        rows += [common | row for row in scored]
        reasons = read_json(out / "score" / "summary.json")["reasons"]
    else:
        skipped = {"pass@k": "no sandbox works on that machine, and model-written code runs in one or not at all"}
        rows.append(common | manifests.skipped_row(TASK, skipped["pass@k"], 0))
    write_scores(rows, out / "scores.parquet")
    identity = {"samples": sampled["identity"], "k": ks}
    counts = {name: sampled[name] for name in ("problems", "samples", "too_long", "solutions_too_long")}
    manifests.write(out, checkpoint, identity, **counts, reasons=reasons, skipped=skipped)
