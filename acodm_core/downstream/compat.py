"""What ``downstream`` uses of lm-eval that it does not promise to keep: here, and in no other module.

Each stands here because no public interface does it. tests/unit/lm/test_compat.py names each one and fails where a new version
lacks it; pyproject.toml bounds lm-eval to the version that was tested.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any

import lm_eval.api.task
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import env as templates
from tqdm import tqdm

Pair = tuple[list[int], list[int]]


class Scored(HFLM):
    """lm-eval's Hugging Face model, with a name of ours for the two steps that lm-eval keeps to itself.

    Its public ``loglikelihood`` encodes each request and makes the logits of every position; what is between has no public place.
    """

    def encode_pair(self, context: str, continuation: str) -> Pair:
        """Tokens of both, as they are when they are one text."""
        return super()._encode_pair(context, continuation)

    def score(self, requests: list[tuple[Any, list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Of each (text, context, answer): the answer's log likelihood, nats, and whether it is the likeliest."""
        return super()._loglikelihood_tokens(requests)

    def _encode_pair(self, context: str, continuation: str) -> Pair:
        return self.encode_pair(context, continuation)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        return self.score(requests)


@contextmanager
def calmed() -> Iterator[None]:
    """lm-eval without a bar for every task and without its warnings, and each template compiled once instead of per question."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "transformers", "datasets")]
    levels = [logger.level for logger in loggers]
    with ExitStack() as undo:
        for holder, name, ours in (
            (lm_eval.api.task, "tqdm", partial(tqdm, disable=True)),
            (templates, "from_string", lru_cache(maxsize=4096)(templates.from_string)),
        ):
            undo.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, ours)
        for logger, level in zip(loggers, levels, strict=True):
            undo.callback(logger.setLevel, level)
            logger.setLevel(logging.ERROR)
        yield
