"""RegMix worked out from its description: arXiv 2407.01492, its random mixtures, its regressions and its search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from .linear import least_squares

Rows = list[list[float]]


def mixtures(case: dict) -> tuple[Rows, Rows]:
    """(concentrations asked for, mixtures kept) of the draws of ``case``, each at the strength of its number.

    A draw that takes a domain by more than 15 times its natural share is refused, smaller shares than 2e-4 become 0, and
    what is left is rounded to multiples of that; a mixture that was there is not taken again.
    """
    prior = case["prior"]
    roots = [q**0.5 for q in prior]
    strengths = [0.1 * (5 / 0.1) ** (i / 14) for i in range(15)]
    asked = [[root / sum(roots) * strengths[number] for root in roots] for number in case["strengths"]]
    kept: list[list[int]] = []
    for draw in case["draws"]:
        if any(p > min(15 * q, 1) for p, q in zip(draw, prior, strict=True)):
            continue
        large = [0.0 if p < 2e-4 else p for p in draw]
        units = [round(p / sum(large) / 2e-4) for p in large]
        if units not in kept:
            kept.append(units)
    return asked, [[unit / sum(units) for unit in units] for units in kept]


def linear(rows: Rows, losses: list[float]) -> Callable[[list[float]], float]:
    """Least squares in exact fractions. No constant: weights that sum to 1 have one among them."""
    slopes = least_squares([[Fraction(p) for p in row] for row in rows], [Fraction(loss) for loss in losses])
    return lambda row: float(sum(slope * Fraction(p) for slope, p in zip(slopes, row, strict=True)))


def trees(rows: Rows, losses: list[float], rounds: int, rate: float, fewest: int) -> list[float]:
    """Predictions at ``rows`` of boosted trees of squared error, each grown until no leaf of ``fewest`` can be split off."""
    predicted = [sum(losses) / len(losses)] * len(losses)
    for _ in range(rounds):
        left_over = [loss - p for loss, p in zip(losses, predicted, strict=True)]
        for leaf in leaves(list(range(len(rows))), rows, left_over, fewest):
            mean = sum(left_over[n] for n in leaf) / len(leaf)
            for n in leaf:
                predicted[n] += rate * mean
    return predicted


def leaves(node: list[int], rows: Rows, values: list[float], fewest: int) -> Iterator[list[int]]:
    """The node's leaves, by the split that takes most squared error away, and so on."""
    total, best, parts = sum(values[n] for n in node), 0.0, None
    for column in range(len(rows[0])):
        order, left = sorted(node, key=lambda n: rows[n][column]), 0.0
        for size in range(1, len(node)):
            left += values[order[size - 1]]
            if min(size, len(node) - size) < fewest or rows[order[size - 1]][column] == rows[order[size]][column]:
                continue
            gain = left**2 / size + (total - left) ** 2 / (len(node) - size) - total**2 / len(node)
            if gain > best:
                best, parts = gain, (order[:size], order[size:])
    if parts is None:
        yield node
    else:
        for part in parts:
            yield from leaves(part, rows, values, fewest)


def lattice(k: int, parts: int) -> Rows:
    """Every mixture of k domains in multiples of 1 / parts."""

    def split(k: int, left: int) -> Iterator[list[int]]:
        if k == 1:
            yield [left]
        else:
            for first in range(left + 1):
                for rest in split(k - 1, left - first):
                    yield [first, *rest]

    return [[count / parts for count in counts] for counts in split(k, parts)]


def search(candidates: Rows, predicted: list[float], best: int) -> list[float]:
    """Mean of the ``best`` candidates of lowest prediction; ValueError if it is a matter of rounding which they are."""
    order = sorted(range(len(candidates)), key=lambda n: predicted[n])
    if predicted[order[best]] - predicted[order[best - 1]] < 1e-6:
        raise ValueError(f"the best {best} are not clear")
    return [sum(candidates[n][i] for n in order[:best]) / best for i in range(len(candidates[0]))]
