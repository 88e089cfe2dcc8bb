"""Arithmetic on published figures alone: does a number fit the others, and what is possible? Nothing here reads our results.

A finding is a sentence with the numbers in it and whether they are odd. Odd is no proof of a mistake; it is what a reader should
know. Standard errors are binomial, and of two scores as if their questions were independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from acodm_analysis.core.seed_statistics import crossing

ODD_ERRORS = 2.0  # standard errors from which on a gap counts


@dataclass(frozen=True)
class Finding:
    text: str
    odd: bool


def _error(share: float, items: int) -> float:
    return math.sqrt(share * (1 - share) / items)


def _against(found: float, printed: float, slack: float, text: str) -> Finding:
    """A figure computed from others beside the printed one; odd where they lie more than ``slack`` apart."""
    odd = not abs(found - printed) <= slack
    figure = f"{printed:,.0f}" if abs(printed) >= 1000 else f"{printed:g}"
    return Finding(f"{text}; printed: {figure}" + (", which is another number" if odd else ""), odd)


def fewer_steps_from(steps: float, of: float, printed: float) -> Finding:
    """Steps over steps, against the percentage in the text."""
    found = 100 * (1 - steps / of)
    return _against(found, printed, 0.5, f"{steps:,} of {of:,} steps are {found:.1f} % fewer")


def crossing_on_curve(steps: Sequence[int], curve: Sequence[float], to: float, printed: float) -> Finding:
    """Where the digitised curve of perplexities falls to ``to``, against the step in the table (a tenth of it is the reading's)."""
    found = crossing(steps, np.log(curve), math.log(to))
    return _against(found, printed, 0.1 * printed, f"its curve, as read off, reaches {to:g} at step {found:,.0f}")


def faster_on_curve(steps: Sequence[int], curve: Sequence[float], to: float, of: float, printed: float) -> Finding:
    """How long before step ``of`` the digitised curve falls to ``to``, against a percentage (two points are the reading's)."""
    at = crossing(steps, np.log(curve), math.log(to))
    found = 100 * (1 - at / of)
    text = f"its curve, as read off, reaches {to:g} at step {at:,.0f}, which is {found:.1f} % before step {of:,}"
    return _against(found, printed, 2, text)


def lead_on_curve(steps: Sequence[int], ahead: Sequence[float], behind: Sequence[float], at: int) -> Finding:
    """How many times as many steps the method behind takes to where the one ahead is at step ``at``; odd from two on."""
    level = ahead[list(steps).index(at)]
    found = crossing(steps, np.log(behind), math.log(level))
    text = f"at step {at:,} its curve is at {level:g}, ODM's gets there at step {found:,.0f}: {found / at:.1f} times as many"
    return Finding(f"{text}, with the same model and tokens, from the mixture alone", found / at > 2)


def step_time_ratio(seconds: float, of: float, printed: float) -> Finding:
    """How much longer one step is than another, against the percentage in the text."""
    found = 100 * (seconds / of - 1)
    return _against(found, printed, 0.1, f"{seconds:g} s is {found:.2f} % longer than {of:g} s")


def host_traffic(
    parameters: float, copies: int, bytes_each: int, extra_seconds: float, link_gigabytes: float
) -> Finding:
    """The rate at which gradients would have to reach the host, against what the link carries (gigabytes a second)."""
    size = parameters * copies * bytes_each / 1e9
    rate = size / extra_seconds
    return Finding(
        f"the release copies {parameters / 1e6:.1f}M gradients {copies} times a step to the host, {size:.2f} GB at {bytes_each}"
        f" bytes each; within the {extra_seconds:g} s claimed that is {rate:.0f} GB/s, and PCIe 4.0 x16 carries {link_gigabytes:g}",
        rate > link_gigabytes,
    )


def gradient_matrix(domains: int, parameters: float, bytes_each: int) -> Finding:
    """Bytes of one gradient a domain, and of what they are two percent."""
    size = domains * parameters * bytes_each / 1e9
    return Finding(
        f"the release keeps {domains} × {parameters / 1e6:.1f}M float32 gradients on the host: {size:.2f} GB, 2 % of"
        f" {size / 0.02:.0f} GB; it is not said of which memory",
        False,
    )


def agent_parameters(state: int, domains: int, width: int, blocks: int) -> int:
    """Parameters of actor, critic and their two copies: blocks of Linear and LayerNorm, and a Linear head."""

    def one(inputs: int) -> int:
        body = (inputs + 1) * width + (blocks - 1) * (width + 1) * width + blocks * 2 * width
        return body + (width + 1) * domains

    return 2 * (one(state) + one(state + domains))


def networks(state: int, domains: int, width: int, blocks: int, printed: float) -> Finding:
    """``agent_parameters`` against the number that is printed."""
    found = agent_parameters(state, domains, width, blocks)
    return _against(found, printed, 0.05 * printed, f"actor, critic and their copies have {found:,} parameters")


def speedup_from(steps: float, seconds: float, of_steps: float, of_seconds: float, printed: float) -> Finding:
    """Steps times seconds, over steps times seconds."""
    found = of_steps * of_seconds / (steps * seconds)
    return _against(
        found, printed, 0.01, f"{of_steps:,} × {of_seconds:g} s over {steps:,} × {seconds:g} s is {found:.2f}"
    )


def proxy_charge(steps: float, seconds: float, of_steps: float, printed: float, proxy: float, target: float) -> Finding:
    """The seconds that a speed-up leaves for the proxy (``proxy`` and ``target``: billions of parameters); odd where the
    proxy would be more than twice as fast for its size as the target."""
    left = of_steps * seconds / printed - steps * seconds
    share, size = left / of_steps / seconds, proxy / target
    return Finding(
        f"a speed-up of {printed:g} leaves {left:,.0f} s for the proxy, {left / of_steps:.2f} s for each of {of_steps:,} steps:"
        f" {100 * share:.0f} % of the target's step for {100 * size:.0f} % of its parameters",
        share < size / 2,
    )


def perplexity_below(perplexity: float, than: float, printed: float) -> Finding:
    """Perplexity over perplexity, against the percentage in the text."""
    found = 100 * (1 - perplexity / than)
    return _against(found, printed, 0.5, f"{perplexity:g} is {found:.1f} % below {than:g}")


def other_measurement(perplexity: float, than: float, who: str) -> Finding:
    """What others measured of the same two methods; odd where it points the other way."""
    gap = 100 * (perplexity / than - 1)
    way = "above" if gap > 0 else "below"
    return Finding(f"{who} measured {perplexity:g} against {than:g}: {abs(gap):.1f} % {way}", gap > 0)


def quotient(of: float, by: float, printed: float) -> Finding:
    """One figure over another, against the printed percentage (a tenth of it is rounding)."""
    found = 100 * of / by
    return _against(found, printed, 0.1 * printed, f"{of:.3g} is {found:.0f} % of {by:.3g}")


def sign_test(won: int, of: int) -> Finding:
    """The chance of so uneven a count of domains if nothing were better, were domains independent."""
    p = stats.binomtest(won, of).pvalue
    return Finding(f"{won} of {of} domains: p = {p:.3f} by the sign test, were domains independent", p > 0.05)


def relative_gain(score: float, of: float, printed: float) -> Finding:
    """Score over score, against the percentage in the text."""
    found = 100 * (score / of - 1)
    return _against(found, printed, 0.5, f"{score:g} is {found:.1f} % over {of:g}")


def chance_level(score: float, chance: float, questions: int, letters: Sequence[float] = ()) -> Finding:
    """Standard errors between a score and guessing; odd below two: it shows no knowledge.

    ``letters``: what a model scores that always answers with the rarest, with the most frequent letter.
    """
    errors = (score - chance) / _error(chance, questions)
    what = f"{abs(errors):.1f} standard errors {'above' if errors > 0 else 'below'} chance"
    text = f"{score:g} is {what} ({chance:g}; one is {_error(chance, questions):.4f} over {questions:,} questions)"
    if abs(errors) <= ODD_ERRORS:
        text += ": no more than guessing"
    elif errors < 0 and letters:
        way = "within" if score >= letters[0] else "below"
        text += f", {way} what one letter throughout scores ({letters[0]:g} to {letters[1]:g}): a matter of the answers' format"
    return Finding(text, errors < ODD_ERRORS)


def above_public(score: float, public: Mapping[str, float], questions: int) -> Finding:
    """A score, read as a share, against public models of its size; odd from three standard errors above the best."""
    best = max(public.values())
    errors = (score - best) / math.hypot(_error(score, questions), _error(best, questions))
    known = ", ".join(f"{name} {value:g}" for name, value in public.items())
    return Finding(
        f"read as a share, {score:g} is {errors:.1f} standard errors above the best of comparable public models ({known})",
        errors > 3,
    )


def problems_solved(percent: float, against: float, problems: int) -> Finding:
    """Two scores, read as percent, in problems solved."""
    one, other = percent / 100, against / 100
    errors = (one - other) / math.hypot(_error(one, problems), _error(other, problems))
    return Finding(
        f"read as percent, {percent:g} is {one * problems:.1f} of {problems} problems and {against:g} is {other * problems:.1f}:"
        f" {(one - other) * problems:.1f} of a problem apart, {errors:.1f} standard errors",
        errors < ODD_ERRORS,
    )


def multiple_of_problems(score: float, problems: int) -> Finding:
    """Whether one attempt a problem can give the score, as a share or as percent (printed to five digits)."""
    solved = [score * problems, score / 100 * problems]
    fits = [abs(value - round(value)) <= 5e-6 * problems / scale for value, scale in zip(solved, (1, 100), strict=True)]
    words = " nor ".join(
        f"{value:.2f} of {problems} {kind}" for value, kind in zip(solved, ("(share)", "(percent)"), strict=True)
    )
    if any(fits):
        return Finding(f"{score:g} is a whole number of {problems} problems", False)
    return Finding(
        f"{score:g} is no whole number of problems, neither {words}: how many samples were drawn is not said", True
    )


def gap_in_errors(score: float, against: float, questions: int) -> Finding:
    """Two scores on as many questions, in standard errors of their difference; odd below two."""
    errors = (score - against) / math.hypot(_error(score, questions), _error(against, questions))
    return Finding(
        f"{score:g} and {against:g} are {abs(errors):.1f} standard errors apart over {questions:,} questions",
        abs(errors) < ODD_ERRORS,
    )


def same_figure(quoted: float, where: str, equals: float, whose: str, instead: float) -> Finding:
    """A quoted figure that is another quantity's."""
    odd = quoted == equals
    return Finding(
        f"{quoted:g} in {where} is {whose}; its own is {instead:g}" if odd else f"{quoted:g} stands alone", odd
    )


def left_out(value: float, rival: float, who: str) -> Finding:
    """A better figure that a comparison does not show."""
    return Finding(f"its figure ends at {value:g} and leaves out {who}, which ended at {rival:g}", rival < value)


CHECKS: dict[str, Callable[..., Finding]] = {
    function.__name__: function
    for function in (
        fewer_steps_from,
        crossing_on_curve,
        faster_on_curve,
        lead_on_curve,
        step_time_ratio,
        host_traffic,
        gradient_matrix,
        networks,
        speedup_from,
        proxy_charge,
        perplexity_below,
        other_measurement,
        quotient,
        sign_test,
        relative_gain,
        chance_level,
        above_public,
        problems_solved,
        multiple_of_problems,
        gap_in_errors,
        same_figure,
        left_out,
    )
}
