"""OP-Mix: mixtures are simulated by merging short adapters of the current model, and the best one is drawn from then on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from acodm_core.mixing import Adapters, Mixer, Signal, Start, StepStats, softmax

IRREDUCIBLE = (0.0, 0.25, 0.5, 0.75, 0.95)  # of a domain's lowest loss: where the fit of its law begins
HUBER = 0.02  # nats up to which an error of the law counts by its square
MOST = 50.0  # logarithm of what no loss exceeds
GONE = 1e-30  # a share under which a domain counts as not drawn


@dataclass
class Opmix(Mixer):
    """Tries mixtures on adapters of the model as it is, merged in proportion, and goes on with the one that promises most.

    Idea:
        A mixture of data does to a model about what the same mixture of weights does, while both stay near it: train one small
        adapter a domain, and a candidate mixture costs an evaluation instead of a run.
    Update:
        The old mix u for ``prefix`` of the steps. Then, from that model, adapters on u and on (1 - ``replay``) e_k + ``replay`` u
        for every domain k; the held-out losses L_i of ``models`` models merged of them by weights x from Dirichlet(1, ..., 1);
        for every domain the law    L_i(x) = exp(c_i) + exp(t_i x)    of least Huber loss; and the x on the simplex of least
            sum_i w_i exp(t_i x) + ``pull`` KL(p(x) || q),    p(x) = x_old u + x_domains.
        Drawn by p(x) to the end. q, the natural shares; w, the objective weights; uniform is the paper's.
    Source:
        arXiv 2605.15220 and its release, michahu/on-policy-mix, folder pipeline: 20 % on uniform; rank 16 and alpha 32 on all
        projections of attention and MLP; 5000 steps at twice the learning rate; 20 models; Huber delta 0.02; 0.05 KL.
    Differences:
        The adapters together take ``length`` of the run's steps: 5000 each, of runs of 50k, would outweigh the run from ten
        domains on. They have no dropout and no weight decay. At least K + 2 models, as many as a law has numbers. A fit begins
        at log-linear least squares for several exp(c), not at 300 random points. Sets of domains that grow are left out.
    """

    prefix: float = 0.2  # of the steps
    length: float = 0.2  # of the steps, all adapters together
    models: int = 20
    replay: float = 0.1
    pull: float = 0.05

    needs = frozenset({Signal.ADAPTER_LOSS})
    cite = "hu2026opmix"

    def __post_init__(self) -> None:
        if not (0 < self.prefix < 1 and self.length > 0 and 0 <= self.replay < 1 and self.pull >= 0):
            got = f"{self.prefix}, {self.length}, {self.replay} and {self.pull}"
            raise ValueError(f"prefix in (0, 1), length above 0, replay in [0, 1), pull not negative; got {got}")

    def start(self, start: Start) -> None:
        from scipy import optimize  # noqa: F401  now, so that no step waits for it; planning imports every mixer

        k = len(start.domains)
        self._prior_K, self._target_K = start.prior, start.objective_weights
        self._expand_AK = np.vstack([np.full(k, 1 / k), np.eye(k)])  # the old mix first
        self._weight_MA = start.rng.dirichlet(np.ones(k + 1), max(self.models, k + 2))
        self._look = max(1, round(self.prefix * start.total_steps)) - 1
        self._steps = max(1, round(self.length * start.total_steps / (k + 1)))
        self.mix_ = np.eye(k + 1)[0]  # x: all on the old mix

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mix_ @ self._expand_AK

    def wants(self, step: int) -> frozenset[Signal]:
        return self.needs if step == self._look else frozenset()

    def adapters(self) -> Adapters:
        trained_AK = (1 - self.replay) * self._expand_AK + self.replay * self._expand_AK[0]
        return Adapters(trained_AK, self._weight_MA, self._steps)

    def observe(self, stats: StepStats) -> None:
        if not self.wants(stats.step):
            return
        counts_K = self._target_K > 0
        loss_KM = stats[Signal.ADAPTER_LOSS][counts_K]
        known_M = np.isfinite(loss_KM).all(0)
        if known_M.sum() > 1:  # else nothing was learned, and the old mix goes on
            slope_KA = np.array([fit_law(self._weight_MA[known_M], loss_M) for loss_M in loss_KM[:, known_M]])
            self.mix_ = solve(slope_KA, self._target_K[counts_K], self._expand_AK, self._prior_K, self.pull)


def fit_law(weight_MA: np.ndarray, loss_M: np.ndarray) -> np.ndarray:
    """(A,) t of the law exp(c) + exp(t x) that is nearest to the losses at ``weight_MA``, by Huber's loss."""

    def misfit(law: np.ndarray) -> tuple[float, np.ndarray]:
        floor, part_M = np.exp(min(law[0], MOST)), np.exp(np.minimum(weight_MA @ law[1:], MOST))
        error_M = (floor + part_M - loss_M) / HUBER
        cut_M = np.clip(error_M, -1, 1)
        slope = np.concatenate([[floor * cut_M.sum()], weight_MA.T @ (part_M * cut_M)]) / HUBER
        return float((cut_M * (error_M - cut_M / 2)).sum()), slope

    fits = []
    for floor in np.multiply(IRREDUCIBLE, loss_M.min()):
        slope_A = np.linalg.lstsq(weight_MA, np.log(loss_M - floor), rcond=None)[0]
        fits.append(_least(misfit, np.concatenate([[np.log(max(floor, GONE))], slope_A])))
    return min(fits, key=lambda fit: fit.fun).x[1:]


def solve(slope_KA: np.ndarray, w_K: np.ndarray, expand_AK: np.ndarray, prior_K: np.ndarray, pull: float) -> np.ndarray:
    """(A,) x on the simplex of least sum_i w_i exp(t_i x) + pull KL(x expand || prior), a convex problem."""

    def cost(logit_A: np.ndarray) -> tuple[float, np.ndarray]:
        x_A = softmax(logit_A)
        part_K, mixture_K = w_K * np.exp(np.minimum(slope_KA @ x_A, MOST)), np.maximum(x_A @ expand_AK, GONE)
        ratio_K = np.log(mixture_K / prior_K)
        slope_A = part_K @ slope_KA + pull * expand_AK @ (ratio_K + 1)
        return float(part_K.sum() + pull * mixture_K @ ratio_K), x_A * (slope_A - x_A @ slope_A)

    return softmax(_least(cost, np.zeros(len(expand_AK))).x)


def _least(cost: Callable[[np.ndarray], tuple[float, np.ndarray]], begin: np.ndarray) -> Any:
    from scipy.optimize import minimize

    return minimize(cost, begin, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-9})
