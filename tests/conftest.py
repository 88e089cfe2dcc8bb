"""What the tests share: a small sealed corpus made of generated text, and the specs of small runs on it. No network."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# In the background these are often ignored, and every program that a test starts and stops would inherit that.
for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

VOCABULARY = 300
# By the CPU time that they take. They begin first, so that no worker is left with one of them when the others have finished.
LONGEST_FILES = (
    "e2e/test_smoke.py",
    "contract/test_mixers.py",
    "e2e/test_ranks.py",
    "e2e/test_kills.py",
    "unit/lm/test_model_types.py",
    "e2e/test_ablation.py",
    "e2e/test_clusters.py",
    "unit/analysis/test_report.py",
    "e2e/test_examples.py",
    "e2e/test_rerun.py",
    "e2e/test_resume.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; ``make test`` deals files to its workers in this order."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def _texts() -> dict[str, list[str]]:
    """Domain -> documents; four languages of different size and statistics, the same on every machine."""
    rng = np.random.default_rng(20)
    words = ["river", "stone", "cloud", "ember", "willow", "harbour", "lantern", "meadow", "thistle", "orchard"]
    return {
        "counting": [f"{i} and {i + 1} make {2 * i + 1}, and twice {i} is {2 * i}." for i in range(700)],
        "words": [f"Note {i}: " + " ".join(rng.choice(words, 14)) + "." for i in range(500)],
        "brackets": [f"[{i}]" + "".join(rng.choice(list("()[]{}<>"), 60)) for i in range(300)],
        "noise": ["".join(rng.choice(list("qwertzuiopasdfghjkl 0123456789"), 90)) for _ in range(150)],
    }


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a sealed corpus of four small domains."""
    from acodm_core.data.build import build_corpus
    from acodm_core.data.catalogue import CorpusSpec

    folder = tmp_path_factory.mktemp("tiny")
    domains = {}
    for name, texts in _texts().items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        domains[name] = {"from": "files", "paths": [str(path)], "format": "jsonl"}
    tokenizer = {"vocab_size": VOCABULARY}
    return build_corpus(
        CorpusSpec.model_validate({"name": "tiny", "domains": domains, "tokenizer": tokenizer}), folder / "data"
    )


@pytest.fixture(scope="session")
def corpus(corpus_folder: Path):
    from acodm_core.data.corpus import Corpus

    return Corpus.open(corpus_folder)


@pytest.fixture(scope="session")
def experiment_of(corpus):
    """``experiment_of(compare=[...], training={...})``: an experiment on the small corpus, changed by YAML-like overlays."""
    from acodm_core.study.config import Experiment, load_experiment

    def build(*overlays: dict[str, Any], **overlay: Any) -> Experiment:
        return load_experiment(tiny_config(corpus), *overlays, overlay)

    return build


def tiny_config(corpus) -> dict[str, Any]:
    """The configuration of an experiment whose runs take a second."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    layers = r"layers\.(0|1)\.mlp\.dense_4h_to_h"
    tiny = {"config": {"model_type": "gpt_neox", **shape}, "lr": 3e-3, "gradient_layers": layers, "norm_layers": layers}
    return {
        "experiment": "tiny",
        "seeds": [0],
        "corpus": corpus.manifest.spec.model_dump(mode="json"),
        "models": {"tiny": tiny},
        "roles": {"target": "tiny", "proxy": "tiny"},
        "training": {"steps": 40, "batch": 8, "context": 16, "precision": "float32", "checkpoint_every": 7},
        "evaluation": {"every": 10, "valid_sequences": 3, "test_sequences": 3},
        "compare": ["uniform"],
        "baseline": "uniform",
    }
