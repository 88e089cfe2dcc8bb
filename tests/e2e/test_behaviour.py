"""What the papers promise of each method, held against real small trainings on domains whose worth is known.

The domains: `easy` and `twin` are one language, `hard` one of many words, `noise` has nothing to learn, `helper` is half in the
language of `one` and half in that of `other`, and `tiny` is soon known by heart. Bounds are wide: over seeds 0, 1 and 2 what
they bound lay at least a tenth away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from acodm_core.data.build import build_corpus
from acodm_core.data.corpus import Corpus
from acodm_core.data.sampler import Sampler
from acodm_core.files import read_json
from acodm_core.lm.signals.held_out import Evaluator
from acodm_core.lm.train import Trainer
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Signal, Start, StepStats
from acodm_core.study.config import Experiment, load_experiment
from acodm_core.study.planner import plan

torch.set_num_threads(1)

STEPS = 160
LANGUAGES = {
    "easy": [{"name": "e", "words": 12}],
    "twin": [{"name": "e", "words": 12}],
    "hard": [{"name": "h", "words": 64}],
    "noise": [{"name": "x", "words": 24, "noise": 1.0}],
    "helper": [{"name": "m", "words": 32}, {"name": "b", "words": 32}],
    "one": [{"name": "m", "words": 32}],
    "other": [{"name": "b", "words": 32}],
    "tiny": [{"name": "t", "words": 12}],
}
EASY, TWIN, HARD, NOISE, HELPER, ONE, OTHER, TINY = range(len(LANGUAGES))
UNIFORM = 1 / len(LANGUAGES)


def experiment(method: str, options: dict[str, Any]) -> Experiment:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    layers = r"layers\.0\.mlp\.dense_(h_to_4h|4h_to_h)"
    tiny = {"config": {"model_type": "gpt_neox", **shape}, "lr": 1e-2, "gradient_layers": layers, "norm_layers": layers}
    domains = {
        name: {"from": "synthetic", "languages": languages, "seed": i, "megabytes": 0.012 if name == "tiny" else 0.15}
        for i, (name, languages) in enumerate(LANGUAGES.items())
    }
    return load_experiment(
        {
            "experiment": "promises",
            "seeds": [0],
            "corpus": {"name": "promises", "domains": domains, "tokenizer": {"vocab_size": 512}},
            "models": {"tiny": tiny},
            "roles": {"target": "tiny", "proxy": "tiny"},
            "training": {"steps": STEPS, "batch": 24, "context": 32, "precision": "float32", "checkpoint_every": STEPS},
            "evaluation": {"every": STEPS, "valid_sequences": 4, "test_sequences": 4},
            "methods": {method: {"mixer": method, "options": options}} if options else {},
            "compare": [method],
            "baseline": method,
        }
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.open(build_corpus(experiment("uniform", {}).corpus, tmp_path_factory.mktemp("data")))


@dataclass(frozen=True)
class Run:
    trainer: Trainer
    mixture_TK: np.ndarray  # asked for in every step

    @classmethod
    def of(cls, trainer: Trainer) -> Run:
        assert trainer.run() == "finished"
        mixture = pd.read_parquet(trainer.folder / "mixture.parquet")
        return cls(
            trainer, mixture.pivot(index="step", columns="domain", values="requested")[list(LANGUAGES)].to_numpy()
        )

    @property
    def mixture_K(self) -> np.ndarray:
        """Mean of the second half."""
        return self.mixture_TK[STEPS // 2 :].mean(0)

    @property
    def weight_K(self) -> np.ndarray:
        """What a target would draw by."""
        weights = read_json(self.trainer.folder / "weights.json")
        return np.array([weights[name] for name in LANGUAGES])


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """``trained(method, option=value)``: its run, or that of its last stage before the target."""
    root, done = tmp_path_factory.mktemp("runs"), {}

    def train(method: str, **options: Any) -> Run:
        for name, spec in plan(experiment(method, options)).runs.items():
            if spec.mixer == "static":
                break
            if name not in done:
                inputs = {role: done[run].trainer.folder for role, run in spec.inputs.items()}
                done[name] = Run.of(Trainer(spec, corpus, root / name, inputs))
            last = done[name]
        return last

    return cache(train)


def test_doremi_raises_the_domain_that_is_hard_and_can_be_learned_and_not_the_noise(trained) -> None:
    weight_K = trained("doremi").weight_K
    assert weight_K.argmax() == HARD and weight_K[HARD] > 0.5
    assert weight_K[NOISE] < UNIFORM / 2, "its loss is the highest, and the reference's is as high"


def test_doge_raises_the_domains_that_help_each_other(trained) -> None:
    weight_K = trained("doge").weight_K
    assert weight_K[[HELPER, ONE, OTHER]].sum() > 0.7
    assert weight_K[HELPER] > 1.2 * UNIFORM
    assert weight_K[NOISE] < UNIFORM / 4


@pytest.fixture(scope="module")
def embedding_KH(trained, corpus: Corpus) -> np.ndarray:
    """What CHAMELEON's proxy sees, of as many sequences as there are."""
    trainer = trained("chameleon").trainer
    held_out = Evaluator(corpus, "valid", sequences=48, context=32, rows=24, last=True)
    return held_out.embeddings(trainer.model, trainer.train_step.autocast())


def chameleon(embedding_KH: np.ndarray, **options: Any) -> Any:
    mixer, k = build_mixer("chameleon", options), len(embedding_KH)
    names, mixture_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(
        Start(domains=names, prior=mixture_K, tokens_available=mixture_K, total_steps=1, rng=np.random.default_rng(0))
    )
    mixer.observe(StepStats(0, np.ones(k), {Signal.EMBEDDING: embedding_KH}))
    return mixer


def test_chameleon_cannot_tell_duplicates_apart(trained) -> None:
    weight_K = trained("chameleon").weight_K
    assert weight_K[EASY] == pytest.approx(weight_K[TWIN], rel=0.15)
    assert weight_K.argmax() == HELPER, "half of it is one, half is other: it has the most in common"
    assert weight_K.argmin() == NOISE


def test_chameleon_scores_duplicates_as_one_where_the_ridge_is_small(embedding_KH: np.ndarray) -> None:
    alone_KH, fine = np.delete(embedding_KH, TWIN, axis=0), {"rule": "paper", "normalise": True, "ridge": 1e-3}
    score_K, alone = chameleon(embedding_KH, **fine).score_, chameleon(alone_KH, **fine).score_[EASY]
    assert score_K[[EASY, TWIN]].sum() == pytest.approx(alone, rel=0.15)
    assert score_K[EASY] == pytest.approx(score_K[TWIN], rel=0.05)


def test_chameleon_draws_more_of_a_domain_once_it_has_a_duplicate(embedding_KH: np.ndarray) -> None:
    """What the formula says: less unique is worth more. Together the copies get more than twice what one had."""
    alone_KH = np.delete(embedding_KH, TWIN, axis=0)
    both = chameleon(embedding_KH, temperature=5.0).weight_[[EASY, TWIN]]
    assert both.sum() > 2 * chameleon(alone_KH, temperature=5.0).weight_[EASY]


def test_odm_goes_where_the_loss_is_high(trained) -> None:
    mixture_K = trained("odm").mixture_K
    assert mixture_K.argmax() == NOISE and mixture_K[NOISE] > 1.1 * UNIFORM, "even where nothing can be learned"


def test_ado_leaves_what_no_longer_falls_for_what_does(trained) -> None:
    run = trained("ado")
    prior_K, mixture_K = run.mixture_TK[0], run.mixture_K
    assert mixture_K[NOISE] < 0.75 * prior_K[NOISE] and mixture_K[EASY] < 0.95 * prior_K[EASY]
    assert mixture_K.argmax() == HARD and mixture_K[HARD] > 1.25 * prior_K[HARD]


def test_pike_leaves_the_noise(trained) -> None:
    assert trained("pike").mixture_K[NOISE] < UNIFORM / 3


def test_aioli_turns_away_from_the_noise(trained) -> None:
    """With ten times the step, that is: as published it moves by a few percent in a run as short as this."""
    assert trained("aioli", step_size=10.0).mixture_K[NOISE] < 0.9 * UNIFORM


def drawn(corpus: Corpus, method: str, **options: Any) -> np.ndarray:
    """(T, K) sequences that the sampler really draws for a mixer that asks for no signals."""
    (spec,) = plan(experiment(method, options)).runs.values()
    mixer = Trainer(spec, corpus, corpus.folder / "never run").mixer
    assert not mixer.needs
    sampler = Sampler(corpus, seed=0, batch=spec.training.batch, context=spec.training.context)
    return np.array([sampler.next(mixer.sampling_weights(step), step).counts_K for step in range(STEPS)])


def test_unimax_repeats_no_domain_more_often_than_it_was_told(corpus: Corpus) -> None:
    windows_K = Sampler(corpus, seed=0, batch=24, context=32).windows_K
    capped_K, uniform_K = (drawn(corpus, method).sum(0) / windows_K for method in ("unimax", "uniform"))
    assert uniform_K[TINY] > 5 and capped_K[TINY] == pytest.approx(4, abs=0.2)
    rest = [k for k in range(len(LANGUAGES)) if k != TINY]
    np.testing.assert_allclose(capped_K[rest] / uniform_K[rest], (capped_K / uniform_K)[EASY], rtol=0.05)
    assert capped_K[EASY] > uniform_K[EASY], "what was freed is shared out"


def test_a_curriculum_goes_from_its_first_point_to_its_last(corpus: Corpus) -> None:
    points = [{"at": 0.25, "weights": "uniform"}, {"at": 0.75, "weights": {**dict.fromkeys(LANGUAGES, 0), "hard": 1}}]
    count_TK = drawn(corpus, "curriculum", points=points)
    quarter, half = STEPS // 4, STEPS // 2
    np.testing.assert_allclose(count_TK[:quarter].mean(0), 3, rtol=0.05)
    assert (count_TK[-quarter:].sum(0) > 0).tolist() == [name == "hard" for name in LANGUAGES]
    np.testing.assert_allclose(count_TK[half - 8 : half + 8, HARD].mean() / 24, (1 + UNIFORM) / 2, rtol=0.05)
