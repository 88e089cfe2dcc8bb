"""A mixer in a loop that is not ours: accumulated passes, two processes, and what is refused."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import two_ranks
from mixers.asking import NEEDS, Asking
from torch.nn.functional import cross_entropy

from acodm_core.errors import UserError
from acodm_core.lm.dropin import Mix
from acodm_core.lm.signals.weight_norms import weight_norms
from acodm_core.mixing import Signal

TOKENS = {"code": 1000, "wiki": 2000, "books": 3000}
VOCABULARY, WIDTH, CONTEXT, BATCH = 31, 12, 5, 6


class Model(torch.nn.Module):
    """Each token's next one from itself alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner = torch.nn.Embedding(VOCABULARY, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.embed(tokens_BT)).tanh())


def made(mixer: str = "mixers.asking", **settings):
    torch.manual_seed(0)
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    settings = {"layers": "inner|head", "steps": 9, "batch": BATCH, "context": CONTEXT} | settings
    return Mix(mixer, TOKENS, model, optimiser, **settings), model, optimiser


def drawn(seed: int, batch: int = BATCH) -> torch.Tensor:
    return torch.randint(VOCABULARY, (batch, CONTEXT + 1), generator=torch.Generator().manual_seed(seed))


def losses(model: torch.nn.Module, tokens_BS: torch.Tensor) -> torch.Tensor:
    return cross_entropy(model(tokens_BS[:, :-1]).mT, tokens_BS[:, 1:], reduction="none")


def one_pass(mix: Mix, model: torch.nn.Module, tokens_BS: torch.Tensor, factor: float = 1.0) -> None:
    with mix.step():
        (factor * mix.loss(losses(model, tokens_BS))).backward()


def end(mix: Mix, optimiser: torch.optim.Optimizer):
    optimiser.step()
    optimiser.zero_grad()
    return mix.observe()


def assert_same(found, expected, signals=NEEDS) -> None:
    assert set(found) == set(expected) == NEEDS
    for signal in signals:
        np.testing.assert_allclose(found[signal], expected[signal], rtol=2e-4, atol=1e-7, err_msg=signal)


@pytest.mark.parametrize("factor", [0.5, 1.0, 65536.0])
@pytest.mark.parametrize("accumulate", [None, 2])
def test_two_passes_measure_what_one_of_both_does(accumulate: int | None, factor: float) -> None:
    """Whatever the loop multiplies its losses by: a half, nothing, or what a GradScaler does."""
    whole, model, optimiser = made(batch=2 * BATCH)
    mix, parted, its_optimiser = made(accumulate=accumulate)
    assert (mix.counts() == 2).all() and (whole.counts() == 4).all()
    for step in range(3):
        parts = [drawn(10 * step), drawn(10 * step + 1)]
        together = torch.cat([part[2 * k : 2 * k + 2] for k in range(3) for part in parts])
        one_pass(whole, model, together)
        for part in parts:
            one_pass(mix, parted, part, factor)
        found, expected = end(mix, its_optimiser), end(whole, optimiser)
        assert found.tokens.tolist() == expected.tokens.tolist() == [4 * CONTEXT] * 3
        if step == 0:
            assert np.isnan(found[Signal.ADAM_SKETCH]).all() and np.isfinite(found[Signal.GRAD_GRAM]).all()
        parted.load_state_dict(model.state_dict())  # AdamW's step depends on the factors of all steps
        its_optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        if step:
            assert_same(found, expected, NEEDS - {Signal.PARAM_NORM, Signal.PARAM_STEP_NORM})


def test_losses_of_a_pass_are_weighed_as_the_mixer_says() -> None:
    mix, model, _ = made()
    loss_BT = losses(model, drawn(0))
    with mix.step():
        loss = mix.loss(loss_BT)
        loss.backward()
    weight_B = torch.tensor([0.5, 0.5, 1, 1, 2, 2])
    assert loss.item() == pytest.approx(((loss_BT.mean(1) * weight_B).sum() / weight_B.sum()).item(), rel=1e-6)


def test_norms_are_the_trainers() -> None:
    mix, model, optimiser = made(accumulate=2)
    weights = [model.inner.weight, model.head.weight]
    for step in range(2):
        before = [weight.detach().clone() for weight in weights]
        one_pass(mix, model, drawn(step))
        one_pass(mix, model, drawn(9 - step))
        stats = end(mix, optimiser)
        assert np.array_equal(stats[Signal.PARAM_NORM], weight_norms(weights))
        changes = [now.detach() - then for now, then in zip(weights, before, strict=True)]
        assert (
            np.array_equal(stats[Signal.PARAM_STEP_NORM], weight_norms(changes)) and stats[Signal.PARAM_STEP_NORM].all()
        )


def on_rank(folder: str) -> None:
    from torch.nn.parallel import DistributedDataParallel

    from acodm_core.lm.distributed.ranks import rank, together

    with together("cpu"):
        torch.manual_seed(0)
        plain = Model()
        model = DistributedDataParallel(plain)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        settings = {"layers": "inner", "steps": 9, "batch": BATCH, "context": CONTEXT}
        mix = Mix("mixers.asking", TOKENS, model, optimiser, **settings)
        for step in range(3):
            one_pass(mix, model, drawn(10 * step + rank()))
            found = end(mix, optimiser)
        state = {str(signal): value for signal, value in found.items()}
        np.savez(f"{folder}/{rank()}.npz", tokens=found.tokens, weight=plain.head.weight.detach().numpy(), **state)


def test_two_processes_measure_and_train_what_one_does_on_both_their_batches(tmp_path) -> None:
    assert two_ranks.codes(two_ranks.start(on_rank, str(tmp_path))) == [0, 0]
    whole, model, optimiser = made(batch=2 * BATCH, layers="inner")
    for step in range(3):
        parts = [drawn(10 * step), drawn(10 * step + 1)]
        one_pass(whole, model, torch.cat([part[2 * k : 2 * k + 2] for k in range(3) for part in parts]))
        expected = end(whole, optimiser)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as found:
            assert_same({signal: found[str(signal)] for signal in NEEDS}, expected)
            assert found["tokens"].tolist() == expected.tokens.tolist()
            np.testing.assert_allclose(found["weight"], model.head.weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def disagreeing(folder: str) -> None:
    """Rank 1's mixer wants something else, as after rounding that went another way; rank 0's says what is done."""
    from acodm_core.lm.distributed.ranks import rank, together

    with together("cpu"):
        if rank():
            Asking.sampling = lambda self, step: np.array([1.0, 0.0, 0.0])
        mix, *_ = made(batch=2, layers="inner")
        np.save(f"{folder}/{rank()}.npy", np.stack([mix.share(), mix.counts()]))


def test_rank_0_decides_and_the_ranks_share_out_one_draw(tmp_path) -> None:
    assert two_ranks.codes(two_ranks.start(disagreeing, str(tmp_path))) == [0, 0]
    (share, mine), (its_share, its) = (np.load(tmp_path / f"{rank}.npy") for rank in range(2))
    assert share.tolist() == its_share.tolist() == [1 / 3] * 3
    assert mine.sum() == its.sum() == 2 and sorted(mine + its) == [1, 1, 2]


@pytest.mark.parametrize(
    ("mixer", "module"), [("acodm", "acodm"), ("pike_balanced", "pike"), ("odm_floor", "odm"), ("doge", "doge")]
)
def test_methods_of_the_catalogue_go_by_their_names(mixer: str, module: str) -> None:
    found = made(mixer)[0].mixer
    assert type(found).__module__.removesuffix(".mixer").endswith(module)
    assert mixer != "odm_floor" or found.uniform_fraction == 0.25


def test_a_misspelt_mixer_is_named_with_what_is_near() -> None:
    with pytest.raises(UserError, match="did you mean 'acodm'"):
        made("acodmm")


ARGUMENTS = {
    "a misspelt domain": (
        {"objective_weights": {"code": 1, "Wiki": 1}},
        "objective_weights.Wiki: unknown domain 'Wiki'.*mean 'wiki'",
    ),
    "a target of nothing": ({"objective_weights": {"code": 0}}, "objective_weights: must not all be zero"),
    "a target below nothing": ({"objective_weights": {"code": -1}}, "objective_weights.code: must be"),
    "a target in words": ({"objective_weights": "uniform"}, "domain -> number"),
    "no steps": ({"steps": 0}, "steps: must be a whole number above 0; got 0"),
    "half a sequence": ({"batch": 0.5}, "batch: must be"),
    "layers that are not there": ({"layers": "nosuch"}, "no Linear layer matches"),
    "no regular expression": ({"layers": "("}, "no regular expression"),
    "an embedding": ({"layers": "embed|head"}, "an? Embedding"),
}


@pytest.mark.parametrize("fault", ARGUMENTS)
def test_arguments_that_cannot_be_are_refused(fault: str) -> None:
    settings, message = ARGUMENTS[fault]
    with pytest.raises(UserError, match=f"(?s){message}"):
        made(**settings)


def test_an_optimiser_of_other_weights_or_another_metric_is_refused() -> None:
    model = Model()
    settings = {"layers": "inner", "steps": 2, "batch": BATCH, "context": CONTEXT}
    with pytest.raises(UserError, match="does not train all layers"):
        Mix("mixers.asking", TOKENS, model, torch.optim.AdamW(Model().parameters()), **settings)
    with pytest.raises(UserError, match="AdamW's metric, and the optimiser is a SGD"):
        Mix("mixers.asking", TOKENS, model, torch.optim.SGD(model.parameters(), lr=1.0), **settings)
    with pytest.raises(UserError, match="cut among devices"):
        cut = torch.nn.DataParallel(model)
        Mix("mixers.asking", TOKENS, cut, torch.optim.AdamW(model.parameters()), **settings)


def test_calls_in_another_order_are_refused() -> None:
    mix, model, optimiser = made()
    with pytest.raises(UserError, match=r"observe\(\) after 0 passes"):
        mix.observe()
    with pytest.raises(UserError, match=r"loss\(\) was not called"), mix.step():
        pass
    mix, model, optimiser = made()
    with pytest.raises(UserError, match="no backward pass was made"), mix.step():
        mix.loss(losses(model, drawn(0)))
    mix, model, optimiser = made()
    with pytest.raises(UserError, match="called twice"), mix.step():
        mix.loss(losses(model, drawn(0)))
        mix.loss(losses(model, drawn(0)))
    mix, model, optimiser = made()
    one_pass(mix, model, drawn(0))
    optimiser.step()
    with pytest.raises(UserError, match="step 0 was not observed"):
        one_pass(mix, model, drawn(1))


def test_another_number_of_passes_or_steps_is_refused() -> None:
    mix, model, optimiser = made(accumulate=2, steps=1)
    one_pass(mix, model, drawn(0))
    with pytest.raises(UserError, match="after 1 passes, and a step has 2"):
        mix.observe()
    one_pass(mix, model, drawn(1))
    with pytest.raises(UserError, match="a step has 2 passes"):
        one_pass(mix, model, drawn(2))
    end(mix, optimiser)
    with pytest.raises(UserError, match="all 1 steps are taken"):
        one_pass(mix, model, drawn(3))


def test_passes_of_one_step_that_weigh_differently_are_refused() -> None:
    mix, model, optimiser = made()
    one_pass(mix, model, drawn(0), 1.0)
    one_pass(mix, model, drawn(1), 0.5)
    with pytest.raises(UserError, match="weighed differently"):
        end(mix, optimiser)


def test_a_mixer_that_asks_for_the_tokens_of_a_step_takes_one_pass_unless_told() -> None:
    mix, model, _ = made("unimax")
    one_pass(mix, model, drawn(0))
    with pytest.raises(UserError, match="a step has 1 passes"):
        one_pass(mix, model, drawn(1))
    assert made("unimax", accumulate=3)[0].accumulate == 3


@pytest.mark.parametrize("way", ["twice", "not at all", "time first"])
def test_a_layer_that_is_not_called_once_with_the_batch_first_is_refused(way: str) -> None:
    mix, model, optimiser = made("acodm")
    inner, tokens_BS = model.inner, drawn(0)

    def forward(tokens_BT: torch.Tensor) -> torch.Tensor:
        hidden = model.embed(tokens_BT)
        if way == "twice":
            hidden = inner(inner(hidden))
        elif way == "time first":
            hidden = inner(hidden.transpose(0, 1)).transpose(0, 1)
        return model.head(hidden)

    model.forward = forward
    with pytest.raises(UserError, match="probed layer"):
        for _ in range(2):  # in AdamW's metric, from its second step
            one_pass(mix, model, tokens_BS)
            end(mix, optimiser)


def test_a_state_of_other_domains_or_another_order_or_mixer_is_refused() -> None:
    state = made("odm")[0].state_dict()
    model = Model()
    optimiser = torch.optim.AdamW(model.parameters())
    settings = {"layers": "inner", "steps": 9, "batch": BATCH, "context": CONTEXT}
    for tokens in (dict(reversed(TOKENS.items())), {"x": 1, "y": 1}, TOKENS | {"more": 1}):
        with pytest.raises(UserError, match="this state is of domains"):
            Mix("odm", tokens, model, optimiser, **settings).load_state_dict(state)
    with pytest.raises(UserError, match="this state is of name 'odm'"):
        made("doge")[0].load_state_dict(state)
    with pytest.raises(UserError, match="this state is of domains None"):
        made("odm")[0].load_state_dict({"taken": 0, "mixer": {}})


def test_a_state_that_was_written_goes_on_where_it_was() -> None:
    runs = [made("odm") for _ in range(2)]
    for mix, model, optimiser in runs:
        for step in range(2):
            one_pass(mix, model, drawn(step))
            end(mix, optimiser)
    (mix, *_), (again, *_) = runs[0], made("odm")
    buffer = io.BytesIO()
    torch.save(mix.state_dict(), buffer)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, weights_only=False))
    assert again.taken == 2 and np.array_equal(again.share(), runs[1][0].share())
    assert np.array_equal(again.counts(), runs[1][0].counts())


def test_a_copy_of_the_model_is_its_own_and_the_model_can_be_pickled() -> None:
    mix, model, optimiser = made()
    twin, back = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    before = model(drawn(0))
    one_pass(mix, model, drawn(0))
    end(mix, optimiser)
    assert not torch.equal(model(drawn(0)), before)
    assert torch.equal(twin(drawn(0)), before) and torch.equal(back(drawn(0)), before)
    assert pickle.loads(pickle.dumps(model)) and copy.deepcopy(optimiser.state_dict())
