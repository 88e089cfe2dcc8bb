"""Linear equations by Gauss-Jordan elimination, in whatever numbers they come: exact in fractions."""

from __future__ import annotations

from fractions import Fraction

Number = float | Fraction


def solve(matrix: list[list[Number]], right: list[Number]) -> list[Number]:
    """x of matrix x = right; the largest entry of a column is its pivot."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(len(rows)):
        pivot = max(range(column, len(rows)), key=lambda r: abs(rows[r][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for r in range(len(rows)):
            if r != column:
                factor = rows[r][column]
                rows[r] = [value - factor * lead for value, lead in zip(rows[r], rows[column], strict=True)]
    return [row[-1] for row in rows]


def least_squares(rows: list[list[Number]], values: list[Number]) -> list[Number]:
    """Coefficients of the columns of ``rows`` whose sum is nearest to ``values``, by the normal equations."""
    columns = list(zip(*rows, strict=True))
    gram = [[sum(x * y for x, y in zip(one, other, strict=True)) for other in columns] for one in columns]
    return solve(gram, [sum(x * y for x, y in zip(one, values, strict=True)) for one in columns])
