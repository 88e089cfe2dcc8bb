"""Damage of every kind to every file that a study leaves: a reader says which file and what to do, or reads the same as before."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from acodm_core.data.corpus import Corpus
from acodm_core.data.tokens.documents import SPLITS, read_documents
from acodm_core.errors import UserError
from acodm_core.files import write_json
from acodm_core.lm.train import Trainer
from acodm_core.results.collect import collect
from acodm_core.results.export_mixture import blend
from acodm_core.results.reader import Results
from acodm_core.results.schemas import TABLES
from acodm_core.study.planner import plan, read_experiment

KINDS = (
    "flipped at the start",
    "flipped",
    "flipped at the end",
    "cut",
    "longer",
    "empty",
    "garbage",
    "gone",
    "swapped",
)


@pytest.fixture(scope="module")
def study(experiment_of, corpus, tmp_path_factory):
    """A corpus, a run that another needs, both collected: in the places that the workflow gives them."""
    import torch

    torch.set_num_threads(1)
    recipe = {"steps": 4, "batch": 4, "checkpoint_every": 2}
    experiment = experiment_of(
        compare=["drawn", "uniform"],
        methods={
            "first": {"mixer": "chameleon"},
            "drawn": {"mixer": "static", "inputs": {"weights": "first"}},
        },
        training=recipe,
        evaluation={"every": 2},
    )
    root = tmp_path_factory.mktemp("study")
    planned, home = plan(experiment), root / "corpus"
    shutil.copytree(corpus.folder, home)
    for run, spec in planned.runs.items():
        folder = root / "runs" / run
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        Trainer(spec, Corpus.open(home), folder, spec.input_folders(root / "runs")).run()
    write_json(root / "all" / "plan.json", experiment.model_dump(mode="json"))
    collect(experiment, planned, Corpus.open(home), [root / "runs"], root / "all")
    return SimpleNamespace(root=root, plan=planned, files=sorted(p for p in root.rglob("*") if p.is_file()))


def read_all(root: Path, out: Path) -> list[object]:
    """What all programs after the training read of a study, as values that can be compared."""
    corpus = Corpus.open(root / "corpus")
    experiment, planned = read_experiment(root / "all" / "plan.json")
    found: list[object] = [planned]
    for domain in corpus.domains:
        found += [corpus.tokens(split, domain).tobytes() for split in SPLITS]
        found += [corpus.offsets(split, domain).tobytes() for split in SPLITS]
        found += [list(read_documents(root / "corpus" / "documents" / f"{domain}.parquet", "train"))]
    found += [corpus.token_bytes.tobytes(), corpus.tokenizer_path.read_bytes()]
    collect(experiment, planned, corpus, [root / "runs"], out)
    results = Results(root / "all")
    found += [getattr(results, name).to_dict("list") for name in ("runs", *TABLES)]
    for run, spec in planned.runs.items():
        found += [blend(root / "runs" / run, "path"), results.manifest(run), results.actor(run)]
        if spec.inputs:
            mixer = Trainer(spec, corpus, out / run, spec.input_folders(root / "runs")).mixer
            found += [mixer.sampling_weights(0).tolist()]
    return [repr(one) for one in found]


def damage(path: Path, kind: str, rng: np.random.Generator, other: Path) -> None:
    raw = bytearray(path.read_bytes())
    if kind.startswith("flipped") and raw:
        place = {"flipped": rng.integers(len(raw)), "flipped at the start": 0}.get(
            kind, len(raw) - 1 - min(40, len(raw) // 2)
        )
        raw[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del raw[len(raw) // 2 :]
    elif kind == "longer":
        raw += b"\0"
    elif kind == "empty":
        raw.clear()
    elif kind == "garbage":
        raw[:] = rng.bytes(len(raw))
    elif kind == "swapped":
        raw[:] = other.read_bytes()
    path.unlink() if kind == "gone" else path.write_bytes(raw)


def test_damage_is_named_or_changes_nothing(study, tmp_path: Path) -> None:
    """Every file, each with a kind of damage in turn; what no reader opens may be damaged."""
    whole = read_all(study.root, tmp_path / "whole")
    rng, silent, told = np.random.default_rng(0), [], 0
    read = [p for p in study.files if not {"state", "snapshots"} & set(p.parts)]
    for number, path in enumerate(read):
        before = path.read_bytes()
        others = [p for p in read if p.suffix == path.suffix and p != path] or [study.files[0]]
        kind, name = KINDS[number % len(KINDS)], str(path.relative_to(study.root))
        damage(path, kind, rng, others[number % len(others)])
        try:
            if read_all(study.root, tmp_path / "again") != whole:
                silent.append((name, kind))
        except UserError as error:
            told += 1
            if str(study.root) not in error.where or not error.fix:
                silent.append((name, kind, str(error)))
        except Exception as error:
            silent.append((name, kind, repr(error)))
        finally:
            path.write_bytes(before)
    assert not silent
    assert told > len(read) / 2
