"""A run's checkpoint as a Hugging Face folder, and the programs on it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from acodm_core.cli import app
from acodm_core.data.corpus import Corpus
from acodm_core.data.tokens.tokenizer import load_tokenizer
from acodm_core.downstream.checkpoint import Checkpoint, export
from acodm_core.downstream.mmlu.questions import few_shot_examples, write_mirror
from acodm_core.errors import UserError
from acodm_core.files import read_json, write_json
from acodm_core.lm.kernels import attention
from acodm_core.lm.train import Trainer
from acodm_core.study.planner import plan


@pytest.fixture(scope="module")
def run(experiment_of, corpus, tmp_path_factory) -> Path:
    (spec,) = plan(experiment_of(training={"steps": 5})).runs.values()
    folder = tmp_path_factory.mktemp("runs") / spec.run
    assert Trainer(spec, corpus, folder).run() == "finished"
    return folder


@pytest.fixture(scope="module")
def checkpoint(run: Path, corpus: Corpus) -> Checkpoint:
    return Checkpoint.load(run, corpus)


def test_an_exported_folder_is_the_same_model_and_tokenizer(checkpoint, corpus, tmp_path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = export(checkpoint, tmp_path / "hf")
    model = AutoModelForCausalLM.from_pretrained(out, attn_implementation=attention.NAME)
    tokenizer = AutoTokenizer.from_pretrained(out)
    ours = load_tokenizer(corpus.tokenizer_path)
    for text in ("12 and 13 make 25", "  indented\n\n\tand é 漢 <|endoftext|> spelt out", ""):
        expected = ours.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == checkpoint.tokenizer.encode(text) == expected
        assert tokenizer.decode(expected) == text
    tokens_BS = torch.tensor([tokenizer.encode("Note 3: river stone")])
    with torch.no_grad():
        assert torch.equal(model(tokens_BS).logits, checkpoint.model(tokens_BS).logits)
    assert tokenizer.eos_token_id == corpus.end_of_text and model.config.use_cache
    with pytest.raises(UserError, match="exists"):
        export(checkpoint, out)


def test_a_checkpoint_is_named_by_its_weights(checkpoint, run, corpus, tmp_path) -> None:
    assert checkpoint.step == 5 and checkpoint.run == run.name and checkpoint.context == 16
    assert Checkpoint.load(run, corpus).digest == checkpoint.digest
    weights = run / "weights.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-4] + b"\0\0\0\1")
        with pytest.raises(UserError, match=r"weights\.safetensors: truncated or changed"):
            Checkpoint.load(run, corpus)
    finally:
        weights.write_bytes(before)


def test_what_is_no_model_of_this_corpus_is_refused(run: Path, corpus: Corpus, tmp_path: Path) -> None:
    manifest = read_json(run / "manifest.json")
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    write_json(tmp_path / "manifest.json", manifest | {"corpus": "another"})
    with pytest.raises(UserError, match="another corpus"):
        Checkpoint.load(tmp_path, corpus)
    write_json(tmp_path / "manifest.json", manifest | {"status": "diverged"})
    with pytest.raises(UserError, match="the run has diverged"):
        Checkpoint.load(tmp_path, corpus)
    with pytest.raises(UserError, match="step-000003"):
        Checkpoint.load(run, corpus, step=3)


TASK = """task: {name}
dataset_path: {path}
dataset_kwargs: {kwargs}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no", "maybe"]
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def test_named_tasks_run_and_those_that_need_the_hub_are_rows_with_a_reason(run, corpus_folder, tmp_path) -> None:
    include = tmp_path / "tasks"
    include.mkdir()
    pd.DataFrame({"question": [f"Is it {i}?" for i in range(9)], "answer": [i % 3 for i in range(9)]}).to_json(
        tmp_path / "data.jsonl", orient="records", lines=True
    )
    local = f"{{data_files: {{test: {tmp_path / 'data.jsonl'}}}, cache_dir: {tmp_path / 'cache'}}}"
    (include / "local.yaml").write_text(TASK.format(name="local", path="json", kwargs=local))
    (include / "far.yaml").write_text(TASK.format(name="far", path="nobody/nothing-of-the-kind", kwargs="{}"))
    arguments = ["downstream", "tasks", str(run), "--corpus", str(corpus_folder), "--out", str(tmp_path / "out")]
    arguments += ["--task", "local", "--task", "far", "--include", str(include)]
    for _ in range(2):  # the second time the first task is found measured
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert "far skipped: its data are on the Hugging Face hub, out of reach here" in done.output
    frame = pd.read_parquet(tmp_path / "out" / "scores.parquet").set_index(["task", "metric"])
    accuracy = frame.loc[("local", "acc")]
    assert accuracy["n"] == 9 and accuracy["chance"] == pytest.approx(1 / 3) and accuracy["status"] == "measured"
    far = frame.loc[("far", "")]
    assert far["status"] == "skipped" and "Hugging Face hub" in far["reason"] and pd.isna(far["value"])
    wrong = CliRunner().invoke(app, [*arguments[:-4], "--task", "locall", "--include", str(include), "--too-long", "x"])
    assert isinstance(wrong.exception, UserError) and "--too-long" in str(wrong.exception)


def test_the_programs_print_what_they_measured_and_what_did_not_fit(run, corpus_folder, tmp_path) -> None:
    questions = (
        {"question": f"{i} and {i + 1} make", "choices": ["1", "2", "3", "4"], "answer": i % 4} for i in range(6)
    )
    rows = [{"subject": "anatomy", **question} for question in questions]
    write_mirror(tmp_path / "copy", {"anatomy": rows}, few_shot_examples(["anatomy"]))
    common = ["--corpus", str(corpus_folder), "--source", str(tmp_path / "copy")]
    for _ in range(2):
        out = ["--out", str(tmp_path / "mmlu"), "--subject", "anatomy", "--shots", "1"]
        done = CliRunner().invoke(app, ["downstream", "mmlu", str(run), *common, *out])
        assert done.exit_code == 0, done.output
        assert "unigram_ratio" in done.output and "6 of 6 prompts lost their beginning" in done.output
        assert "6 of 6 questions had fewer examples than asked" in done.output
    done = CliRunner().invoke(app, ["downstream", "contamination", *common, "--out", str(tmp_path / "contamination")])
    assert "mmlu: 0 of 6 questions share 13 words in a row" in done.output and "(6 are too short" in done.output
    done = CliRunner().invoke(
        app, ["downstream", "export", str(run), "--corpus", str(corpus_folder), "--out", str(tmp_path / "hf")]
    )
    assert done.exit_code == 0 and (tmp_path / "hf" / "model.safetensors").is_file()
