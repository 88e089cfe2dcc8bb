"""A curriculum passes through its points, and says what is wrong with them."""

from typing import Any

import numpy as np
import pytest

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Start

DOMAINS, PRIOR = ("law", "code", "chat"), np.array([0.5, 0.4, 0.1])
STEPS = 11  # step 5 is half-way


def curriculum(*points: dict[str, Any]) -> Mixer:
    mixer = build_mixer("curriculum", {"points": list(points)} if points else {}, where="methods.mine")
    mixer.check(DOMAINS, where="methods.mine.options")
    mixer.start(
        Start(
            domains=DOMAINS, prior=PRIOR, tokens_available=PRIOR * 1e6, total_steps=STEPS, rng=np.random.default_rng(0)
        )
    )
    return mixer


def weights(law: float, code: float, chat: float) -> dict[str, float]:
    return {"chat": chat, "law": law, "code": code}


def test_goes_from_point_to_point_in_straight_lines() -> None:
    mixer = curriculum(
        {"at": 0.0, "weights": "natural"},
        {"at": 0.5, "weights": weights(2, 1, 1)},
        {"at": 1.0, "weights": weights(0, 0, 3)},
    )
    np.testing.assert_allclose(mixer.sampling_weights(0), PRIOR)
    np.testing.assert_allclose(mixer.sampling_weights(5), [0.5, 0.25, 0.25])
    np.testing.assert_allclose(mixer.sampling_weights(8), [0.2, 0.1, 0.7])
    np.testing.assert_allclose(mixer.sampling_weights(10), [0, 0, 1])


def test_stays_before_its_first_and_after_its_last_point() -> None:
    mixer = curriculum({"at": 0.2, "weights": weights(1, 0, 0)}, {"at": 0.6, "weights": "uniform"})
    np.testing.assert_array_equal(mixer.sampling_weights(0), mixer.sampling_weights(2))
    np.testing.assert_allclose(mixer.sampling_weights(4), [2 / 3, 1 / 6, 1 / 6])
    np.testing.assert_allclose([mixer.sampling_weights(6), mixer.sampling_weights(10)], 1 / 3)


def test_goes_from_uniform_to_natural_when_nobody_says_otherwise() -> None:
    mixer = curriculum()
    np.testing.assert_allclose(mixer.sampling_weights(0), 1 / 3)
    np.testing.assert_allclose(mixer.sampling_weights(10), PRIOR)


UNIFORM = {"at": 0.0, "weights": "uniform"}
MISTAKES: dict[str, tuple[list[Any], list[str]]] = {
    "unknown domain": (
        [UNIFORM, {"at": 1.0, "weights": weights(1, 1, 1) | {"chatt": 1.0}}],
        ["methods.mine.options.points[1].weights.chatt:", "did you mean 'chat'", "chat, code, law"],
    ),
    "missing domain": (
        [{"at": 0.5, "weights": {"law": 1.0}}],
        ["methods.mine.options.points[0].weights:", "['code', 'chat'] at 0.5", "0.0 is a weight"],
    ),
    "negative weight": ([{"at": 0, "weights": weights(1, -1, 1)}], ["points[0].weights:", "non-negative"]),
    "not ascending": (
        [{"at": 0.5, "weights": "natural"}, UNIFORM],
        ["methods.mine.options:", "ascending", "[0.5, 0.0]"],
    ),
    "twice the same time": ([UNIFORM, UNIFORM], ["ascending"]),
    "steps instead of a share": ([UNIFORM, {"at": 500, "weights": "natural"}], ["share of the training", "500"]),
    "no time": ([{"weights": "natural"}], ["methods.mine.options.points[0].at:", "required"]),
    "misspelt key": ([UNIFORM | {"wieghts": {}}], ["methods.mine.options.points[0].wieghts:"]),
    "unknown word": (
        [{"at": 0, "weights": "natura"}],
        ["methods.mine.options.points[0].weights", "'natural' or 'uniform'"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_shown_with_its_place_and_what_is_valid(name: str) -> None:
    points, expected = MISTAKES[name]
    with pytest.raises(UserError) as error:
        curriculum(*points)
    for part in expected:
        assert part in str(error.value), f"{part!r} is not in:\n{error.value}"


def test_no_points_are_refused_with_an_example() -> None:
    with pytest.raises(UserError, match=r"at: 0\.8, weights: natural"):
        build_mixer("curriculum", {"points": []})
