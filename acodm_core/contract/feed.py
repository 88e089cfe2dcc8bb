"""Made-up measurements of training steps: what a mixer is fed when its contract is checked.

Legend: K domains, M models with adapters, P entries of a gradient, H of an embedding, L probed tensors.
"""

from __future__ import annotations

import numpy as np

from acodm_core.mixing import Mixer, Signal

BATCH, CONTEXT, LAYERS, MODELS, COLUMNS = 16, 8, 3, 64, 7
KINDS = ("random", "constant", "huge", "tiny", "swinging", "missing", "one domain")

Signals = dict[Signal, np.ndarray]


def random_signals(rng: np.random.Generator, k: int, scale: float = 1.0) -> Signals:
    """All signals of a step that drew every domain; losses and squared gradients are of the order of ``scale``."""
    gradient_KP = rng.normal(size=(k, COLUMNS)) * np.sqrt(scale)
    rotation_PP, _ = np.linalg.qr(rng.normal(size=(COLUMNS, COLUMNS)))  # a sketch that loses nothing
    found = {
        Signal.LOSS: rng.uniform(1.0, 5.0, k) * scale,
        Signal.EXCESS_LOSS: rng.uniform(0.0, 1.0, k) * scale,
        Signal.VALID_LOSS: rng.uniform(1.0, 5.0, k) * scale,
        Signal.LEARNING_RATE: np.array(rng.uniform(1e-4, 1e-2)),
        Signal.GRAD_GRAM: gradient_KP @ gradient_KP.T,
        Signal.GRAD_SKETCH: gradient_KP @ rotation_PP,
        Signal.GRAD_SELF: rng.uniform(-0.1, 1.0, k) * scale,  # without the noise's share it may come out negative
        Signal.GRAD_NOISE: rng.uniform(1.0, 9.0, k) * scale * CONTEXT,
        Signal.ADAM_SKETCH: gradient_KP / np.geomspace(0.1, 10.0, COLUMNS),
        Signal.ADAM_SELF: rng.uniform(-0.1, 1.0, k) * scale,
        Signal.EMBEDDING: rng.normal(size=(k, COLUMNS)) * scale,
        Signal.TYPE_TOKEN_RATIO: rng.uniform(0.1, 1.0, k),
        Signal.PARAM_NORM: rng.uniform(1.0, 2.0, LAYERS) * scale,
        Signal.PARAM_STEP_NORM: rng.uniform(0.01, 0.02, LAYERS) * scale,
        Signal.ADAPTER_LOSS: rng.uniform(1.0, 5.0, (k, MODELS)) * scale,
    }
    sizes = {"K": k, "L": LAYERS, "M": MODELS, "D": COLUMNS, "H": COLUMNS}
    others = [signal for signal in Signal if signal not in found]  # whose values depend on no other signal's
    return found | {s: rng.uniform(1.0, 5.0, [sizes[letter] for letter in s.info.shape]) * scale for s in others}


def step_signals(kind: str, step: int, k: int) -> tuple[Signals, np.ndarray]:
    """All signals of one step of a ``kind`` of run, and (K,) which domains it drew; the same every time."""
    rng = np.random.default_rng([step, k])
    match kind:
        case "random":
            return random_signals(rng, k), np.ones(k, dtype=bool)
        case "constant":
            return random_signals(np.random.default_rng(0), k), np.ones(k, dtype=bool)
        case "huge":
            return random_signals(rng, k, 1e6), np.ones(k, dtype=bool)
        case "tiny":
            return random_signals(rng, k, 1e-12), np.ones(k, dtype=bool)
        case "swinging":
            return random_signals(rng, k, [1e6, 1e-12][step % 2]), np.ones(k, dtype=bool)
        case "missing":
            return missing(random_signals(rng, k), rng, present=0.4)
        case "one domain":  # the others are never seen
            present_K = np.arange(k) == k - 1
            return without(random_signals(rng, k), ~present_K), present_K
    raise ValueError(kind)


def missing(signals: Signals, rng: np.random.Generator, *, present: float) -> tuple[Signals, np.ndarray]:
    """``signals`` of a step that drew each domain with this probability, at least one; a fifth of them once only."""
    k = len(signals[Signal.LOSS])
    present_K = rng.random(k) < present
    present_K[rng.integers(k)] = True
    signals = without(signals, ~present_K)
    once_K = rng.random(k) < 0.2
    for signal, value in signals.items():
        if signal.info.sequences > 1:
            value[once_K] = np.nan
    return signals, present_K


def without(signals: Signals, absent_K: np.ndarray) -> Signals:
    """The signals of a step that did not draw some domains."""
    out = {signal: value.copy() for signal, value in signals.items()}
    for signal, value in out.items():
        if signal.info.source.of_batch:
            value[absent_K] = np.nan
            if signal.info.shape == "KK":
                value[:, absent_K] = np.nan
    return out


def reordered(signals: Signals, order: np.ndarray) -> Signals:
    """The signals of a step whose domains come in another order."""
    moved = {"KK": lambda value: value[np.ix_(order, order)]}
    return {
        signal: moved.get(signal.info.shape, lambda value: value[order])(value) if signal.info.of_domains else value
        for signal, value in signals.items()
    }


def wanted(signals: Signals, mixer: Mixer, step: int) -> Signals:
    """A copy of what ``mixer`` asks for at ``step``: the trainer gives no more, and may use its arrays again."""
    wants = mixer.wants(step)
    found = {signal: value.copy() for signal, value in signals.items() if signal in wants}
    if Signal.ADAPTER_LOSS in found:
        found[Signal.ADAPTER_LOSS] = found[Signal.ADAPTER_LOSS][:, : len(mixer.adapters().weight_MA)]
    return found
