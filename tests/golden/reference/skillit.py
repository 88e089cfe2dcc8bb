"""Skill-it worked out from its equations: arXiv 2307.14430, the skills graph and the update over a window of losses."""

from __future__ import annotations

import math


def path(case: dict) -> list[list[float]]:
    """Weights at first and after every look: p_i ~ exp(eta sum_j K w_j A_ij (sum of the last losses of j))."""
    effect, k = graph(case["before"], case["after"]), case["domains"]
    sums = [[1.0] * k]
    for look in range(1, len(case["losses"]) + 1):
        recent = case["losses"][max(0, look - case["window"]) : look]
        sums.append([sum(losses[j] for losses in recent) for j in range(k)])
    out = []
    for total in sums:
        gain = [sum(k * case["target"][j] * effect[i][j] * total[j] for j in range(k)) for i in range(k)]
        raised = [math.exp(case["eta"] * value) for value in gain]
        out.append([value / sum(raised) for value in raised])
    return out


def graph(before: list[list[float]], after: list[list[float]]) -> list[list[float]]:
    """A_ij: by how much the run on domain i alone took domain j's loss down, as a share of it, and not below 0."""
    return [
        [max(0.0, (b - a) / b) for b, a in zip(begun, ended, strict=True)]
        for begun, ended in zip(before, after, strict=True)
    ]
