"""Writes ``tests/golden/worked.json``: small cases of five methods, worked out by the files beside this one.

Run in ``tests``:  python -m golden.reference.worked
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from . import ado, aioli, pike, regmix, skillit

FILE = Path(__file__).parents[1] / "worked.json"


def provenance(name: str, source: str, *, before: str, after: str, documented: str) -> dict[str, str]:
    """Where a method's values come from; ``before`` and ``after`` its author had read the mixer that they test."""
    how = "plain Python, which imports the standard library alone and nothing of this project; the equations are from notes on"
    return {
        "computed_by": f"tests/golden/reference/{name}.py: {how} the paper and the release",
        "equations": source,
        "written_before_reading_the_mixer": before,
        "written_after": after,
        "differences_that_the_mixer_documents": documented,
    }


def digits(*places: int) -> float:
    """A number in [0, 1) of four digits that has no pattern to speak of, and is the same on every machine."""
    state = 17
    for place in places:
        state = (state * 7919 + place * 104729 + 12345) % 1000003
        state = (state * state + 31 * place) % 1000003
    return state % 10000 / 10000


def pike_case(**changes) -> dict:
    case = {"domains": 4, "rule": "practical", "zeta1": 0.2, "zeta2_over_2b": 0.1, "tau": 0.0, "memory": 0.6}
    case |= {"floor": 0.0, "step_size": 0.7, "batch": 64, **changes}
    updates = []
    for t in range(15):
        square = [(0.4 + digits(1, t, i)) * (1 + i) for i in range(4)]
        noise = [40 * (0.4 + digits(2, t, i)) * (5 - i) for i in range(4)]
        loss = [1 + 0.4 * i + digits(3, t, i) for i in range(4)]
        if t in (4, 5, 9):  # a batch with too little of one domain
            square[t % 4] = noise[t % 4] = None
            loss[t % 4] = None if t == 9 else loss[t % 4]
        updates.append({"square": square, "noise": noise, "loss": loss})
    case["updates"] = updates
    return case | {"weights": pike.path(case)}


def aioli_case(domains: int, sweeps: int, rounds: int, **changes) -> dict:
    case = {"domains": domains, "sweeps": sweeps, "eta": 1.0, "focus": 0.75, "memory": None}
    case |= {"target": [1 / domains] * domains, **changes}
    loss, turns = [6 + digits(4, i) for i in range(domains)], []

    def trained(*at: int, lead: int | None) -> list[float]:
        nonlocal loss
        fall = [
            0.08 * digits(*at, i) - 0.01 + (0.06 if i == lead else 0) + (0.05 if lead == 1 else 0)
            for i in range(domains)
        ]
        loss = [round(old - less, 4) for old, less in zip(loss, fall, strict=True)]
        return loss

    case["first"] = loss
    for r in range(rounds):
        order = [j for s in range(sweeps) for j in sorted(range(domains), key=lambda j: digits(5, r, s, j))]
        losses = [trained(6, r, place, lead=j) for place, j in enumerate(order)]
        turns.append({"order": order, "losses": losses, "end": trained(7, r, lead=None)})
    case["rounds"] = turns
    return case | {"weights": aioli.path(case)}


def skillit_case(**changes) -> dict:
    k = 3
    case = {"domains": k, "eta": 0.2, "window": 3, "target": [1 / k] * k, **changes}
    case["before"] = [[round(8 + digits(8, i, j), 4) for j in range(k)] for i in range(k)]
    drop = [[0.3, 0.05, 0.1], [0.12, 0.4, -0.06], [0.02, 0.15, 0.25]]  # one domain hurts another
    case["after"] = [
        [round(loss * (1 - share), 4) for loss, share in zip(*pair, strict=True)]
        for pair in zip(case["before"], drop, strict=True)
    ]
    case["losses"] = [
        [round(8 * (1 + t) ** -(0.1 + 0.15 * j) + digits(9, t, j), 4) for j in range(k)] for t in range(12)
    ]
    return case | {"weights": skillit.path(case)}


def ado_case(**changes) -> dict:
    case = {"domains": 4, "prior": [0.45, 0.3, 0.15, 0.1], "memory": 0.9, "credit": 0.5, "mix": 0.1, "floor": 0.01}
    return case | changes


def ado_given_laws() -> dict:
    """The mixture alone: laws that hold from the end of a step on, prior before, domains that steps did not draw."""
    counts = [[1 + int(6 * digits(10, t, i)) for i in range(4)] for t in range(30)]
    for t, absent in ((2, 3), (11, 0), (12, 0), (20, 2)):
        counts[t][absent] = 0
    first = [[1.5, 2.0, 0.3], [2.0, 4.0, 0.5], [0.8, 1.0, 0.02], [2.2, 1e-4, 0.4]]  # an exponent and a share too small
    later = [[1.5, 2.0, 0.3], [2.0, 1.0, 0.45], [0.8, 3.0, 0.2], [2.2, 2.0, 0.4]]
    case = ado_case(counts=counts, laws={"6": first, "18": later})
    return case | {"weights": ado.path(case, {int(step): law for step, law in case["laws"].items()})}


def ado_curves() -> dict:
    """From losses to weights: curves that are laws, but for one loss that the batch did not have."""
    laws = [[1.2, 3.0, 0.35], [2.0, 1.5, 0.2], [0.6, 4.0, 0.6], [1.8, 2.5, 0.5]]
    losses = [[eps + beta * n**-alpha for eps, beta, alpha in laws] for n in range(1, 61)]
    losses[44][1] = None
    counts = [[int(8 * digits(11, t, i)) + 1 for i in range(4)] for t in range(60)]
    counts[44][1] = 0
    case = ado_case(counts=counts, losses=losses, refit=20, ignore=20, windows={"40": 9, "60": 15})
    found = ado.fits(case)
    return case | {"laws": {str(step): law for step, law in found.items()}, "weights": ado.path(case, found)}


def ado_fits() -> list[dict]:
    """Curves without noise, and what a grid and golden sections say that they are."""
    cases = []
    for true in ([1.2, 3.0, 0.35], [2.0, 1.5, 0.2], [0.6, 4.0, 0.6]):
        steps = list(range(20, 320, 4))
        losses = [true[0] + true[1] * n ** -true[2] for n in steps]
        cases.append({"true": true, "steps": steps, "losses": losses, "law": ado.from_grid(steps, losses)})
    return cases


def regmix_generator() -> dict:
    """Draws of a prior under which one domain's cap is 1, one's .9 and one's .3: taken, refused, cut and rounded."""
    draws = [
        [0.5, 0.3, 0.2],
        [0.1, 0.55, 0.35],  # over the last domain's cap of .3
        [0.69985, 0.30000, 0.00015],  # a share under 2e-4, and not multiples of it
        [0.04, 0.93, 0.03],  # over the second's cap of .9
        [0.50003, 0.29996, 0.20001],  # the first one, once rounded
        [0.09995, 0.89995, 0.0001],  # under the second's cap when drawn, at it once what is small is gone
        [0.12345, 0.65432, 0.22223],
        [1.0, 0.0, 0.0],
    ]
    case = {"domains": 3, "prior": [0.92, 0.06, 0.02], "strengths": [7, 0, 14, 3, 11, 2, 9, 1], "draws": draws}
    concentrations, kept = regmix.mixtures(case)
    return case | {"concentrations": concentrations, "mixtures": kept}


def swarm_rows(runs: int, k: int) -> list[list[float]]:
    rows = []
    for n in range(runs):
        drawn = [-math.log(digits(12, n, i) + 1e-4) for i in range(k)]
        rows.append([round(value / sum(drawn), 4) for value in drawn[:-1]])
        rows[-1].append(round(1 - sum(rows[-1]), 4))
    return rows


def regmix_linear() -> dict:
    """Losses near a plane; candidates are all multiples of a twentieth, of which the best 16 are averaged."""
    k, rows, target = 4, swarm_rows(24, 4), [0.4, 0.3, 0.2, 0.1]
    slope = [[-0.9, 0.1, 0.2, 0.0], [0.3, -1.3, 0.1, -0.2], [0.2, 0.0, -0.7, 0.1], [0.0, -0.4, 0.2, -1.0]]
    losses = [
        [
            round(4 + sum(a * p for a, p in zip(line, row, strict=True)) + 0.2 * digits(13, n, i), 4)
            for i, line in enumerate(slope)
        ]
        for n, row in enumerate(rows)
    ]
    planes = [regmix.linear(rows, [loss[i] for loss in losses]) for i in range(k)]
    candidates = regmix.lattice(k, 20)
    predicted = [sum(w * plane(row) for w, plane in zip(target, planes, strict=True)) for row in candidates]
    case = {"domains": k, "target": target, "swarm": rows, "losses": losses, "parts": 20, "best": 16}
    return case | {"weights": regmix.search(candidates, predicted, 16)}


def log_linear(rows: list[list[float]]) -> list[list[float]]:
    """Losses by a law of data mixing, loss_i = c_i + k_i exp(-sum_j t_ij p_j): their mean is lowest inside the simplex."""
    laws = [(2.0, 0.5, [4.0, 0.5, 0.2]), (1.5, 3.0, [0.3, 5.0, 0.4]), (2.5, 0.9, [0.1, 0.6, 6.0])]
    return [
        [c + scale * math.exp(-sum(t * p for t, p in zip(line, row, strict=True))) for c, scale, line in laws]
        for row in rows
    ]


def regmix_trees() -> dict:
    """Boosted trees' predictions of 24 runs, and the search among the mixtures of these runs."""
    k, rows, target = 3, swarm_rows(24, 3), [0.5, 0.3, 0.2]
    losses = [[round(loss, 4) for loss in each] for each in log_linear(rows)]
    predicted = [regmix.trees(rows, [loss[i] for loss in losses], 1000, 0.01, 2) for i in range(k)]
    together = [sum(w * p for w, p in zip(target, each, strict=True)) for each in zip(*predicted, strict=True)]
    case = {"domains": k, "target": target, "swarm": rows, "losses": losses, "best": 3, "predicted": predicted}
    return case | {"weights": regmix.search(rows, together, 3)}


def regmix_law() -> dict:
    """96 runs of a known law, and its lowest mean loss among all multiples of a hundredth."""
    rows, candidates = swarm_rows(96, 3), regmix.lattice(3, 100)
    means = [sum(losses) / 3 for losses in log_linear(candidates)]
    best = means.index(min(means))
    case = {"domains": 3, "swarm": rows, "losses": log_linear(rows), "lowest": means[best]}
    return case | {"optimum": candidates[best], "uniform": sum(log_linear([[1 / 3] * 3])[0]) / 3}


def golden() -> dict:
    """All cases, by method, with where they come from."""
    return {
        "pike": {
            "provenance": provenance(
                "pike",
                "arXiv 2502.06244: the practical update, the conceptual one in closed form, Balanced-PiKE as PiKE on y_k L_k",
                before="the practical update",
                after="the closed form, Balanced-PiKE, and what is named below",
                documented="statistics over their mean in the practical rule; their memory; a floor after the update",
            ),
            "cases": {
                "practical": pike_case(),
                "practical with a floor": pike_case(floor=0.2, memory=0.9),
                "conceptual": pike_case(rule="conceptual"),
                "balanced": pike_case(tau=1.5, floor=0.1),
                "balanced conceptual": pike_case(rule="conceptual", tau=0.5, step_size=1.3),
            },
        },
        "aioli": {
            "provenance": provenance(
                "aioli",
                "arXiv 2411.05735: LearnParams, in exact fractions, and both updates, the release's memory the second",
                before="LearnParams and both updates",
                after="weights of the compared loss",
                documented="weights of the compared loss, uniform in the first case as in the paper",
            ),
            "cases": {
                "cumulative": aioli_case(3, 2, 10),
                "with a memory": aioli_case(4, 1, 10, eta=2.0, focus=0.7, memory=0.3, target=[0.4, 0.3, 0.2, 0.1]),
            },
        },
        "skillit": {
            "provenance": provenance(
                "skillit",
                "arXiv 2307.14430, Algorithm 1, each update from uniform as in the release of arXiv 2411.05735",
                before="the graph and the update",
                after="weights of the compared loss",
                documented="weights of the compared loss, uniform in the first case as in the paper",
            ),
            "cases": {
                "even": skillit_case(),
                "one loss counts most": skillit_case(eta=0.5, window=2, target=[0.1, 0.2, 0.7]),
            },
        },
        "ado": {
            "provenance": provenance(
                "ado",
                "arXiv 2410.11820: the scaling law, its fit and the mixture rule, with the release's constants",
                before="the mixture rule and the grid search for a law",
                after="the least exponent of .05, smoothing, and the fit in logarithms",
                documented="n counts steps; credit begins at the first step, the average of mixtures at the first fit; "
                "the smoothing window is at most a quarter of the history",
            ),
            "cases": {"given laws": ado_given_laws(), "curves": ado_curves()},
            "fits": ado_fits(),
        },
        "regmix": {
            "provenance": provenance(
                "regmix",
                "arXiv 2407.01492, section 3: random mixtures, linear and boosted regression, the mean of the best candidates",
                before="the linear regression and the exhaustive search",
                after="the random mixtures and the trees",
                documented="mixtures in the order drawn, leaves of 2 runs in swarms of tens",
            ),
            "generator": regmix_generator(),
            "linear": regmix_linear(),
            "trees": regmix_trees(),
            "law": regmix_law(),
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), separators=(",", ":")) + "\n")
