"""Skill-it: a worked example, when it looks, and which graphs it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats, save_member

DOMAINS, STEPS = ("a", "b"), 40
# Losses of a and b before and after a run on one domain alone. Run a: a falls 4 -> 2, by half; b 2 -> 1.8, by a tenth.
# Run b: a rises, which counts 0; b 2 -> 1.5, by a quarter. So A = [[.5, .1], [0, .25]].
BEFORE = np.array([[4.0, 2.0], [4.0, 2.0]])
AFTER = np.array([[2.0, 1.8], [4.4, 1.5]])


ALONE = np.eye(2)


def graph(folder: Path, drawn_NK=ALONE, before_NK=BEFORE, after_NK=AFTER) -> tuple[Path, ...]:
    folders = tuple(folder / str(i) for i in range(len(drawn_NK)))
    for path, drawn_K, before_K, after_K in zip(folders, drawn_NK, before_NK, after_NK, strict=True):
        path.mkdir()
        save_member(path, DOMAINS, {"weights": drawn_K, "initial": before_K, "final": after_K})
    return folders


def skillit(folders: tuple[Path, ...], *, objective_weights=None, domains=DOMAINS, **options) -> Mixer:
    mixer = build_mixer("skillit", options)
    prior_K = np.full(2, 0.5)
    rng = np.random.default_rng(0)
    mixer.start(
        Start(
            domains=domains,
            prior=prior_K,
            tokens_available=prior_K * 1e6,
            total_steps=STEPS,
            rng=rng,
            inputs={"graph": folders},
            objective_weights=objective_weights,
        )
    )
    return mixer


def shown(mixer: Mixer, *losses: list[float]) -> np.ndarray:
    """The mixture after these held-out losses, one at each look."""
    looks = [step for step in range(STEPS) if mixer.wants(step)]
    for step, loss in zip(looks, losses, strict=False):
        mixer.observe(StepStats(step, np.zeros(2), {Signal.VALID_LOSS: np.array(loss)}))
    return mixer.sampling_weights(STEPS - 1)


def softmax(*logits: float) -> list[float]:
    return list(np.exp(logits) / np.exp(logits).sum())


def test_worked_example(tmp_path: Path) -> None:
    folders = graph(tmp_path)
    # A 1 = (.6, .25); eta = .2.
    np.testing.assert_allclose(skillit(folders).sampling_weights(0), softmax(0.12, 0.05))
    # One look, L = (3, 2): A L = (1.5 + .2, .5).
    np.testing.assert_allclose(shown(skillit(folders), [3, 2]), softmax(0.2 * 1.7, 0.2 * 0.5))
    # Four looks, of which the last three count, and begin from uniform: sum (6, 5), A L = (3.5, 1.25).
    four = shown(skillit(folders), [9, 9], [3, 2], [2, 2], [1, 1])
    np.testing.assert_allclose(four, softmax(0.2 * 3.5, 0.2 * 1.25))
    np.testing.assert_allclose(shown(skillit(folders, window=1), [9, 9], [3, 2]), softmax(0.2 * 1.7, 0.2 * 0.5))


def test_only_domains_that_count_draw_weight_to_what_teaches_them(tmp_path: Path) -> None:
    """With all weight on b, K w = (0, 2): A (0, 2 * 1) = (.2, .5)."""
    mixer = skillit(graph(tmp_path), objective_weights=np.array([0.0, 1.0]))
    np.testing.assert_allclose(mixer.sampling_weights(0), softmax(0.2 * 0.2, 0.2 * 0.5))


def test_runs_of_the_graph_may_come_in_any_order_of_domains(tmp_path: Path) -> None:
    folders = graph(tmp_path)
    np.testing.assert_array_equal(skillit(folders[::-1]).sampling_weights(0), skillit(folders).sampling_weights(0))
    swapped = skillit(folders, domains=("b", "a"))
    np.testing.assert_allclose(swapped.sampling_weights(0), skillit(folders).sampling_weights(0)[::-1])


@pytest.mark.parametrize(("every", "looks"), [(0.05, range(1, 39, 2)), (0.25, [9, 19, 29]), (0.01, range(39)), (1, [])])
def test_looks_at_held_out_losses_only_before_an_update(every: float, looks, tmp_path: Path) -> None:
    mixer = skillit(graph(tmp_path), every=every)
    assert [step for step in range(STEPS) if mixer.wants(step)] == list(looks)


@pytest.mark.parametrize(
    "wrong",
    [
        {"drawn_NK": np.full((2, 2), 0.5)},
        {"drawn_NK": ALONE[:1], "before_NK": BEFORE[:1], "after_NK": AFTER[:1]},
        {"drawn_NK": ALONE[[0, 0]]},
        {"before_NK": np.full((2, 2), np.nan)},
        {"after_NK": np.array([[2.0, 1.8], [np.nan, np.nan]])},
    ],
    ids=["mixed", "one missing", "twice the same", "no losses before", "diverged"],
)
def test_a_graph_that_is_none_is_refused(wrong: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one run on each domain alone"):
        skillit(graph(tmp_path, **wrong))


@pytest.mark.parametrize("options", [{"window": 0}, {"every": 0.0}, {"step_size": -1.0}])
def test_refuses_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="window at least 1"):
        build_mixer("skillit", options)
