"""Adaptive Data Optimization: a scaling law for every domain, fitted on the way."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, simplex, softmax

DELTA = 1e-3  # of the Huber loss: in effect, the sum of absolute differences
ALPHAS = np.arange(0.1, 0.85, 0.1)  # exponents that a fit starts from
POINTS, FEWEST = 256, 10  # of a domain's history that enter a fit, and fewer than which are none


@dataclass
class Ado(Mixer):
    """Draw what its scaling law says to be falling fastest, a domain's own credit and natural share considered.

    Idea:
        The slope of a domain's loss curve tells what another token of it brings, and a power law tells the slope from the noise.
    Update:
        L_i(n) = exp(e_i) + exp(a_i) n^-alpha_i, refitted now and then to all training losses, smoothed (Savitzky-Golay, 101
        steps, cubic), by the Huber loss of log L;  s_i = max(alpha_i, 0.05) (L_i(n) - exp(e_i)) / n;  every step
        h <- memory h + (1 - memory) (shares drawn);  rho = N(max(N(mu s h^credit), floor)), mu the prior, N(x) = x / sum x;
        p = (1 - mix) m + mix rho;  m <- m + (rho - m) / t, t the steps so far.  h and m begin at mu; p is mu until the first fit.
    Source:
        arXiv 2410.11820. Release at bc3d8d0, src/data_selectors/ado.py, which has all constants below; its first commit has
        sqrt(h (1 - h)) where later ones have sqrt(h), as here.
    Differences:
        Steps became shares of the run: the release ignores 1000 of 60,000 and refits every 1000; every twentieth of a run is
        ours, for cost. n counts steps, not sequences, which changes ``a`` alone. Its soft penalties on alpha (0 to 0.8), a (6.5)
        and e are bounds here, and e >= 0.5, that is 1.65 nats, is ``bound: released``; by default exp(e) is at least a fifth of
        the lowest loss, for some domains fall below 1.65. 512 starts became the two best of the last fit and eight least squares;
        at most 256 points enter. Smoothing window (at most a quarter of the history) and ``memory`` count steps: they cut noise.
    """

    refit: float = 0.05  # share of the steps between fits
    ignore: float = 1 / 60  # share of the steps that fits leave out, at the beginning
    credit: float = 0.5
    memory: float = 0.9
    mix: float = 0.1
    floor: float = 0.01  # of every domain's share in rho, before it is normalised: 22 domains spend a fifth on it
    bound: Literal["relative", "released"] = "relative"  # below the irreducible loss

    needs = frozenset({Signal.LOSS})
    cite = "jiang2025ado"

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in ("refit", "ignore", "memory", "mix", "floor")}
        if not (all(0 <= share <= 1 for share in shares.values()) and self.credit >= 0):
            raise ValueError(f"shares must lie in [0, 1] and credit must not be negative, got {shares}, {self.credit}")

    def start(self, start: Start) -> None:
        from scipy import optimize, signal  # noqa: F401  now, so that no step waits for it; planning imports every mixer

        k, steps = len(start.domains), start.total_steps
        self.every_, self.first_ = max(1, round(self.refit * steps)), round(self.ignore * steps)
        self.prior_, self.credit_, self.mean_, self.mixture_ = (start.prior.copy() for _ in range(4))
        self.loss_ = np.zeros((steps, k))  # of every step so far
        self.law_ = np.full((k, 3), np.nan)  # a, e, alpha of each domain; NaN before the first fit

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def observe(self, stats: StepStats) -> None:
        done, loss_K = stats.step + 1, stats[Signal.LOSS]
        before_K = self.loss_[stats.step - 1] if stats.step else np.nanmean(loss_K)
        self.loss_[stats.step] = np.where(np.isnan(loss_K), before_K, loss_K)
        self.credit_ = self.memory * self.credit_ + (1 - self.memory) * stats.tokens / stats.tokens.sum()
        if done % self.every_ == 0 and done - self.first_ >= FEWEST:
            self._fit(done)
        if np.isfinite(self.law_).all():
            rho_K = simplex(np.maximum(self._favour(done), self.floor))
            self.mixture_ = (1 - self.mix) * self.mean_ + self.mix * rho_K
            self.mean_ = self.mean_ + (rho_K - self.mean_) / done

    def _favour(self, done: int) -> np.ndarray:
        """(K,) N(mu s h^credit), from logarithms: a law far off its data over- or underflows."""
        a_K, _, alpha_K = self.law_.T
        slope_K = np.log(np.maximum(alpha_K, 0.05)) + a_K - alpha_K * np.log(done)
        return softmax(np.log(np.maximum(self.prior_ * self.credit_**self.credit, 1e-300)) + slope_K)

    def _fit(self, done: int) -> None:
        from scipy.signal import savgol_filter

        quarter = (done // 4 - 1) // 2 * 2 + 1
        smooth_TK = savgol_filter(self.loss_[:done], max(5, min(101, quarter)), 3, axis=0)
        steps_N = np.unique(np.linspace(self.first_, done - 1, POINTS).astype(int))
        # A cubic may swing below zero, where a loss cannot be and its logarithm is not.
        loss_NK = np.maximum(smooth_TK[steps_N], self.loss_[:done].min(axis=0) / 2)
        for k, loss_N in enumerate(loss_NK.T):
            least = 0.5 if self.bound == "released" else np.log(0.2 * loss_N.min())
            self.law_[k] = fit(steps_N + 1, loss_N, least, self.law_[k])


def fit(n_N: np.ndarray, loss_N: np.ndarray, least: float, last: np.ndarray) -> np.ndarray:
    """(3,) a, e >= ``least`` and alpha of the law nearest to ``loss_N``; ``last`` is a guess, or NaN."""
    from scipy.optimize import minimize

    log_n_N, log_loss_N = np.log(n_N), np.log(loss_N)

    def huber(law: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean Huber loss over DELTA, and its gradient."""
        power_N = law[0] - law[2] * log_n_N
        model_N = np.logaddexp(power_N, law[1])
        reducible_N, off_N = np.exp(power_N - model_N), model_N - log_loss_N
        pull_N = np.clip(off_N, -DELTA, DELTA)
        value = pull_N @ (off_N - pull_N / 2)
        pull_N = pull_N / (len(n_N) * DELTA)
        slope = reducible_N @ pull_N
        return value / (len(n_N) * DELTA), np.array([slope, pull_N.sum() - slope, -(reducible_N * pull_N) @ log_n_N])

    starts = [last] if np.isfinite(last).all() else []
    for alpha in ALPHAS:  # with alpha given, the law is linear in exp(a) and exp(e)
        line = np.maximum(np.polyfit(n_N**-alpha, loss_N, 1), 1e-6 * loss_N.min())
        starts.append(np.array([*np.log(line), alpha]))
    bounds = np.array([[-np.inf, least, 0.0], [6.5, np.inf, 0.8]])
    starts = sorted((np.clip(start, *bounds) for start in starts), key=lambda law: huber(law)[0])[:2]
    found = [minimize(huber, start, jac=True, bounds=bounds.T, options={"ftol": 1e-12}) for start in starts]  # L-BFGS-B
    return min(found, key=lambda each: each.fun).x
