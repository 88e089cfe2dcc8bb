"""Held-out losses and embeddings of every domain: the same tokens in the same order for every method, seed and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from acodm_core.data.corpus import Corpus
from acodm_core.lm.distributed.ranks import from_every_rank, rank, ranks
from acodm_core.lm.kernels.fused_loss import token_losses
from acodm_core.lm.model import middle_states


@dataclass(frozen=True)
class Evaluation:
    loss_K: np.ndarray  # mean nats a token
    bits_per_byte_K: np.ndarray


class Evaluator:
    """The first ``sequences`` windows of each domain's ``split``, held in memory.

    Args:
        rows: sequences a forward pass.
        last: take the last windows instead, which are among the first only in a domain that has no others.
    """

    def __init__(
        self, corpus: Corpus, split: str, *, sequences: int, context: int, rows: int, last: bool = False
    ) -> None:
        windows, domain = [], []
        for k, name in enumerate(corpus.domains):
            tokens = corpus.tokens(split, name)
            there = (len(tokens) - 1) // context
            if there < 1:
                raise ValueError(f"domain {name!r} has {len(tokens)} {split} tokens, under one context of {context}")
            chosen = range(there)[-sequences:] if last else range(there)[:sequences]
            windows += [np.asarray(tokens[i * context : (i + 1) * context + 1]) for i in chosen]
            domain += [k] * len(chosen)
        self._tokens_NS = torch.from_numpy(np.stack(windows).astype(np.int64))
        self._domain_N = np.array(domain)
        self.split, self._rows, self._domains = split, rows, len(corpus.domains)
        bytes_N = torch.from_numpy(np.asarray(corpus.token_bytes, dtype=np.int64))[self._tokens_NS[:, 1:]].sum(1)
        self._bytes_K = np.bincount(self._domain_N, bytes_N.numpy(), self._domains)
        self._count_K = np.bincount(self._domain_N, minlength=self._domains) * context

    @property
    def sequences(self) -> int:
        """Of all domains together."""
        return len(self._tokens_NS)

    def __call__(self, model: torch.nn.Module, autocast: torch.autocast) -> Evaluation:
        """Mean loss of each domain under ``model``."""
        nats_N = self._each(
            model, autocast, lambda tokens_BS: token_losses(model, tokens_BS).sum(1, dtype=torch.float64)
        )
        nats_K = np.bincount(self._domain_N, nats_N, self._domains)
        return Evaluation(nats_K / self._count_K, nats_K / self._bytes_K / np.log(2))

    def embeddings(self, model: torch.nn.Module, autocast: torch.autocast) -> np.ndarray:
        """(K, H) mean over each domain's tokens of ``middle_states``; a window has no padding, so every position counts."""
        sum_NH = self._each(
            model, autocast, lambda tokens_BS: middle_states(model, tokens_BS).sum(1, dtype=torch.float64)
        )
        sum_KH = np.zeros((self._domains, sum_NH.shape[1]))
        np.add.at(sum_KH, self._domain_N, sum_NH)
        return sum_KH / self._count_K[:, None]

    @torch.no_grad()
    def _each(
        self, model: torch.nn.Module, autocast: torch.autocast, look: Callable[[torch.Tensor], torch.Tensor]
    ) -> np.ndarray:
        """(N, ...) what ``look`` sees in each window, a batch at a time; the ranks take turns, and all get everything."""
        device = next(model.parameters()).device
        batches = self._tokens_NS.split(self._rows)
        mine: dict[int, np.ndarray] = {}
        model.eval()
        for first in range(0, len(batches), ranks()):  # equally often on each rank: a model that is cut needs them all
            index = min(first + rank(), len(batches) - 1)
            with autocast:
                mine[index] = look(batches[index].to(device)).cpu().numpy()
        model.train()
        found = {index: seen for one in from_every_rank(mine) for index, seen in one.items()}
        return np.concatenate([found[index] for index in range(len(batches))])
