"""Constants that live in steps: from the length of a paper's runs to the length of ours (docs/reference/protocol.md)."""

from __future__ import annotations


def rescaled(rate: float, *, of: float, to: float) -> float:
    """A rate per step of a run of ``of`` steps, as one per step of a run of ``to`` steps.

    What a step keeps, 1 - rate, becomes (1 - rate)^(of / to), so that the half-life is the same share of either run.
    """
    return 1.0 - (1.0 - rate) ** (of / to)
