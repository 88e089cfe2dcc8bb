"""What HumanEval's canonical solutions cost a model: a measure that still moves where no sample passes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from acodm_core.downstream import scores
from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.lm.kernels.fused_loss import token_losses
from acodm_core.results.table_files import write_frame, write_scores

# One row per problem. nats: minus the log likelihood of the solution given the prompt; null where the two exceed the context.
SOLUTIONS = pa.schema(
    [
        ("task_id", pa.string()),
        ("tokens", pa.int64()),  # of the solution
        ("bytes", pa.int64()),
        ("nats", pa.float64()),
        ("unigram_nats", pa.float64()),
    ]
)


def stripped(prompt: str) -> str:
    """The prompt without its trailing whitespace, which tokenizers join to what follows; a completion begins with its own."""
    return prompt.rstrip()


def encode(checkpoint: Checkpoint, text: str) -> list[int]:
    """Tokens of ``text``, however many; who asks counts what is too long, so the tokenizer need not warn."""
    return checkpoint.tokenizer.encode(text, verbose=False)


@torch.no_grad()
def measure(
    checkpoint: Checkpoint, problems: Mapping[str, Mapping[str, str]], unigram_nats_V: np.ndarray, batch: int
) -> list[dict[str, Any]]:
    """Rows of SOLUTIONS, in the order of ``problems``.

    The whitespace that ends a prompt counts to the solution.

    Args:
        unigram_nats_V: what each token costs under the unigram model, (V,).
        batch: solutions a forward pass.
    """
    model = checkpoint.model
    rows, sequences = [], []
    for task_id, problem in problems.items():
        prompt = stripped(problem["prompt"])
        solution = problem["prompt"][len(prompt) :] + problem["canonical_solution"]
        before, after = encode(checkpoint, prompt), encode(checkpoint, solution)
        unigram = float(unigram_nats_V[after].sum())
        size = {"tokens": len(after), "bytes": len(solution.encode())}
        rows.append({"task_id": task_id, **size, "nats": None, "unigram_nats": unigram})
        if len(before) + len(after) - 1 <= checkpoint.context:
            sequences.append((before + after, len(after), rows[-1]))
    sequences.sort(key=lambda sequence: len(sequence[0]))
    for first in range(0, len(sequences), batch):
        part = sequences[first : first + batch]
        longest = len(part[-1][0])
        padded = [tokens + [0] * (longest - len(tokens)) for tokens, _, _ in part]  # no token sees what follows it
        loss_BT = token_losses(model, torch.tensor(padded, device=model.device)).double().cpu()
        for loss_T, (tokens, length, row) in zip(loss_BT, part, strict=True):
            row["nats"] = float(loss_T[len(tokens) - 1 - length : len(tokens) - 1].sum())
    return rows


def write_solutions(rows: list[dict[str, Any]], out: Path, common: Mapping[str, Any]) -> None:
    """Write ``out``/solutions.parquet, and their sums as rows of SCORES with what is ``common`` to them: scores.parquet."""
    table = pa.Table.from_pylist(rows, SOLUTIONS)
    write_frame(table, out / "solutions.parquet")
    fits = table.to_pandas().dropna(subset="nats")
    found = []
    if len(fits):
        found.append(scores.ratio("bits_per_byte", fits["nats"] / math.log(2), fits["bytes"]))
        found.append(scores.ratio("unigram_ratio", fits["nats"], fits["unigram_nats"], chance=1.0))
    write_scores([dict(common) | row for row in found], out / "scores.parquet")
