"""ADO worked out from its equations: arXiv 2410.11820, each domain's scaling law and the mixture that follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .linear import least_squares

Law = list[float]  # eps, beta, alpha of loss(n) = eps + beta n^-alpha


def path(case: dict, laws: Mapping[int, list[Law]]) -> list[list[float]]:
    """Weights after every step; ``laws`` has those that hold from the end of a step on, by its number from 1."""
    prior, k, law = case["prior"], case["domains"], None
    credit, average, out = prior, prior, []
    for step, counts in enumerate(case["counts"], start=1):
        credit = [
            case["memory"] * h + (1 - case["memory"]) * count / sum(counts)
            for h, count in zip(credit, counts, strict=True)
        ]
        law = laws.get(step, law)
        if law is None:
            out.append(prior)
            continue
        speed = [max(alpha, 0.05) * (beta * step**-alpha) / step for _, beta, alpha in law]
        wish = shares([prior[i] * speed[i] * credit[i] ** case["credit"] for i in range(k)])
        wish = shares([max(value, case["floor"]) for value in wish])
        out.append([(1 - case["mix"]) * average[i] + case["mix"] * wish[i] for i in range(k)])
        average = [average[i] * (1 - 1 / step) + wish[i] / step for i in range(k)]
    return out


def fits(case: dict) -> dict[int, list[Law]]:
    """The laws at every step that fits them: to smoothed losses, from ``ignore`` steps on, nearest in their logarithms."""
    found = {}
    columns = [carried(column) for column in zip(*case["losses"], strict=True)]
    for step in range(case["refit"], len(case["losses"]) + 1, case["refit"]):
        if step - case["ignore"] >= 10:
            steps = [n + 1 for n in range(case["ignore"], step)]
            found[step] = [
                nearest(steps, smoothed(column[:step], case["windows"][str(step)])[case["ignore"] :])
                for column in columns
            ]
    return found


def carried(losses: list[float | None]) -> list[float]:
    """The last loss stands where a step has none."""
    out: list[float] = []
    for loss in losses:
        out.append(out[-1] if loss is None else loss)
    return out


def smoothed(losses: list[float], window: int) -> list[float]:
    """Savitzky-Golay of order 3: the cubic nearest to the window around each point; at the ends, the outermost window's."""
    out = []
    for place in range(len(losses)):
        start = min(max(0, place - window // 2), len(losses) - window)
        offsets = [(start + i - place) / window for i in range(window)]
        rows = [[1.0, x, x * x, x**3] for x in offsets]
        out.append(least_squares(rows, losses[start : start + window])[0])  # the cubic at the point itself
    return out


def line_at(alpha: float, steps: list[int], losses: list[float]) -> tuple[float, float, float]:
    """(eps, beta, squared error) of the least squares at one alpha."""
    powers = [n**-alpha for n in steps]
    eps, beta = least_squares([[1.0, x] for x in powers], losses)
    return eps, beta, sum((eps + beta * x - y) ** 2 for x, y in zip(powers, losses, strict=True))


def from_grid(steps: list[int], losses: list[float]) -> Law:
    """Least squares of the losses: alpha on a grid, then by golden sections; eps and beta are linear once it is known."""
    best = min((0.01 * i for i in range(1, 101)), key=lambda alpha: line_at(alpha, steps, losses)[2])
    low, high, golden = best - 0.01, best + 0.01, (5**0.5 - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if line_at(left, steps, losses)[2] < line_at(right, steps, losses)[2]:
            high = right
        else:
            low = left
    eps, beta, _ = line_at((low + high) / 2, steps, losses)
    return [eps, beta, (low + high) / 2]


def nearest(steps: list[int], losses: list[float]) -> Law:
    """Least squares of the losses' logarithms by Gauss-Newton: the Huber loss where every error is below its delta."""
    eps, beta, alpha = from_grid(steps, losses)
    for _ in range(30):
        rows, errors = [], []
        for n, loss in zip(steps, losses, strict=True):
            power = n**-alpha
            model = eps + beta * power
            rows.append([1 / model, power / model, -beta * power * math.log(n) / model])
            errors.append(math.log(loss) - math.log(model))
        move = least_squares(rows, errors)
        eps, beta, alpha = eps + move[0], beta + move[1], alpha + move[2]
    if max(map(abs, errors)) >= 1e-3:
        raise ValueError("errors beyond the Huber loss's delta: these are not its least squares")
    return [eps, beta, alpha]


def shares(values: list[float]) -> list[float]:
    return [value / sum(values) for value in values]
