"""The best static mixture of an experiment, by brute force: train on many mixtures, look closer where the loss is low.

    python benchmarks/oracle.py workflow/config/synthetic.yaml --runs 96 --seeds 100 101 --fresh 110 111 112 113 --out oracle.json

A third of the runs is a swarm: uniform, natural, the experiment's own `oracle` if it has one, and draws from flat and from
sparse Dirichlet distributions. The rest goes in rounds of an evolution strategy: the centre is the mean of the mixtures that are
within noise of the best; it and mixtures near it, nearer each round, are trained. At last the centre, the best that was
measured, uniform, natural and the earlier oracle are trained anew on fresh seeds, and the best of these is the oracle. Use
seeds that no comparison uses. Every finished run is a line of OUT.jsonl; the same command continues a search that was stopped.
No law of mixtures is assumed: those in print are smooth, and a domain that is left out is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from acodm_core.data.build import build_corpus
from acodm_core.data.corpus import Corpus
from acodm_core.files import write_json
from acodm_core.mixing import simplex
from acodm_core.study.config import Experiment, MethodConfig, load_experiment
from acodm_core.study.planner import RunSpec, plan

Mixture = tuple[float, ...]  # one weight a domain, rounded, so that a log can name it
DECIMALS = 4
ROUND = 8  # mixtures trained around one centre
NOISE = 0.005  # nats; mixtures whose losses differ by less count as equally good
SPREAD = (0.6, 0.2)  # standard deviation of the log weights tried around a centre, first and last
SMALL = 0.005  # added before: a domain without weight can come back; and less than this is rounded to nothing


@dataclass
class Laboratory:
    """Trains static mixtures of one experiment and remembers each loss in a file.

    Args:
        experiment: its recipe, model and corpus are used; its methods and seeds are not.
        log: JSON lines, one a finished run, by the run's name.
    """

    experiment: Experiment
    corpus: Corpus
    log: Path
    pool: Executor
    progress: Progress
    known: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.log.exists():
            lines = map(json.loads, self.log.read_text().splitlines())
            self.known = {line["run"]: line["loss"] for line in lines}
        self.task = self.progress.add_task("search", total=None, note="")

    def measure(self, trials: Iterable[tuple[Mixture, int]]) -> np.ndarray:
        """(N, K) final validation loss of each domain, nats a token, for each (mixture, seed)."""
        specs = [self._spec(mixture, seed) for mixture, seed in trials]
        missing = {spec.run: spec for spec in specs if spec.run not in self.known}
        with self.log.open("a") as log:
            running = {self.pool.submit(train, spec, self.corpus.folder): run for run, spec in missing.items()}
            self.progress.update(self.task, completed=len(self.known), total=len(self.known) + len(running))
            for done in as_completed(running):
                run = running[done]
                self.known[run] = done.result()
                line = {"run": run, "weights": missing[run].options["weights"], "loss": self.known[run]}
                log.write(json.dumps(line) + "\n")
                log.flush()
                self.progress.update(self.task, completed=len(self.known))
        return np.array([self.known[spec.run] for spec in specs])

    def _spec(self, mixture: Mixture, seed: int) -> RunSpec:
        weights = dict(zip(self.corpus.domains, mixture, strict=True))
        method = MethodConfig(mixer="static", options={"weights": weights})
        evaluation = self.experiment.evaluation.model_copy(update={"every": self.experiment.training.steps})
        alone = {"methods": {"trial": method}, "compare": ["trial"], "baseline": "trial", "axes": {}, "seeds": [seed]}
        runs = plan(self.experiment.model_copy(update=alone | {"evaluation": evaluation})).runs
        return next(iter(runs.values()))


def train(spec: RunSpec, corpus_folder: Path) -> list[float]:
    """Final validation loss of each domain of one run; nothing of it stays on disk. Runs in a process of its own."""
    from acodm_core.lm.kernels.device import prepare
    from acodm_core.lm.train import Trainer

    prepare("cpu", 1)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        Trainer(spec, Corpus.open(corpus_folder), Path(folder)).run()
        metrics = pd.read_parquet(Path(folder) / "metrics.parquet")
    final = metrics.query("split == 'valid' and metric == 'loss' and step == @spec.training.steps")
    return final.set_index("domain").value.reindex(spec.domains, fill_value=np.inf).tolist()


def swarm(first: list[Mixture], count: int, rng: np.random.Generator) -> list[Mixture]:
    """``first`` and, up to ``count``, draws from flat and from sparse Dirichlet distributions in turn."""
    k = len(first[0])
    draws = [rng.dirichlet(np.full(k, 1.0 if i % 2 else 0.3)) for i in range(count - len(first))]
    return first + [rounded(draw) for draw in draws]


def centre_of(mixtures_NK: np.ndarray, score_N: np.ndarray) -> np.ndarray:
    """(K,) mean of the mixtures, each counting by how little its loss exceeds the best one's: exp(-excess / NOISE)."""
    return np.average(mixtures_NK, axis=0, weights=np.exp(-(score_N - score_N.min()) / NOISE))


def near_by(centre_K: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """(K,) the centre with log-normal noise on each weight; from every other one domain, most likely a small one, is left out."""
    weight_K = (centre_K + SMALL) * np.exp(spread * rng.standard_normal(len(centre_K)))
    if rng.random() < 0.5:
        weight_K[rng.choice(len(centre_K), p=simplex(1 / (centre_K + SMALL)))] = 0
    return weight_K


def rounded(weights: np.ndarray) -> Mixture:
    """Weights on the simplex to a few decimals; under ``SMALL`` is nothing."""
    weights = simplex(weights)
    weights = simplex(np.where(weights < SMALL, 0, weights))
    return tuple(np.round(weights, DECIMALS).tolist())


def search(lab: Laboratory, objective_K: np.ndarray, runs: int, seeds: list[int], fresh: list[int]) -> dict:
    """The search that this file's docstring describes; what it found, ready for JSON."""
    domains = lab.corpus.domains
    k = len(domains)
    rng = np.random.default_rng(0)
    landmarks = {"uniform": rounded(np.full(k, 1 / k)), "natural": rounded(lab.corpus.train_tokens)}
    earlier = lab.experiment.methods.get("oracle")
    if earlier and earlier.mixer == "static" and earlier.options.get("weights"):
        landmarks["earlier"] = rounded(np.array([earlier.options["weights"][d] for d in domains]))
    trials = [(m, seeds[i % len(seeds)]) for i, m in enumerate(swarm([*landmarks.values()], max(runs // 3, 3), rng))]
    losses_NK = lab.measure(trials)
    while len(trials) < runs:
        centre_K = centre_of(np.array([m for m, _ in trials]), losses_NK @ objective_K)
        lab.progress.update(
            lab.task, note=f"best {np.min(losses_NK @ objective_K):.4f} near {_words(domains, centre_K)}"
        )
        spread = np.interp(len(trials), (0, runs), SPREAD)
        size = min(ROUND, runs - len(trials)) - 1
        near = [centre_K, *(near_by(centre_K, spread, rng) for _ in range(size))]
        added = [(rounded(m), seeds[(len(trials) + i) % len(seeds)]) for i, m in enumerate(near)]
        losses_NK = np.vstack([losses_NK, lab.measure(added)])
        trials += added
    score_N = losses_NK @ objective_K
    centre_K = centre_of(np.array([m for m, _ in trials]), score_N)
    finalists = list(dict.fromkeys([rounded(centre_K), trials[int(score_N.argmin())][0], *landmarks.values()]))
    final_MS = (
        lab.measure([(m, s) for m in finalists for s in fresh]).reshape(len(finalists), len(fresh), k) @ objective_K
    )
    best = int(final_MS.mean(1).argmin())

    def entry(i: int) -> dict:
        deviation = float(final_MS[i].std(ddof=1)) if len(fresh) > 1 else None
        weights = dict(zip(domains, finalists[i], strict=True))
        return {"weights": weights, "loss": float(final_MS[i].mean()), "deviation": deviation}

    return {
        "oracle": entry(best),
        **{name: entry(finalists.index(mixture)) for name, mixture in landmarks.items()},
        "finalists": [entry(i) for i in np.argsort(final_MS.mean(1))],
        "target": dict(zip(domains, objective_K.tolist(), strict=True)),
        "seeds": {"search": seeds, "fresh": fresh},
        "runs": {"search": len(trials), "fresh": final_MS.size},
        "corpus": lab.corpus.digest,
    }


def _words(domains: tuple[str, ...], weight_K: np.ndarray) -> str:
    return ", ".join(f"{domains[k]} {weight_K[k]:.0%}" for k in np.argsort(-weight_K)[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="YAML file of the experiment")
    parser.add_argument("--runs", type=int, default=96, help="runs of the search, without those on fresh seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101], help="seeds of the search, taken in turn")
    parser.add_argument("--fresh", type=int, nargs="+", default=[110, 111, 112, 113], help="seeds of the finalists")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the corpus is, or is built")
    parser.add_argument("--out", type=Path, default=Path("oracle.json"))
    options = parser.parse_args()
    experiment = load_experiment(options.experiment)
    used = sorted({*options.seeds, *options.fresh} & {*experiment.seeds})
    if used:
        parser.error(f"seeds {used} are those of the comparison: an oracle found on them would have seen its test")
    corpus = Corpus.open(build_corpus(experiment.corpus, options.data))
    objective_K = experiment.evaluation.objective_weights(corpus.domains, corpus.train_tokens)
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that train, when they start
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool, Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ) as progress:  # fmt: skip
        lab = Laboratory(experiment, corpus, options.out.with_suffix(".jsonl"), pool, progress)
        found = search(lab, objective_K, options.runs, options.seeds, options.fresh)
    write_json(options.out, found)
    for name in ("uniform", "natural", "oracle"):
        print(f"{name:<8} {found[name]['loss']:.4f}  deviation {found[name]['deviation'] or float('nan'):.4f}")
    print("oracle weights:", json.dumps(found["oracle"]["weights"]))


if __name__ == "__main__":
    main()
