"""RegMix: many small runs, a regression from their mixtures to their losses, and the mixture that it likes best."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from acodm_core.errors import UserError
from acodm_core.mixing import Mixer, Start, read_swarm, simplex

MANY = 200  # runs from which on the paper's settings of the trees make sense


@dataclass
class Regmix(Mixer):
    """Draw by the mixture of which a regression on a swarm of small runs predicts the lowest loss.

    Idea:
        How good a mixture is shows in a small model already; so try mixtures there, and search where none was tried.
    Update:
        f_i: regression of the held-out loss of domain i on the mixtures p of the swarm;    f(p) = sum_i w_i f_i(p), w the objective
        weights;    p*: the mean of the ``best`` lowest f among ``draws`` of Dirichlet(q), q
        the natural shares. Drawn by p* from the first step on.
    Source:
        arXiv 2407.01492, section 3: 512 runs to fit and 256 to stop early, 100,000 draws, the best 128 averaged. Release at
        b004d3a, regression_fitting: gradient-boosted trees, 1000 of rate 0.01, stopped after 3 rounds without gain; or linear.
    Differences:
        The same trees of scikit-learn (31 leaves, squared error), not LightGBM's. Swarms here have tens of runs: under 200 a
        leaf needs 2, not 20, or hardly a tree would split, and none is held out to stop early; from 200 on a third is, as in
        the paper. What tens of runs find depends much on which they are. The loss is the target-weighted mean, where the
        paper takes one domain's. A domain that does not count is not fitted, and a run without losses is left out. Fitting
        takes seconds a domain, which no table counts; the swarm's runs are all counted.
    """

    fit: Literal["trees", "linear"] = "trees"
    draws: int = 100_000
    best: int = 128

    swarms = frozenset({"swarm"})
    cite = "liu2025regmix"

    def __post_init__(self) -> None:
        if not 0 < self.best <= self.draws:
            raise ValueError(f"best must lie between 1 and draws, got {self.best} of {self.draws}")

    def required_inputs(self) -> tuple[str, ...]:
        return ("swarm",)

    def start(self, start: Start) -> None:
        mixture_NK, loss_NK = read_swarm(start.swarm("swarm"), start.domains, "weights", "final")
        known_N = np.isfinite(loss_NK).all(1)
        if known_N.sum() < 2:
            what = f"{known_N.sum()} of {len(known_N)} runs of the swarm finished, too few for a regression"
            raise UserError(what, fix="give the swarm more `members`, or a smaller learning rate if they diverged")
        draw_DK = start.rng.dirichlet(start.prior, self.draws)
        predicted_D = np.zeros(self.draws)
        for i in np.flatnonzero(start.objective_weights):
            model = self._regression(known_N.sum()).fit(mixture_NK[known_N], loss_NK[known_N, i])
            predicted_D += start.objective_weights[i] * model.predict(draw_DK)
        self.mixture_ = simplex(draw_DK[np.argsort(predicted_D, kind="stable")[: self.best]].mean(0))

    def _regression(self, runs: int):
        if self.fit == "linear":
            from sklearn.linear_model import LinearRegression

            return LinearRegression()
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(
            max_iter=1000,
            learning_rate=0.01,
            min_samples_leaf=20 if runs >= MANY else 2,
            early_stopping=bool(runs >= MANY),
            n_iter_no_change=3,
            validation_fraction=1 / 3,
            random_state=42,
        )

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_
