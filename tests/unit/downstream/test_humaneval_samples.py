"""HumanEval's sampler: the same samples whatever the batch, none cut silently, none drawn twice; and the cost of solutions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import SHAPES
from typer.testing import CliRunner

from acodm_core.cli import app
from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.downstream.humaneval import samples
from acodm_core.downstream.humaneval.samples import LENGTH, STOPS, TOO_LONG, Settings, choose, evaluate
from acodm_core.downstream.humaneval.solutions import measure, stripped
from acodm_core.downstream.unigram import unigram_nats
from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.model import build_model
from acodm_core.lm.train import Trainer
from acodm_core.study.planner import plan

CONTEXT = 48
PROBLEMS = {
    f"Tiny/{i}": {"prompt": f"def f{i}(a):\n    {'x' * (3 * i)}\n", "canonical_solution": f"    return {i}\n"}
    for i in range(6)
} | {"Tiny/long": {"prompt": "def g(a):\n" + "    # much to read\n" * 20, "canonical_solution": "    return a\n"}}
SETTINGS = Settings(temperature=1.0, top_p=0.9, samples=3, max_new_tokens=12)


@pytest.fixture(scope="module")
def run(experiment_of, corpus, tmp_path_factory) -> Path:
    (spec,) = plan(experiment_of(training={"steps": 3, "context": CONTEXT})).runs.values()
    folder = tmp_path_factory.mktemp("runs") / spec.run
    assert Trainer(spec, corpus, folder).run() == "finished"
    return folder


@pytest.fixture(scope="module")
def checkpoint(run, corpus) -> Checkpoint:
    return Checkpoint.load(run, corpus)


@pytest.fixture(scope="module")
def unigram(corpus) -> np.ndarray:
    return unigram_nats(corpus)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_a_sample_does_not_depend_on_its_batch(checkpoint, unigram, tmp_path) -> None:
    for batch in (1, 4, 100):
        evaluate(checkpoint, unigram, SETTINGS, tmp_path / str(batch), batch=batch, problems=PROBLEMS)
    alone, four, together = (rows_of(tmp_path / str(batch)) for batch in (1, 4, 100))
    assert alone == four == together
    assert [(r["task_id"], r["sample"]) for r in alone] == [(t, n) for t in PROBLEMS for n in range(SETTINGS.samples)]
    assert len({r["completion"] for r in alone}) > SETTINGS.samples, "samples differ"


@pytest.mark.parametrize("kind", SHAPES)
def test_any_architecture_draws_the_same_alone_and_padded(kind: str, checkpoint) -> None:
    model = (
        build_model({"model_type": kind, **SHAPES[kind][0]}, vocab_size=300, context=CONTEXT, seed=1).eval().double()
    )
    rng = np.random.default_rng(2)
    requests = [
        samples._Request(f"Tiny/{i}", 0, rng.integers(1, 300, 2 + 5 * i).tolist(), rng.random(16)) for i in range(5)
    ]
    together = samples.draw(model, checkpoint.tokenizer, requests, SETTINGS)
    assert together == [samples.draw(model, checkpoint.tokenizer, [r], SETTINGS)[0] for r in requests]


def test_the_seed_decides_and_more_samples_leave_the_first_as_they_were(checkpoint, unigram, tmp_path) -> None:
    def drawn(name: str, **changes) -> dict:
        settings = Settings(**({"temperature": 1.0, "samples": 2, "max_new_tokens": 12} | changes))
        evaluate(checkpoint, unigram, settings, tmp_path / name, problems=PROBLEMS)
        return {(row["task_id"], row["sample"]): row["completion"] for row in rows_of(tmp_path / name)}

    first, more, other = drawn("first"), drawn("more", samples=4), drawn("other", seed=1)
    assert {key: more[key] for key in first} == first
    assert sum(first[key] != other[key] for key in first) > len(first) // 2


def test_every_token_is_drawn_from_what_the_model_says_of_the_text_before_it(checkpoint, unigram, tmp_path) -> None:
    """Against a loop without batch, padding or cache, in the same precision."""
    evaluate(checkpoint, unigram, SETTINGS, tmp_path, problems=PROBLEMS)
    rows = {(row["task_id"], row["sample"]): row for row in rows_of(tmp_path)}
    tokenizer, model = checkpoint.tokenizer, checkpoint.model.double()
    try:
        for number, task_id in enumerate(list(PROBLEMS)[:3]):
            prompt = tokenizer.encode(stripped(PROBLEMS[task_id]["prompt"]))
            uniform = torch.from_numpy(np.random.default_rng([SETTINGS.seed, number, 1]).random(12))
            tokens: list[int] = []
            for t in range(rows[task_id, 1]["tokens"]):
                with torch.no_grad():
                    logits = model(torch.tensor([prompt + tokens]), use_cache=False).logits[:, -1]
                tokens.append(int(choose(logits, uniform[t : t + 1], SETTINGS)))
            assert tokenizer.decode(tokens, skip_special_tokens=True).startswith(rows[task_id, 1]["completion"])
    finally:
        model.float()


def test_weights_are_float32_again_and_unchanged(checkpoint, unigram, run, corpus, tmp_path) -> None:
    evaluate(checkpoint, unigram, SETTINGS, tmp_path, problems=PROBLEMS)
    fresh = Checkpoint.load(run, corpus).model.state_dict()
    for name, tensor in checkpoint.model.state_dict().items():
        assert tensor.dtype == fresh[name].dtype and torch.equal(tensor, fresh[name])


@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.floats(0.1, 2.0))
def test_a_draw_is_of_the_smallest_set_that_holds_top_p(seed: int, top_p: float, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits_BV, uniform_B = torch.from_numpy(rng.normal(size=(64, 9)) * 2), torch.from_numpy(rng.random(64))
    token_B = choose(logits_BV, uniform_B, Settings(temperature=temperature, top_p=top_p))
    probability_BV = (logits_BV / temperature).softmax(1)
    for token, probability_V in zip(token_B, probability_BV, strict=True):
        likelier = probability_V[probability_V > probability_V[token]].sum()
        assert likelier < top_p + 1e-12


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    logits_BV = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)).expand(20_000, -1)
    uniform_B = torch.from_numpy(np.random.default_rng(0).random(20_000))
    mixture_V = torch.bincount(choose(logits_BV, uniform_B, Settings(1.0, top_p=0.9)), minlength=4) / 20_000
    assert mixture_V.tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0], abs=0.015)
    assert choose(logits_BV[:2], uniform_B[:2], Settings(0.0, samples=1)).tolist() == [0, 0]
    assert choose(logits_BV[:1], torch.tensor([np.nextafter(1, 0)]), Settings(1.0, top_p=1.0)).tolist() == [3]


class Scripted(torch.nn.Module):
    """A model that says what it is told, token by token, whatever it reads."""

    device = torch.device("cpu")

    def __init__(self, tokens: list[int], of: Checkpoint) -> None:
        super().__init__()
        self.config, self.tokens, self.size, self.said = of.model.config, tokens, len(of.tokenizer), 0

    def forward(self, input_ids, **_):
        logits = torch.full((len(input_ids), 1, self.size), -50.0, dtype=torch.float64)
        logits[:, 0, self.tokens[self.said]] = 50.0
        self.said += 1
        return type("Output", (), {"logits": logits})


def say(checkpoint: Checkpoint, text: str, *, more: list[int] | None = None, new_tokens: int = 200) -> samples.Sample:
    """The sample of a model that writes ``text``, and then ``more`` tokens."""
    tokens = checkpoint.tokenizer.encode(text) + (more or [])
    model = Scripted(tokens + tokens[-1:] * new_tokens, checkpoint)
    request = samples._Request("Tiny/0", 0, [1, 2], np.full(new_tokens, 0.5))
    (sample,) = samples.draw(model, checkpoint.tokenizer, [request], Settings())
    return sample


@pytest.mark.parametrize("stop", STOPS)
def test_a_completion_ends_before_the_first_stop(stop: str, checkpoint) -> None:
    sample = say(checkpoint, f"\n    return 'é漢'{stop} and\ndef never")
    assert (sample.completion, sample.stopped_by) == ("\n    return 'é漢'", stop)
    assert say(checkpoint, f"{stop}").completion == "", "nothing before it is an empty completion"


def test_a_completion_ends_with_its_text_or_its_length(checkpoint, corpus) -> None:
    sample = say(checkpoint, "\n    return 1", more=[corpus.end_of_text])
    assert (sample.completion, sample.stopped_by) == ("\n    return 1", "end of text")
    assert sample.tokens == len(checkpoint.tokenizer.encode("\n    return 1")) + 1
    cut = say(checkpoint, "\n    return 1 and\n  def indented", new_tokens=4)
    assert cut.stopped_by == LENGTH and cut.tokens == 4 and "\n    return 1".startswith(cut.completion[:8])


def test_a_prompt_that_does_not_fit_is_named_and_never_cut(checkpoint, unigram, tmp_path) -> None:
    manifest = evaluate(checkpoint, unigram, SETTINGS, tmp_path, problems=PROBLEMS)
    assert manifest["too_long"] == ["Tiny/long"] == manifest["solutions_too_long"]
    assert manifest["samples"] == len(PROBLEMS) * SETTINGS.samples and manifest["problems"] == len(PROBLEMS)
    assert manifest["stopped_by"][TOO_LONG] == SETTINGS.samples
    left = [row for row in rows_of(tmp_path) if row["task_id"] == "Tiny/long"]
    assert [(row["completion"], row["tokens"], row["stopped_by"]) for row in left] == [("", 0, TOO_LONG)] * 3
    assert all(row["tokens"] > 0 for row in rows_of(tmp_path) if row["task_id"] != "Tiny/long")
    assert sum(manifest["stopped_by"].values()) == manifest["samples"]


class Stop(Exception):
    pass


def test_a_killed_sampling_goes_on_and_ends_in_the_same_bytes(checkpoint, unigram, tmp_path, monkeypatch) -> None:
    evaluate(checkpoint, unigram, SETTINGS, tmp_path / "whole", batch=4, problems=PROBLEMS)
    drawn, original = [], samples.draw

    def draw(model, tokenizer, requests, settings):
        if len(drawn) == 2:
            raise Stop
        drawn.append(len(requests))
        return original(model, tokenizer, requests, settings)

    monkeypatch.setattr(samples, "draw", draw)
    out = tmp_path / "killed"
    with pytest.raises(Stop):
        evaluate(checkpoint, unigram, SETTINGS, out, batch=4, problems=PROBLEMS)
    assert not (out / "samples.jsonl").exists() and not (out / "manifest.json").exists()
    (partial,) = out.glob(".samples-*.jsonl")
    partial.write_bytes(partial.read_bytes()[:-5])  # the last line cut short
    drawn.clear()
    monkeypatch.setattr(samples, "draw", lambda *a: drawn.append(len(a[2])) or original(*a))
    evaluate(checkpoint, unigram, SETTINGS, out, batch=4, problems=PROBLEMS)
    assert sum(drawn) == (len(PROBLEMS) - 1) * SETTINGS.samples - 7, "only what was missing"
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_the_same_samples_are_not_drawn_twice_and_others_replace_them(
    checkpoint, unigram, tmp_path, monkeypatch
) -> None:
    first = evaluate(checkpoint, unigram, SETTINGS, tmp_path, problems=PROBLEMS)
    calls, original = [], samples.draw
    monkeypatch.setattr(samples, "draw", lambda *a: calls.append(1) or original(*a))
    assert evaluate(checkpoint, unigram, SETTINGS, tmp_path, problems=PROBLEMS) == first and not calls
    other = Settings(temperature=0.5, samples=1, max_new_tokens=12)
    assert evaluate(checkpoint, unigram, other, tmp_path, problems=PROBLEMS) != first and calls
    assert len(rows_of(tmp_path)) == len(PROBLEMS)


def test_solutions_cost_what_the_model_says_token_by_token(checkpoint, unigram) -> None:
    rows = {row["task_id"]: row for row in measure(checkpoint, PROBLEMS, unigram, batch=4)}
    tokenizer = checkpoint.tokenizer
    for task_id in list(PROBLEMS)[:-1]:
        problem, row = PROBLEMS[task_id], rows[task_id]
        prompt = tokenizer.encode(stripped(problem["prompt"]))
        text = problem["prompt"][len(stripped(problem["prompt"])) :] + problem["canonical_solution"]
        solution = tokenizer.encode(text)
        tokens = torch.tensor([prompt + solution])
        with torch.no_grad():
            log_TV = checkpoint.model(tokens).logits[0].log_softmax(-1)
        expected = -sum(float(log_TV[len(prompt) - 1 + i, token]) for i, token in enumerate(solution))
        assert row["nats"] == pytest.approx(expected, rel=1e-5)
        assert row["tokens"] == len(solution) and row["bytes"] == len(text.encode())
        assert row["unigram_nats"] == pytest.approx(unigram[solution].sum())
    assert rows["Tiny/long"]["nats"] is None


def test_scores_are_bits_over_bytes_of_what_fits(checkpoint, unigram, tmp_path) -> None:
    evaluate(checkpoint, unigram, SETTINGS, tmp_path, problems=PROBLEMS)
    solutions = pd.read_parquet(tmp_path / "solutions.parquet")
    found = pd.read_parquet(tmp_path / "scores.parquet").set_index("metric")
    fits = solutions.dropna()
    assert len(solutions) == len(PROBLEMS) == len(fits) + 1
    assert found.value["bits_per_byte"] == pytest.approx(fits.nats.sum() / math.log(2) / fits.bytes.sum())
    assert found.value["unigram_ratio"] == pytest.approx(fits.nats.sum() / fits.unigram_nats.sum())
    assert found.chance["unigram_ratio"] == 1 and set(found.n) == {len(fits)} and set(found.task) == {"humaneval"}


def test_settings_that_cannot_be_meant_are_refused(checkpoint, unigram, tmp_path) -> None:
    with pytest.raises(UserError, match="are one"):
        Settings(temperature=0.0, samples=10)
    with pytest.raises(UserError, match="no room"):
        evaluate(checkpoint, unigram, Settings(max_new_tokens=CONTEXT), tmp_path, problems=PROBLEMS)
    assert Settings().new_tokens(CONTEXT) == CONTEXT // 2 and Settings().new_tokens(4096) == 512


def test_the_program_samples_all_problems_and_counts_what_does_not_fit(run, corpus_folder, tmp_path) -> None:
    arguments = ["downstream", "humaneval-sample", str(run), "--corpus", str(corpus_folder), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*arguments, "--samples", "1", "--max-new-tokens", "2"])
    assert done.exit_code == 0, done.output
    rows, manifest = rows_of(tmp_path), read_json(tmp_path / "manifest.json")
    assert len({row["task_id"] for row in rows}) == 164 == len(rows)
    assert f"{len(manifest['too_long'])} of 164 prompts" in done.output
