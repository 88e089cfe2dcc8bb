"""Coarser domains for any mixer: it sees groups of domains, the trainer still draws and measures domains.

Legend: K domains, G groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.errors import UserError, unknown_name
from acodm_core.mixing import Adapters, Mixer, Signal, Start, StepStats


def partition(
    groups: Mapping[str, Sequence[str]] | int, domains: Sequence[str], *, where: str
) -> dict[str, tuple[str, ...]]:
    """Group -> its domains, both in the order of ``domains``, so that the order of a configuration means nothing.

    Args:
        groups: the partition, or a number of groups of neighbours in ``domains``, as equal in size as possible; such a group
            is called by its domains' names, joined by ``+``.
        where: YAML path of ``groups``, for errors.

    Raises:
        UserError: unknown, missing or doubled domains, an empty group, more groups than domains.
    """
    if isinstance(groups, int):
        if groups > len(domains):
            raise UserError(f"{groups} groups of {len(domains)} domains", where=where, fix=f"at most {len(domains)}")
        parts = np.array_split(np.array(domains, dtype=object), groups)
        return {"+".join(part): tuple(part) for part in parts}
    named = [domain for group in groups.values() for domain in group]
    for group, members in groups.items():
        if not members:
            raise UserError("a group of no domains", where=f"{where}.{group}", fix="name its domains, or leave it out")
        for domain in members:
            if domain not in domains:
                raise unknown_name("domain", domain, domains, where=f"{where}.{group}")
    missing = [domain for domain in domains if domain not in named]
    doubled = [domain for domain in domains if named.count(domain) > 1]
    if missing or doubled:
        raise UserError(
            f"every domain belongs to exactly one group; missing {missing}, named more than once {doubled}", where=where
        )
    place = {domain: i for i, domain in enumerate(domains)}
    ordered = {group: tuple(sorted(members, key=place.__getitem__)) for group, members in groups.items()}
    return dict(sorted(ordered.items(), key=lambda item: place[item[1][0]]))


class Grouped(Mixer):
    """``mixer`` on groups of domains; to everybody else a mixer of domains.

    Inside a group, domains are drawn by their natural shares. A group's loss and gradient are those of the mean loss over the
    tokens that the step drew from it: with A (G, K) the shares of a group's tokens that came from its members, losses,
    type-token ratios and sketches merge as A S and the Gram as A H A^T. (So do squared norms and noise, of which the mean over
    members is not that of their mean gradient.) A group's held-out loss and embedding do not depend on the draw: there its
    members weigh what they do inside the group.

    Args:
        groups: group -> domains, a partition as ``partition`` gives it.
    """

    def __init__(self, mixer: Mixer, groups: Mapping[str, Sequence[str]]) -> None:
        self.mixer, self.groups = mixer, groups

    @property
    def needs(self) -> frozenset[Signal]:
        return self.mixer.needs

    def start(self, start: Start) -> None:
        group_of = {domain: g for g, members in enumerate(self.groups.values()) for domain in members}
        self._group_K = np.array([group_of[domain] for domain in start.domains])
        self._member_GK = np.arange(len(self.groups))[:, None] == self._group_K
        prior_G = self._member_GK @ start.prior
        self._inside_K = start.prior / prior_G[self._group_K]
        self.mixer.start(
            dataclasses.replace(
                start,
                domains=tuple(self.groups),
                prior=prior_G,
                tokens_available=self._member_GK @ start.tokens_available,
                objective_weights=self._member_GK @ start.objective_weights,
            )
        )

    def sampling_weights(self, step: int) -> np.ndarray:
        return self._of_domains(self.mixer.sampling_weights(step))

    def _of_domains(self, mixture_XG: np.ndarray) -> np.ndarray:
        return mixture_XG[..., self._group_K] * self._inside_K

    def wants(self, step: int) -> frozenset[Signal]:
        return self.mixer.wants(step)

    def loss_weights(self, step: int) -> np.ndarray | None:
        omega_G = self.mixer.loss_weights(step)
        return None if omega_G is None else omega_G[self._group_K]

    def adapters(self) -> Adapters | None:
        asked = self.mixer.adapters()
        return asked and dataclasses.replace(asked, mixture_AK=self._of_domains(asked.mixture_AK))

    def observe(self, stats: StepStats) -> None:
        tokens_G = self._member_GK @ stats.tokens
        mixture_GK = self._member_GK * stats.tokens / np.maximum(tokens_G, 1)[:, None]
        inside_GK = self._member_GK * self._inside_K
        merged = {
            signal: _merge(signal, value, mixture_GK if signal.info.source.of_batch else inside_GK)
            for signal, value in stats.items()
        }
        self.mixer.observe(StepStats(stats.step, tokens_G, merged))

    def required_inputs(self) -> tuple[str, ...]:
        return self.mixer.required_inputs()

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        self.mixer.check(tuple(self.groups), where=where)

    def diagnostics(self) -> dict[str, float | np.ndarray]:
        return self.mixer.diagnostics()

    def save(self, folder: Path) -> list[str] | None:
        return self.mixer.save(folder)

    def state_dict(self) -> dict[str, Any]:
        return self.mixer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mixer.load_state_dict(state)


def _merge(signal: Signal, value: np.ndarray, mixture_GK: np.ndarray) -> np.ndarray:
    """``value`` of domains as that of groups; a signal that is not about domains as it is."""
    if not signal.info.of_domains:
        return value
    mean = _mean(mixture_GK, value)
    return _mean(mixture_GK, mean.T) if signal.info.shape == "KK" else mean


def _mean(mixture_GK: np.ndarray, value_KX: np.ndarray) -> np.ndarray:
    """(G, ...) means over present members; NaN for a group of which nothing was drawn, and where a present member is NaN."""
    used_GK = mixture_GK > 0
    mean_GX = mixture_GK @ np.where(np.isnan(value_KX), 0.0, value_KX)
    mean_GX[used_GK @ np.isnan(value_KX)] = np.nan
    mean_GX[~used_GK.any(axis=1)] = np.nan
    return mean_GX
