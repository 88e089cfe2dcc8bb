"""Sketches of the domains' gradients against the gradients themselves, on one rank and on two."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tiny_model import CONTEXT, SHAPES, WIDEST, batch, separate_gradients, separate_gram, train_step
from torch.utils.flop_counter import FlopCounterMode
from two_ranks import DOMAINS, codes, measure, measure_on_rank, start

from acodm_core.data.sampler import Batch
from acodm_core.lm.model import matching_layers
from acodm_core.lm.signals.sketch import Sketch
from acodm_core.lm.step import TrainStep
from acodm_core.mixing import Signal

GRAD, ADAM, GRAM = Signal.GRAD_SKETCH, Signal.ADAM_SKETCH, Signal.GRAD_GRAM
SELF, NOISE, ADAM_SELF = Signal.GRAD_SELF, Signal.GRAD_NOISE, Signal.ADAM_SELF


def error(found_KK: np.ndarray, exact_KK: np.ndarray) -> float:
    """Largest difference of present entries, in units of the norms."""
    assert (np.isnan(found_KK) == np.isnan(exact_KK)).all()
    norm_K = np.sqrt(np.diag(exact_KK))
    return np.nanmax(np.abs(found_KK - exact_KK) / np.outer(norm_K, norm_K))


def off_diagonal(gram_KK: np.ndarray) -> np.ndarray:
    return gram_KK.sum(1) - np.diag(gram_KK)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("micro_batch", [8, 4, 2])
def test_a_sketch_as_wide_as_the_layer_loses_nothing_whatever_the_micro_batch(kind, micro_batch):
    mine = train_step(kind, needs={GRAD}, sketch=WIDEST, micro_batch=micro_batch)
    expected = separate_gram(mine.model, SHAPES[kind][1], batch())
    sketch_KD = mine.step(batch(), 0, {GRAD}).signals[GRAD]
    assert np.isnan(sketch_KD[1]).all() and np.isfinite(sketch_KD[[0, 2, 3]]).all()
    assert error(sketch_KD @ sketch_KD.T, expected) < 1e-5


def test_sketches_are_unbiased_over_their_projections():
    torch.manual_seed(0)
    layer, counts_K, context = torch.nn.Linear(24, 10), np.array([2, 3, 1]), 5
    x, delta = torch.randn(6, context, 24), torch.randn(6, context, 10) + 0.5
    pairs = zip(delta.split([2, 3, 1]), x.split([2, 3, 1]), strict=True)
    parts_KP = torch.stack([(d.flatten(0, 1).T @ i.flatten(0, 1)).flatten() for d, i in pairs])
    exact_KK = (parts_KP @ parts_KP.T).double().numpy()
    found = []
    for seed in range(600):
        sketch = Sketch([layer], 3, width=4, seed=seed)
        sketch.begin(1)
        with sketch.armed():
            sketch.rows(counts_K)
            layer(x).backward(delta)
        found.append(sketch.sums(1.0) @ sketch.sums(1.0).T)
    standard_error_KK = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - exact_KK) < 4 * standard_error_KK).all()
    assert (standard_error_KK < 0.1 * np.diag(exact_KK).mean()).all()


def test_thirty_two_columns_tell_which_domains_agree():
    """Domains of different words; the exact alignment against the sketched one, over projections."""
    pattern = r"layers\.(0|1)\.mlp\.dense_4h_to_h"
    fields = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    rng, domains = np.random.default_rng(0), 8
    tokens = [rng.integers(0, edge, (3, CONTEXT + 1)) for edge in rng.integers(2, 40, domains)]
    drawn = Batch(np.concatenate(tokens), np.full(domains, 3))
    correlations = []
    for seed in range(4):
        mine = train_step("gpt_neox", shape=(fields, pattern), needs={GRAD}, domains=domains, batch=24, seed=seed)
        exact_KK = separate_gram(mine.model, pattern, drawn)
        sketch_KD = mine.step(drawn, 0, {GRAD}).signals[GRAD]
        correlations.append(np.corrcoef(off_diagonal(sketch_KD @ sketch_KD.T), off_diagonal(exact_KK))[0, 1])
    assert min(correlations) > 0.9, correlations


def rank_one(v_OI: np.ndarray) -> np.ndarray:
    return np.outer(v_OI.mean(1), v_OI.mean(0)) / v_OI.mean()


def whitened(mine: TrainStep, kind: str, drawn: Batch, *, steps: int) -> np.ndarray:
    """(K, P) explicit gradients of the domains of ``drawn`` in the metric of an optimiser that has taken ``steps``."""
    pattern, found = SHAPES[kind][1], []
    layers = matching_layers(mine.model, pattern, where="")
    for layer, part_KOI in zip(layers, separate_gradients(mine.model, pattern, drawn), strict=True):
        moment_OI = mine.optimiser.state[layer.weight]["exp_avg_sq"].double().numpy() / (1 - 0.95**steps)
        found.append((part_KOI / rank_one(moment_OI) ** 0.25).reshape(len(part_KOI), -1))
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_sketch_in_adams_metric_is_the_gradient_over_the_fourth_root_of_its_rank_one_second_moment(kind):
    mine = train_step(kind, needs={ADAM}, sketch=WIDEST)
    for step in range(3):
        mine.step(batch(seed=step), step, frozenset())
    whitened_KP = whitened(mine, kind, batch(), steps=3)
    sketch_KD = mine.step(batch(), 3, {ADAM}).signals[ADAM]
    assert error(sketch_KD @ sketch_KD.T, whitened_KP @ whitened_KP.T) < 1e-4


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("micro_batch", [8, 2])
@pytest.mark.parametrize("loss_weight_K", [None, np.array([0.5, 1.0, 2.0, 0.1])])
def test_squared_norms_and_noise_are_those_of_sequences_by_themselves(kind, micro_batch, loss_weight_K):
    mine = train_step(kind, needs={SELF, NOISE}, sketch=WIDEST, micro_batch=micro_batch)
    drawn = batch((3, 0, 4, 1))
    alone = Batch(drawn.tokens_BS, np.ones(8, dtype=int))
    parts_BP = np.concatenate(
        [p.reshape(8, -1) for p in separate_gradients(mine.model, SHAPES[kind][1], alone)], axis=1
    )
    found = mine.step(drawn, 0, {SELF, NOISE}, loss_weight_K).signals
    for k, rows in ((0, slice(0, 3)), (2, slice(3, 7))):
        gram_SS = parts_BP[rows] @ parts_BP[rows].T
        pairs = gram_SS[~np.eye(len(gram_SS), dtype=bool)]
        variance = np.var(parts_BP[rows], axis=0, ddof=1).sum()
        assert np.allclose([found[SELF][k], found[NOISE][k]], [pairs.mean(), variance * CONTEXT], rtol=1e-3, atol=1e-7)
    assert np.isnan([found[SELF][[1, 3]], found[NOISE][[1, 3]]]).all(), "absent, or one sequence alone"


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("micro_batch", [8, 2])
@pytest.mark.parametrize("loss_weight_K", [None, np.array([0.5, 1.0, 2.0, 0.1])])
def test_squared_norms_in_adams_metric_are_those_of_pairs_of_different_sequences(kind, micro_batch, loss_weight_K):
    mine = train_step(kind, needs={ADAM, ADAM_SELF}, sketch=WIDEST, micro_batch=micro_batch)
    for step in range(3):
        mine.step(batch(seed=step), step, frozenset())
    drawn = batch((3, 0, 4, 1))
    whitened_BP = whitened(mine, kind, Batch(drawn.tokens_BS, np.ones(8, dtype=int)), steps=3)
    found = mine.step(drawn, 3, {ADAM, ADAM_SELF}, loss_weight_K).signals
    norm_K = (found[ADAM] ** 2).sum(1)
    for k, rows in ((0, slice(0, 3)), (2, slice(3, 7))):
        gram_SS = whitened_BP[rows] @ whitened_BP[rows].T
        pairs = gram_SS[~np.eye(len(gram_SS), dtype=bool)]
        assert found[ADAM_SELF][k] == pytest.approx(pairs.mean(), rel=1e-3, abs=1e-4 * norm_K[k])
        assert norm_K[k] == pytest.approx(gram_SS.mean(), rel=1e-3), "the norm with its noise"
    assert np.isnan(found[ADAM_SELF][[1, 3]]).all(), "absent, or one sequence alone"


def test_both_signals_in_adams_metric_come_from_one_sketch():
    one, both = (train_step("gpt_neox", needs=needs) for needs in ({ADAM}, {ADAM, ADAM_SELF}))
    assert both.tools.gradients.flops == one.tools.gradients.flops > 0
    for mine in (one, both):
        mine.step(batch(), 0, frozenset())
    found = both.step(batch(seed=1), 1, {ADAM, ADAM_SELF}).signals
    assert np.array_equal(found[ADAM], one.step(batch(seed=1), 1, {ADAM}).signals[ADAM], equal_nan=True)


def test_the_noise_foretells_how_far_a_gradient_of_so_many_tokens_is_off():
    """Many small draws from a fixed set of sequences against the gradient of them all."""
    torch.manual_seed(0)
    layer, context, pool = torch.nn.Linear(6, 5), 4, 4000
    x, delta = torch.randn(pool, context, 6), torch.randn(pool, context, 5) + 0.3
    true_P = (delta.flatten(0, 1).T @ x.flatten(0, 1)).flatten().double().numpy() / (pool * context)
    noises, squares, errors = [], [], []
    for rows in torch.randperm(pool).split(5):
        sketch = Sketch([layer], 1, width=6, seed=0)
        sketch.begin(1)
        with sketch.armed():
            sketch.rows(np.array([5]))
            layer(x[rows]).backward(delta[rows])
        scale = 1 / (5 * context)
        noises.append(sketch.noise(scale, context)[0] / (5 * context))
        squares.append(sketch.self_products(scale)[0])
        mean_P = torch.einsum("bto,bti->oi", delta[rows], x[rows]).flatten().double().numpy() * scale
        errors.append(((mean_P - true_P) ** 2).sum())
    assert np.mean(noises) == pytest.approx(np.mean(errors), rel=0.05)
    assert np.mean(squares) == pytest.approx((true_P**2).sum(), abs=4 * np.std(squares) / np.sqrt(len(squares)))
    assert np.mean(squares) + np.mean(noises) > 1.5 * (true_P**2).sum(), "the noise would have been taken for slope"


def test_all_plain_signals_come_from_one_sketch():
    one, three = train_step("gpt_neox", needs={GRAD}), train_step("gpt_neox", needs={GRAD, SELF, NOISE})
    assert three.tools.gradients.flops == one.tools.gradients.flops > 0
    found = three.step(batch(), 0, {GRAD, SELF, NOISE}).signals
    assert set(found) == {Signal.LOSS, GRAD, SELF, NOISE}
    assert np.array_equal(found[GRAD], one.step(batch(), 0, {GRAD}).signals[GRAD], equal_nan=True)


def test_before_the_optimisers_first_step_there_is_no_adam_metric():
    found = train_step("gpt_neox", needs={GRAD, ADAM, ADAM_SELF}).step(batch(), 0, {GRAD, ADAM, ADAM_SELF}).signals
    assert np.isnan(found[ADAM]).all() and np.isnan(found[ADAM_SELF]).all() and np.isfinite(found[GRAD]).any()


def test_a_dead_neuron_leaves_adams_metric_finite():
    mine = train_step("gpt_neox", needs={ADAM})
    mine.step(batch(), 0, frozenset())
    for layer in matching_layers(mine.model, SHAPES["gpt_neox"][1], where=""):
        mine.optimiser.state[layer.weight]["exp_avg_sq"][3] = 0.0
    found = mine.step(batch(), 1, {ADAM}).signals[ADAM]
    assert np.isfinite(found[[0, 2, 3]]).all()


def test_the_sketched_gram_is_the_inner_products_of_the_sketches():
    mine = train_step("gpt_neox", needs={GRAM, GRAD}, gram="sketch", sketch=5)
    found = mine.step(batch(), 0, {GRAM, GRAD}).signals
    assert np.allclose(found[GRAM], found[GRAD] @ found[GRAD].T, equal_nan=True)
    assert found[GRAD].shape == (4, 2 * 5 * 5)


def test_loss_weights_do_not_change_a_domains_own_sketch():
    loss_weight_K = np.array([0.5, 1.0, 2.0, 0.1])
    plain = train_step("gpt_neox", needs={GRAD}).step(batch(), 0, {GRAD}).signals[GRAD]
    weighed = train_step("gpt_neox", needs={GRAD}).step(batch(), 0, {GRAD}, loss_weight_K).signals[GRAD]
    assert np.allclose(plain, weighed, rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measuring_sketches_changes_no_weight_by_a_bit(kind, precision):
    plain = train_step(kind, needs=frozenset(), micro_batch=4, precision=precision)
    probed = train_step(kind, needs={GRAD, ADAM}, micro_batch=4, precision=precision)
    for step in range(3):
        plain.step(batch(seed=step), step, frozenset())
        probed.step(batch(seed=step), step, {GRAD, ADAM})
    for a, b in zip(plain.model.parameters(), probed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_between_steps_nothing_hangs_on_the_layers_and_only_what_is_wanted_is_measured():
    mine = train_step("gpt_neox", needs={GRAD, ADAM})
    assert set(mine.step(batch(), 0, {GRAD}).signals) == {Signal.LOSS, GRAD}
    layers = matching_layers(mine.model, SHAPES["gpt_neox"][1], where="")
    assert not any(layer._forward_hooks or "forward" in vars(layer) for layer in layers)
    spent = mine.tools.gradients.seconds
    mine.step(batch(), 1, frozenset())
    assert mine.tools.gradients.seconds == spent
    assert spent["forward"] > 0 and spent["backward"] > 0


def test_half_precision_sketches_are_close_to_exact():
    mine = train_step("gpt_neox", needs={GRAD}, sketch=WIDEST, precision="bfloat16")
    exact_KK = separate_gram(mine.model, SHAPES["gpt_neox"][1], batch())
    sketch_KD = mine.step(batch(), 0, {GRAD}).signals[GRAD]
    assert error(sketch_KD @ sketch_KD.T, exact_KK) < 0.03


def test_a_resumed_learner_sketches_the_same_to_the_bit():
    torch.manual_seed(1)
    one = train_step("gpt_neox", needs={GRAD, ADAM}, seed=7)
    for step in range(2):
        one.step(batch(seed=step), step, {GRAD, ADAM})
    torch.manual_seed(2)  # the projections hang on the run's seed alone
    two = train_step("gpt_neox", needs={GRAD, ADAM}, seed=7)
    two.model.load_state_dict(one.model.state_dict())
    two.optimiser.load_state_dict(copy.deepcopy(one.optimiser.state_dict()))  # it would share tensors
    first, second = (run.step(batch(seed=9), 2, {GRAD, ADAM}).signals for run in (one, two))
    for signal in (GRAD, ADAM):
        assert np.array_equal(first[signal], second[signal], equal_nan=True)


def test_another_seed_draws_other_projections():
    one, two = (train_step("gpt_neox", needs={GRAD}, seed=s).step(batch(), 0, {GRAD}).signals[GRAD] for s in (0, 1))
    assert not np.allclose(one, two, equal_nan=True)


@pytest.mark.parametrize(("gram", "needs"), [("exact", GRAM), ("sketch", GRAM), ("exact", ADAM)])
def test_the_operations_that_are_named_are_those_that_torch_counts(gram, needs):
    drawn = batch((3, 2, 2, 1))
    mine = train_step("gpt_neox", needs={needs}, gram=gram, sketch=4)
    counts = []
    for wants in (frozenset(), {needs}):
        with FlopCounterMode(display=False) as counter:
            mine.step(drawn, 0, wants)
        counts.append(counter.get_total_flops())
    assert counts[1] - counts[0] == mine.tools.gradients.flops


def test_two_ranks_measure_what_one_measures_on_the_union_of_their_batches(tmp_path):
    """With loss weights, so that the ranks' losses are divided by different numbers."""
    assert codes(start(measure_on_rank, str(tmp_path))) == [0, 0]
    whole = measure([0, 1])
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as found:
            assert set(found) == {str(signal) for signal in whole}
            for signal, expected in whole.items():
                assert np.isnan(expected[DOMAINS - 1]).all()
                assert np.allclose(found[str(signal)], expected, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert not dist.is_initialized()
