"""PiKE, Aioli, Skill-it, ADO and RegMix against what plain code worked out from their equations (see reference/)."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from golden.reference import regmix as reference
from golden.reference import worked

from acodm_baselines.ado import fit
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats, save_member

GOLDEN = json.loads(worked.FILE.read_text())
# What two searches for the law nearest to smoothed losses may differ by, in a, e and alpha, and in the weights that follow:
# the mixer's stops once its objective is flat, the reference's at the last digit.
LAW, FITTED = 1e-3, 5e-5


def cases(method: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in GOLDEN[method]["cases"].items()])


def started(name: str, options: dict, case: dict, steps: int = 1, rng: object = None, **start: object) -> Mixer:
    """The mixer before its first step, with the case's prior (or an even one) and weights of the compared loss."""
    k = case["domains"]
    prior_K, objective_K = (np.array(case.get(key, [1 / k] * k)) for key in ("prior", "target"))
    rng = np.random.default_rng(0) if rng is None else rng
    mixer = build_mixer(name, options)
    mixer.start(
        Start(
            domains=names(k),
            prior=prior_K,
            tokens_available=prior_K,
            total_steps=steps,
            rng=rng,
            objective_weights=objective_K,
            **start,
        )
    )
    return mixer


def names(k: int) -> tuple[str, ...]:
    return tuple(f"d{i}" for i in range(k))


def nans(values: list[float | None]) -> np.ndarray:
    return np.array(values, dtype=float)


def same(weights: list[np.ndarray], case: dict, rtol: float = 1e-6) -> None:
    """Weights after every update (T, K)."""
    golden_TK = np.array(case["weights"])
    assert np.ptp(golden_TK, axis=0).max() > 5e-3, "the golden path moves"
    np.testing.assert_allclose(weights, golden_TK, rtol=rtol)


class Told:
    """Stands in for the random generator: gives what a case says, and keeps what it was asked for."""

    def __init__(self, told: list) -> None:
        self.told, self.asked = iter(told), []

    def random(self, size: int) -> np.ndarray:
        """Numbers whose order is the one told."""
        return np.argsort(next(self.told)) / size

    def choice(self, values: np.ndarray) -> float:
        return values[next(self.told)]

    def dirichlet(self, concentration: np.ndarray, size: int | None = None) -> np.ndarray:
        self.asked.append(concentration)
        return np.array(next(self.told))


@cases("pike")
def test_pike(case: dict) -> None:
    updates = case["updates"]
    options = {
        "rule": case["rule"],
        "slope": case["zeta1"],
        "noise": case["zeta2_over_2b"],
        "step_size": case["step_size"],
        "balance": case["tau"],
        "every": 0.5 / len(updates),  # every second step: steps between updates are not looked at
        "memory": case["memory"],
        "uniform_fraction": case["floor"],
    }
    steps, weights = 4 * len(updates), []
    mixer = started("pike", options, case, steps, tokens_per_step=case["batch"])
    for step in range(2 * len(updates)):
        seen = updates[step // 2] if step % 2 else {}
        signals = {Signal.GRAD_SELF: "square", Signal.GRAD_NOISE: "noise", Signal.LOSS: "loss"}
        mixer.observe(StepStats(step, np.full(4, 16), {s: nans(seen[key]) for s, key in signals.items() if seen}))
        if seen:
            weights.append(mixer.sampling_weights(step + 1))
    same(weights, case)
    assert any(None in update["square"] for update in updates), "a batch may lack a domain"


@cases("aioli")
def test_aioli(case: dict) -> None:
    k, sweeps, rounds = case["domains"], case["sweeps"], case["rounds"]
    options = {"step_size": case["eta"], "focus": case["focus"], "sweeps": sweeps, "trial": 2, "memory": case["memory"]}
    orders = [turn["order"][s * k : (s + 1) * k] for turn in rounds for s in range(sweeps)]
    mixer = started("aioli", options, case, 1000, Told([*orders, *orders[:sweeps]]))
    looks = iter([case["first"], *(losses for turn in rounds for losses in (*turn["losses"], turn["end"]))])
    trials, weights = 2 * k * sweeps, []
    for step in range(1 + len(rounds) * 2 * trials):
        if mixer.wants(step):
            mixer.observe(StepStats(step, np.full(k, 16), {Signal.VALID_LOSS: np.array(next(looks))}))
        if step and step % (2 * trials) == 0:
            weights.append(mixer.sampling_weights(step))  # of the round's last step
    assert next(looks, None) is None, "all losses were looked at"
    same(weights, case)


@cases("skillit")
def test_skillit(case: dict, tmp_path: Path) -> None:
    k, looks = case["domains"], len(case["losses"])
    graph = members(tmp_path, np.eye(k).tolist(), initial=case["before"], final=case["after"])
    options = {"step_size": case["eta"], "window": case["window"], "every": 1 / (looks + 1)}
    steps = 2 * (looks + 1)
    mixer = started("skillit", options, case, steps, inputs={"graph": graph})
    weights = [mixer.sampling_weights(0)]
    losses = iter(case["losses"])
    for step in range(steps):
        if mixer.wants(step):
            mixer.observe(StepStats(step, np.full(k, 16), {Signal.VALID_LOSS: np.array(next(losses))}))
            weights.append(mixer.sampling_weights(step + 1))
    same(weights, case)


def members(folder: Path, mixtures: list[list[float]], **losses: list[list[float]]) -> tuple[Path, ...]:
    """Folders of a swarm's finished runs, as the mixer ``swarm`` leaves them."""
    folders = []
    for number, mixture in enumerate(mixtures):
        folders.append(folder / str(number))
        folders[-1].mkdir()
        vectors = {"weights": mixture, **{name: rows[number] for name, rows in losses.items()}}
        save_member(folders[-1], names(len(mixture)), {name: np.array(vector) for name, vector in vectors.items()})
    return tuple(folders)


def laws_of(law: list[list[float]]) -> np.ndarray:
    """(K, 3) a, e and alpha, as the mixer has them, of eps, beta and alpha."""
    eps_K, beta_K, alpha_K = np.array(law).T
    return np.stack([np.log(beta_K), np.log(eps_K), alpha_K], axis=1)


def ado_options(case: dict) -> dict:
    return {key: case[key] for key in ("memory", "credit", "mix", "floor")}


def test_ados_mixture() -> None:
    case = GOLDEN["ado"]["cases"]["given laws"]
    mixer, weights = started("ado", {**ado_options(case), "refit": 1.0}, case, 1000), []
    for step, counts in enumerate(case["counts"]):
        if str(step + 1) in case["laws"]:
            mixer.law_ = laws_of(case["laws"][str(step + 1)])
        loss_K = np.where(np.array(counts) > 0, 2.0, np.nan)
        mixer.observe(StepStats(step, np.array(counts), {Signal.LOSS: loss_K}))
        weights.append(mixer.sampling_weights(step + 1))
    same(weights, case)
    assert 0 in np.array(case["counts"]) and any(law[2] < 0.05 for law in case["laws"]["6"])


def test_ado_from_losses_to_weights() -> None:
    case = GOLDEN["ado"]["cases"]["curves"]
    steps = len(case["losses"])
    options = {**ado_options(case), "refit": case["refit"] / steps, "ignore": case["ignore"] / steps}
    mixer, weights = started("ado", options, case, steps), []
    for step, (losses, counts) in enumerate(zip(case["losses"], case["counts"], strict=True)):
        mixer.observe(StepStats(step, np.array(counts), {Signal.LOSS: nans(losses)}))
        weights.append(mixer.sampling_weights(step + 1))
        if str(step + 1) in case["laws"]:
            np.testing.assert_allclose(mixer.law_, laws_of(case["laws"][str(step + 1)]), rtol=0, atol=LAW)
    same(weights, case, rtol=FITTED)
    assert None in case["losses"][44]


@pytest.mark.parametrize("case", GOLDEN["ado"]["fits"], ids=lambda case: str(case["true"]))
def test_ados_fit_is_the_grid_searchs(case: dict) -> None:
    np.testing.assert_allclose(case["law"], case["true"], rtol=0, atol=1e-9)
    losses = np.array(case["losses"])
    found = fit(np.array(case["steps"]), losses, np.log(0.2 * losses.min()), np.full(3, np.nan))
    np.testing.assert_allclose(found, laws_of([case["law"]])[0], rtol=1e-6)


def test_regmixs_random_mixtures() -> None:
    case = GOLDEN["regmix"]["generator"]
    by_hand = [[0.5, 0.3, 0.2], [0.7, 0.3, 0.0], [0.1, 0.9, 0.0], [0.1234, 0.6544, 0.2222], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(case["mixtures"], by_hand, rtol=0, atol=1e-12)
    for number, mixture in enumerate(case["mixtures"]):
        told = Told([x for pair in zip(case["strengths"], case["draws"], strict=True) for x in pair])
        mixer = started("swarm", {"member": number}, case, rng=told)
        np.testing.assert_allclose(mixer.sampling_weights(0), mixture, rtol=1e-6)
        np.testing.assert_allclose(told.asked, case["concentrations"][: len(told.asked)], rtol=0, atol=1e-12)
    assert len(told.asked) == len(case["draws"])


def regmix(case: dict, folder: Path, fit: str, candidates: list[list[float]]) -> Mixer:
    """The mixer on the case's swarm, with these candidates in the place of its draws."""
    swarm = members(folder, case["swarm"], final=case["losses"])
    options = {"fit": fit, "draws": len(candidates), "best": case["best"]}
    return started("regmix", options, case, rng=Told([candidates]), inputs={"swarm": swarm})


def test_regmix_with_planes(tmp_path: Path) -> None:
    case = GOLDEN["regmix"]["linear"]
    candidates = reference.lattice(case["domains"], case["parts"])
    np.testing.assert_allclose(
        regmix(case, tmp_path, "linear", candidates).sampling_weights(0), case["weights"], rtol=1e-6
    )


def test_regmix_with_trees(tmp_path: Path) -> None:
    case = GOLDEN["regmix"]["trees"]
    mixer = regmix(case, tmp_path, "trees", case["swarm"])
    np.testing.assert_allclose(mixer.sampling_weights(0), case["weights"], rtol=1e-6)
    swarm_NK, loss_NK = np.array(case["swarm"]), np.array(case["losses"])
    for loss_N, golden_N in zip(loss_NK.T, case["predicted"], strict=True):
        predicted_N = mixer._regression(len(swarm_NK)).fit(swarm_NK, loss_N).predict(swarm_NK)
        np.testing.assert_allclose(predicted_N, golden_N, rtol=1e-6)
        assert np.abs(golden_N - loss_N).max() > 1e-4, "trees of two runs a leaf do not go through every run"


def test_regmix_comes_near_the_optimum_of_a_known_law(tmp_path: Path) -> None:
    case = GOLDEN["regmix"]["law"]
    swarm = members(tmp_path, case["swarm"], final=case["losses"])
    mixer = started("regmix", {"draws": 5000, "best": 32}, case, inputs={"swarm": swarm})
    mixture_K = mixer.sampling_weights(0)
    assert np.abs(mixture_K - case["optimum"]).sum() < 0.1
    above, most = sum(worked.log_linear([mixture_K.tolist()])[0]) / 3 - case["lowest"], case["uniform"] - case["lowest"]
    assert above < 0.02 * most


def test_the_file_is_what_the_reference_works_out() -> None:
    assert_equal(worked.golden(), GOLDEN)


def assert_equal(made: object, stored: object) -> None:
    """Equal all through; numbers up to what the last digit of ``exp`` may do to them on another machine."""
    if isinstance(stored, dict):
        assert made.keys() == stored.keys()
        for key in stored:
            assert_equal(made[key], stored[key])
    elif isinstance(stored, list):
        assert len(made) == len(stored)
        for one, other in zip(made, stored, strict=True):
            assert_equal(one, other)
    else:
        assert made == (pytest.approx(stored, rel=0, abs=1e-9) if isinstance(stored, float) else stored)


def test_the_reference_imports_nothing_but_the_standard_library() -> None:
    for path in Path(worked.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module]
            assert {name.split(".")[0] for name in found} <= sys.stdlib_module_names, path.name
