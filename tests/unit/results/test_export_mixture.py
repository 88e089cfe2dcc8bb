"""A run's mixture as other trainers read it: what is written is what they draw by."""

from __future__ import annotations

import io
import json
import shlex
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from fake_runs import finish
from typer.testing import CliRunner

from acodm_core import cli
from acodm_core.errors import UserError
from acodm_core.mixers.find import find_mixer
from acodm_core.results.export_mixture import FORMATS, blend, weights
from acodm_core.results.table_files import write_table

DOMAINS = ("code", "books", "dull")
SHARES = [[0.6, 0.4, 0.0], [0.7, 0.3, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 1e-9]]  # a line a step


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        {"run": "r", "step": step, "domain": domain, "requested": share, "drawn": share}
        for step, shares in enumerate(SHARES, 1)
        for domain, share in zip(DOMAINS, shares, strict=True)
    ]
    write_table(rows[::-1], "mixture", tmp_path / "mixture.parquet")
    finish(tmp_path, spec={"domains": DOMAINS})
    return tmp_path


def test_the_mean_over_the_run_or_its_end(run) -> None:
    assert weights(run) == {"code": 0.7, "books": 0.3, "dull": 0.0}
    assert weights(run, "last") == {"code": 0.7, "books": 0.3, "dull": 0.0}


def test_rounded_weights_sum_to_one(run) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        shares = rng.dirichlet(np.ones(22))
        names = [f"d{i}" for i in range(22)]
        rows = [dict(run="r", step=1, domain=n, requested=s, drawn=s) for n, s in zip(names, shares, strict=True)]
        write_table(rows, "mixture", run / "mixture.parquet")
        finish(run, spec={"domains": names})
        found = weights(run)
        assert sum(found.values()) == pytest.approx(1, abs=1e-12)
        assert list(found.values()) == pytest.approx(shares, abs=2e-5)


def test_interleave_datasets_draws_by_what_is_written(run) -> None:
    written = json.loads(blend(run, "datasets"))
    sources = [datasets.Dataset.from_dict({"of": [name] * 3000}) for name in written["datasets"]]
    mixed = datasets.interleave_datasets(
        sources, probabilities=written["probabilities"], stopping_strategy=written["stopping_strategy"], seed=0
    )
    drawn = Counter(mixed["of"][:4000])
    assert set(drawn) == {"code", "books"}
    assert drawn["code"] / 4000 == pytest.approx(0.7, abs=0.03)


def test_the_mixer_static_reads_weights(run, tmp_path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(blend(run, "weights"))
    assert find_mixer("static")(file=str(path)).weights == weights(run)


def test_megatron_reads_pairs_and_no_empty_weight(run) -> None:
    pairs = shlex.split(blend(run, "megatron", names={"code": "data/code_text_document"}))
    assert pairs == ["0.7", "data/code_text_document", "0.3", "books"]


def test_doremi_and_torchtitan(run) -> None:
    assert json.loads(blend(run, "doremi")) == {f"{split}_domain_weights": weights(run) for split in ("train", "eval")}
    seen: list[dict] = []
    imports, _, code = blend(run, "torchtitan", names={"code": 'c"4'}).partition("\n")
    assert imports.startswith("from torchtitan")
    loader = type("Loader", (), {"Config": staticmethod(lambda sources: seen.extend(sources))})
    exec(code, {"HFDataSource": dict, "InterleavedHuggingFaceTextDataLoader": loader})
    assert seen == [
        {"dataset": 'c"4', "weight": 0.7, "infinite": True},
        {"dataset": "books", "weight": 0.3, "infinite": True},
    ]


def test_the_path_is_every_step(run) -> None:
    path = pd.read_csv(io.StringIO(blend(run, "path")), index_col="step")
    assert path.columns.tolist() == list(DOMAINS) and path.index.tolist() == [1, 2, 3, 4]
    assert path.to_numpy() == pytest.approx(np.array(SHARES), abs=1e-6)


def test_the_program_prints_or_writes(run, tmp_path) -> None:
    arguments = ["blend", str(run), "--to", "megatron", "--name", "code=c", "--name", "books=b"]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.stdout == "0.7 c\n0.3 b\n"
    assert CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "b.txt")]).exit_code == 0
    assert (tmp_path / "b.txt").read_text() == shown.stdout
    for wrong, words in ((["--of", "men"], "mean"), (["--name", "code"], "DOMAIN=NAME")):
        found = CliRunner().invoke(cli.app, [*arguments, *wrong]).exception
        assert isinstance(found, UserError) and words in str(found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "megatronn"}, "megatron"),
        ({"to": "weights", "names": {"cod": "x"}}, "did you mean 'code'"),
        ({"to": "weights", "names": {"code": "books"}}, "one name"),
    ],
)
def test_mistakes_are_answered(run, options, words) -> None:
    with pytest.raises(UserError, match=words):
        blend(run, **options)


def test_a_run_that_did_not_finish_is_refused(run) -> None:
    finish(run, status="diverged", spec={"domains": DOMAINS})
    for to in (*FORMATS, "path"):
        with pytest.raises(UserError, match="diverged"):
            blend(run, to)
