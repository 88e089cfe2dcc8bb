"""Aioli worked out from its equations: arXiv 2411.05735, LearnParams in exact fractions, and the exponentiated update."""

from __future__ import annotations

import math
from fractions import Fraction

from .linear import solve


def path(case: dict) -> list[list[float]]:
    """Weights after every round: p_j ~ p_j exp(eta sum_i K w_i A_ij), or with a memory of A from uniform again."""
    k, memory, target = case["domains"], case["memory"], case["target"]
    weights, kept, before, out = [1 / k] * k, None, case["first"], []
    for turn in case["rounds"]:
        effect, base = learn(turn, before, case["focus"], k), weights
        before = turn["end"]
        if memory is not None:
            past, base = kept or effect, [1 / k] * k
            kept = [[(1 - memory) * effect[i][j] + memory * past[i][j] for j in range(k)] for i in range(k)]
            effect = kept
        gain = [sum(k * target[i] * effect[i][j] for i in range(k)) for j in range(k)]
        raised = [base[j] * math.exp(case["eta"] * gain[j]) for j in range(k)]
        weights = [value / sum(raised) for value in raised]
        out.append(weights)
    return out


def learn(turn: dict, before: list[float], focus: float, k: int) -> list[list[float]]:
    """A: row i is what each domain did to loss i, with no entry below 0 and a sum of 1.

    Domain ``order[s]`` had its turn in trial s, which left ``losses[s]``; all of it in as many sweeps as it came up.
    """
    drop = [[Fraction(0)] * k for _ in range(k)]
    for j, after in zip(turn["order"], turn["losses"], strict=True):
        for i in range(k):
            drop[i][j] += Fraction(before[i]) - Fraction(after[i])
        before = after
    sweeps = len(turn["order"]) // k
    on, off = Fraction(focus), (1 - Fraction(focus)) / (k - 1)
    mixtures = [[on if i == j else off for i in range(k)] for j in range(k)]
    effect = [solve(mixtures, [value / sweeps for value in row]) for row in drop]
    least = min(0, min(map(min, effect)))
    effect = [[value - least for value in row] for row in effect]
    total = sum(map(sum, effect))
    return [[float(value / total) for value in row] for row in effect]
