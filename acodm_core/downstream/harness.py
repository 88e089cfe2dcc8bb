"""lm-eval as the harness: its tasks and prompts on a checkpoint, offline, with every prompt that does not fit counted.

What lm-eval 0.4.13 does by itself, and what this module adds:

- A prompt longer than the context loses its beginning, with a line in the log. Here whole few-shot examples go first, the last
  ones, so that what is asked is lm-eval's own prompt with fewer shots; a question that is too long alone is still cut by
  lm-eval, and counted. Nothing longer than the context of training is given, even where a model would accept it.
- Tokens are encoded one request at a time and logits made for every position; here they are encoded together and made only
  where an answer stands. A test holds the likelihoods to lm-eval's own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Literal

import torch
from lm_eval import evaluator
from lm_eval.api.instance import Instance

from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.downstream.compat import Scored
from acodm_core.errors import UserError

TooLong = Literal["fit", "refuse"]
FEWSHOT_SEED = 1234  # lm-eval's own default, for tasks that draw their examples


@dataclass(frozen=True)
class Prompt:
    """What became of a question's prompt.

    Attributes:
        tokens: of the prompt as it was built, before anything was cut.
        shots: few-shot examples in it.
        cut: whether its beginning did not fit.
    """

    tokens: int
    shots: int
    cut: bool


class Model(Scored):
    """A checkpoint that lm-eval can ask.

    Args:
        batch: sequences per forward pass.
    """

    def __init__(self, checkpoint: Checkpoint, *, batch: int) -> None:
        super().__init__(
            pretrained=checkpoint.model,
            tokenizer=checkpoint.tokenizer,
            backend="causal",
            batch_size=batch,
            max_length=checkpoint.context,
        )
        self.forget()

    def forget(self) -> None:
        """Drop what was remembered of earlier requests."""
        self._encoded: dict[str, list[int]] = {}
        self.asked: dict[tuple[str, int], tuple[int, bool]] = {}  # (task, question) -> tokens of the prompt, cut

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Tokens of each text, as lm-eval's ``tok_encode`` has them, made together and remembered."""
        texts = list(texts)
        special = self.tokenizer.bos_token or "\0"  # lm-eval has a rule of its own for texts that begin so
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded and not text.startswith(special)]
        if new:
            self._encoded.update(zip(new, self.tokenizer(new)["input_ids"], strict=True))
        return [self.tok_encode(text) for text in texts]

    def tok_encode(self, string: str, *arguments: Any, **options: Any) -> list[int]:
        if arguments or options:
            return super().tok_encode(string, *arguments, **options)
        if string not in self._encoded:
            self._encoded[string] = super().tok_encode(string)
        return self._encoded[string]

    def encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        # lm-eval encodes the two together, because a token might reach over the edge. None can where the tokenizer divides
        # the text into words first and has an edge there, and that is decided by the line that the edge is in.
        line = context.rpartition("\n")[2]
        if line and continuation and _divides(self.tokenizer.backend_tokenizer, line, continuation):
            return self.tok_encode(context), self.tok_encode(continuation)
        return super().encode_pair(context, continuation)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        self.encode(text for request in requests for text in request.args if text)
        for request in requests:
            context, answer = map(len, self.encode_pair(*request.args)) if request.args[0] else (0, 0)
            self._note(request, context, context + answer > self.max_length + 1)
        return super().loglikelihood(requests, disable_tqdm=True)

    def score(self, requests: list[tuple[Any, list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Of each (text, context, answer): the answer's log likelihood, nats, and whether it is the likeliest.

        What several have to read (a question with four answers of one token) is read once; rows of about one length go together.
        """
        scores = [(math.nan, False)] * len(requests)  # stays, where an answer alone is longer than the context
        served = defaultdict(list)  # what is read -> the requests that it answers
        for i, (_, context, answer) in enumerate(requests):
            if len(answer) <= self.max_length:
                served[tuple((context + answer)[-(self.max_length + 1) : -1])].append(i)
        rows = sorted(served.items(), key=lambda row: -len(row[0]))
        for first in range(0, len(rows), self.batch_size):
            part = rows[first : first + self.batch_size]
            asked = [(row, len(read), i) for row, (read, asking) in enumerate(part) for i in asking]
            sizes = [len(requests[i][2]) for *_, i in asked]
            places = [
                (row, place)
                for (row, end, _), size in zip(asked, sizes, strict=True)
                for place in range(end - size, end)
            ]
            target_P = torch.tensor([token for *_, i in asked for token in requests[i][2]], device=self.device)
            logprob_PV = self._logits([read for read, _ in part], places).log_softmax(-1, dtype=self.softmax_dtype)
            nats = logprob_PV.gather(1, target_P[:, None])[:, 0].split(sizes)
            likeliest = (logprob_PV.argmax(-1) == target_P).split(sizes)
            for (*_, i), nats_T, likeliest_T in zip(asked, nats, likeliest, strict=True):
                scores[i] = float(nats_T.sum()), bool(likeliest_T.all())
        return scores

    def _logits(self, read: list[tuple[int, ...]], places: list[tuple[int, int]]) -> torch.Tensor:
        """(P, V) logits at ``places``, (row, place); the longest row first. No token sees what follows it: padding is harmless."""
        padded = [[*tokens, *[0] * (len(read[0]) - len(tokens))] for tokens in read]
        row_P, place_P = torch.tensor(places, device=self.device).T
        head = self.model.get_output_embeddings()
        only = head.register_forward_pre_hook(lambda _, hidden: hidden[0][row_P, place_P][None])
        try:
            with torch.no_grad():
                return self.model(torch.tensor(padded, device=self.device), use_cache=False).logits[0]
        finally:
            only.remove()

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        for request in requests:
            context = len(self.tok_encode(request.args[0]))
            self._note(request, context, context + new_tokens(request.args[1]) > self.max_length)
        return super().generate_until(requests, disable_tqdm=True)

    def _note(self, request: Instance, tokens: int, cut: bool) -> None:
        key = (request.task_name, request.doc_id)
        before, was_cut = self.asked.get(key, (0, False))
        self.asked[key] = max(tokens, before), cut or was_cut


@dataclass(frozen=True)
class Answers:
    """What one task gave.

    Attributes:
        samples: lm-eval's records, one per question, in the task's order.
        prompts: beside them.
        metrics: lm-eval's own, by name.
    """

    samples: list[dict[str, Any]]
    prompts: list[Prompt]
    metrics: dict[str, float]


def ask(model: Model, task: Any, *, shots: int, too_long: TooLong = "fit", limit: int | None = None) -> Answers:
    """Evaluate one lm-eval task.

    Args:
        shots: few-shot examples asked for; a task that has fewer gives what it has.
        too_long: ``fit`` drops whole examples until the prompt fits the context; ``refuse`` raises.
        limit: only the first questions.

    Raises:
        UserError: ``refuse``, and a prompt does not fit.
    """
    model.forget()
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(FEWSHOT_SEED)
    kept = _fit(task, model, shots, too_long, limit)
    name = task.config.task
    found = evaluator.evaluate(model, {"tasks": {name: task}}, limit=limit, bootstrap_iters=0, log_samples=True)
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    asked = [model.asked[key] for key in sorted(model.asked)]
    prompts = [Prompt(tokens, shots, cut) for (tokens, cut), shots in zip(asked, kept, strict=bool(asked))]
    metrics = {
        key.partition(",")[0]: float(value)
        for key, value in found["results"][name].items()
        if "," in key and "_stderr," not in key and isinstance(value, float | int)
    }
    return Answers(samples, prompts, metrics)


def _fit(task: Any, model: Model, shots: int, too_long: TooLong, limit: int | None) -> list[int]:
    """Build the task's prompts with as many of the asked examples as fit, and have it use them; the numbers kept."""
    whole: Callable[..., str | list[str]] = task.fewshot_context
    docs = [doc for _, doc in task.doc_iterator(limit=limit)]
    room = [model.max_length + 1 - tokens for tokens in _answer_tokens(task, model, docs)]
    built: list[str | list[str]] = [""] * len(docs)
    kept = [min(shots, len(task.sampler.df) if hasattr(task, "sampler") else 0)] * len(docs)
    left = list(range(len(docs)))
    while left:
        for i in left:
            built[i] = whole(docs[i], num_fewshot=kept[i], gen_prefix=task.doc_to_prefix(docs[i]))
        tokens = _longest(model, [built[i] for i in left])
        left = [i for i, n in zip(left, tokens, strict=True) if n > room[i]]
        if left and too_long == "refuse":
            raise UserError(
                f"{len(left)} of {len(docs)} prompts of {task.config.task} do not fit the model's context of "
                f"{model.max_length} tokens",
                where="--too-long",
                fix="--too-long fit drops whole few-shot examples until a prompt fits, and counts what is cut",
            )
        left = [i for i in left if kept[i]]
        for i in left:
            kept[i] -= 1
    prompts = iter(built)
    task.fewshot_context = lambda doc, **_: next(prompts)
    return kept


def _answer_tokens(task: Any, model: Model, docs: list[dict[str, Any]]) -> list[int]:
    """Room that the longest answer to each question needs."""
    match task.OUTPUT_TYPE:
        case "multiple_choice" if not getattr(task, "multiple_input", 0):
            delimiter = task.config.target_delimiter
            return _longest(model, [[delimiter + choice for choice in task.doc_to_choice(doc)] for doc in docs])
        case "generate_until":
            return [new_tokens(task.config.generation_kwargs or {}) + 1] * len(docs)
        case _:
            return _longest(model, [str(task.doc_to_target(doc)) for doc in docs])


def _longest(model: Model, texts: list[str | list[str]]) -> list[int]:
    """Tokens of each text, or of the longest of each list of texts."""
    lists = [[text] if isinstance(text, str) else text for text in texts]
    model.encode(chain.from_iterable(lists))
    return [max(len(model.tok_encode(text)) for text in alternatives) for alternatives in lists]


@lru_cache(maxsize=4096)
def _divides(tokenizer: Any, line: str, continuation: str) -> bool:
    """Whether the tokenizer, before it merges anything, divides ``line + continuation`` between the two, and adds no token."""
    plain = tokenizer.normalizer is None and not tokenizer.num_special_tokens_to_add(False)
    if not plain or tokenizer.pre_tokenizer is None or line[-1].isspace():
        return False
    words = tokenizer.pre_tokenizer.pre_tokenize_str(line + continuation)
    return any(start == len(line) for _, (start, _) in words)


def new_tokens(generation: dict[str, Any]) -> int:
    """How many tokens a task wants to be written; 256 is lm-eval's default."""
    return int(generation.get("max_gen_toks", 256))
