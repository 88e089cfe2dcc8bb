"""RegMix on loss surfaces whose best mixture is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Start, save_member

DOMAINS = ("a", "b", "c")
PRIOR = np.array([0.5, 0.3, 0.2])
BEST = np.array([0.2, 0.5, 0.3])
TWO = np.array([0.0, 0.5, 0.5])  # weights of domains that settle BEST: the third has the rest


def quadratic(mixture_K: np.ndarray) -> np.ndarray:
    """Losses that are lowest, each for itself, where the domain has its share of BEST."""
    return 2.0 + (mixture_K - BEST) ** 2


def linear(mixture_K: np.ndarray) -> np.ndarray:
    """Losses that fall with a domain's share; b's falls most."""
    return 3.0 - np.array([0.5, 1.0, 0.2]) * mixture_K


def swarm(folder: Path, losses: Callable[[np.ndarray], np.ndarray], count: int) -> tuple[Path, ...]:
    """Folders of ``count`` runs of the shipped generator whose held-out losses are ``losses`` of their mixtures."""
    folders = []
    for number in range(count):
        member = build_mixer("swarm", {"member": number})
        member.start(
            Start(
                domains=DOMAINS,
                prior=PRIOR,
                tokens_available=PRIOR * 1e6,
                total_steps=10,
                rng=np.random.default_rng([0, 1]),
            )
        )
        mixture_K = member.sampling_weights(0)
        folders.append(folder / f"{number:03d}")
        folders[-1].mkdir(parents=True)
        save_member(folders[-1], DOMAINS, {"weights": mixture_K, "final": losses(mixture_K)})
    return tuple(folders)


def found(
    folders: tuple[Path, ...], *, objective_weights: np.ndarray | None = None, seed: int = 3, **options
) -> np.ndarray:
    mixer = build_mixer("regmix", {"draws": 2000, "best": 20, **options})
    mixer.start(
        Start(
            domains=DOMAINS,
            prior=PRIOR,
            tokens_available=PRIOR * 1e6,
            total_steps=10,
            rng=np.random.default_rng(seed),
            inputs={"swarm": folders},
            objective_weights=objective_weights,
        )
    )
    np.testing.assert_array_equal(mixer.sampling_weights(0), mixer.sampling_weights(9))
    return mixer.sampling_weights(0)


def test_with_enough_runs_it_finds_the_optimum_and_with_few_it_comes_less_near(tmp_path: Path) -> None:
    """By how much the loss that counts stays above its minimum, against uniform."""

    def excess(mixture_K: np.ndarray) -> float:
        return float(TWO @ quadratic(mixture_K)) - 2.0

    few, enough = (excess(found(swarm(tmp_path / str(n), quadratic, n), objective_weights=TWO)) for n in (8, 64))
    assert enough < 0.1 * excess(np.full(3, 1 / 3))
    assert enough < few


def test_many_runs_are_fitted_as_in_the_paper_and_find_it_too(tmp_path: Path) -> None:
    mixture_K = found(swarm(tmp_path, quadratic, 240), objective_weights=np.eye(3)[1], draws=1000, best=10)
    assert mixture_K[1] == pytest.approx(BEST[1], abs=0.04)


def test_even_four_runs_make_trees_that_split(tmp_path: Path) -> None:
    """The paper's 20 runs a leaf would leave one leaf, and the mean of any 20 draws: near natural."""
    folders = swarm(tmp_path, linear, 4)
    only_b = found(folders, objective_weights=np.array([0.0, 1.0, 0.0]))
    assert only_b[1] > found(folders, objective_weights=np.array([1.0, 0.0, 0.0]))[1] + 0.2


def test_a_line_recovers_a_linear_surface(tmp_path: Path) -> None:
    mixture_K = found(swarm(tmp_path, linear, 8), fit="linear")
    assert mixture_K[1] > 0.98, "the lowest sum lies where b has all"
    alone = found(swarm(tmp_path / "again", linear, 8), fit="linear", objective_weights=np.array([0.0, 0.0, 1.0]))
    assert alone[2] > 0.9, "and for c alone, where c has all"


def test_a_run_without_losses_is_left_out(tmp_path: Path) -> None:
    folders = swarm(tmp_path, linear, 6)
    lost = swarm(tmp_path / "lost", lambda mixture_K: np.full(3, np.nan), 1)
    np.testing.assert_array_equal(found(folders, fit="linear"), found((*lost, *folders), fit="linear"))
    with pytest.raises(UserError, match="1 of 2 runs"):
        found((*lost, folders[0]))


def test_the_search_follows_the_seed_and_the_fit_does_not(tmp_path: Path) -> None:
    folders = swarm(tmp_path, quadratic, 12)
    one, again, other = (found(folders, objective_weights=np.eye(3)[1], seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert 0 < np.abs(one - other).sum() < 0.3


def test_refuses_to_average_more_draws_than_there_are() -> None:
    with pytest.raises(UserError, match="got 300 of 200"):
        build_mixer("regmix", {"draws": 200, "best": 300})
