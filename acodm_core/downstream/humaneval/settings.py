"""What decides the samples of a checkpoint; imports nothing heavy, as the commands make it from their options."""

from __future__ import annotations

from dataclasses import dataclass

from acodm_core.errors import UserError


@dataclass(frozen=True)
class Settings:
    """How HumanEval is sampled.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_p: the least mass of likeliest tokens that is drawn from (Holtzman et al. 2020, arXiv 1904.09751).
        samples: per problem.
        max_new_tokens: per sample; None for 512, or half the context where that is less.
    """

    temperature: float = 0.2
    top_p: float = 0.95
    samples: int = 10
    seed: int = 0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.samples > 1:
            raise UserError(
                f"at temperature 0 all {self.samples} samples of a problem are one",
                where="--temperature",
                fix="--samples 1",
            )

    def new_tokens(self, context: int) -> int:
        """Tokens that a sample may have; UserError where they leave no room for a prompt."""
        wanted = min(512, context // 2) if self.max_new_tokens is None else self.max_new_tokens
        if wanted >= context:
            raise UserError(
                f"{wanted} new tokens leave no room for a prompt in a context of {context}", where="--max-new-tokens"
            )
        return wanted
