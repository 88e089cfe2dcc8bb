"""PiKE worked out from its equations: arXiv 2502.06244, the practical and the conceptual algorithm, and Balanced-PiKE."""

from __future__ import annotations

import math

Statistics = list[float | None]  # a domain each; None where the batch had too little of it


def path(case: dict) -> list[list[float]]:
    """Weights after every update, the floor included."""
    k, inner = case["domains"], [1 / case["domains"]] * case["domains"]
    square: Statistics = [None] * k
    noise: Statistics = [None] * k
    loss: Statistics = [None] * k
    out = []
    for seen in case["updates"]:
        square = averaged(square, seen["square"], case["memory"])
        noise = averaged(noise, seen["noise"], case["memory"])
        loss = averaged(loss, seen["loss"], case["memory"])
        slope, jitter = square, noise
        if case["tau"]:  # Balanced-PiKE: the losses y_k L_k, whose gradients are y_k times as long
            powers = [math.exp(case["tau"] * value) for value in loss]
            dual = [value / sum(powers) for value in powers]
            slope = [y**2 * value for y, value in zip(dual, square, strict=True)]
            jitter = [y**2 * value for y, value in zip(dual, noise, strict=True)]
        if case["rule"] == "practical":
            inner = practical(inner, over_mean(slope), over_mean(jitter), case["zeta1"], case["zeta2_over_2b"])
        else:
            inner = conceptual(slope, jitter, case["step_size"], case["batch"])
        out.append([(1 - case["floor"]) * w + case["floor"] / k for w in inner])
    return out


def practical(w: list[float], square: list[float], noise: list[float], zeta1: float, zeta2: float) -> list[float]:
    """w_k <- w_k exp(zeta1 |g_k|^2 - zeta2 sigma_k^2), normalised; ``zeta2`` is the paper's over twice the batch."""
    raised = [old * math.exp(zeta1 * g - zeta2 * s) for old, g, s in zip(w, square, noise, strict=True)]
    return [value / sum(raised) for value in raised]


def conceptual(square: list[float], noise: list[float], step_size: float, batch: float) -> list[float]:
    """w_k = max(0, -(mu + lambda_k) / kappa_k), with mu by bisection so that they sum to 1 (beta = gamma = 1)."""
    linear = [step_size * s / (2 * batch) - g for g, s in zip(square, noise, strict=True)]
    curve = [step_size * g for g in square]

    def weights(mu: float) -> list[float]:
        return [max(0.0, -(mu + lam) / kappa) for lam, kappa in zip(linear, curve, strict=True)]

    low, high = -max(linear) - max(curve), -min(linear)  # the sum is at least 1 at the first and 0 at the second
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) > 1 else (low, middle)
    return weights(low)


def averaged(old: Statistics, new: Statistics, memory: float) -> Statistics:
    """Moving averages that begin at the first value, and stay where there is no new one."""
    return [
        x if y is None else y if x is None else memory * x + (1 - memory) * y for x, y in zip(old, new, strict=True)
    ]


def over_mean(values: list[float]) -> list[float]:
    return [value * len(values) / sum(values) for value in values]
