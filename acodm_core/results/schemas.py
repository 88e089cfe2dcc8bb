"""What every table holds: its columns, their types and units, and the metrics that may be written (docs/reference/data.md).

A run's folder holds ``metrics.parquet``, ``mixture.parquet``, ``diagnostics.parquet``, ``signals.parquet`` and, written last,
``manifest.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Metric:
    unit: str
    lower_is_better: bool
    description: str


# Closed: a metric that is not here cannot be written. Perplexity is derived (exp of mean nats), never stored.
METRICS: Mapping[str, Metric] = {
    "loss": Metric("nats/token", True, "mean cross-entropy of a domain's tokens"),
    "bits_per_byte": Metric("bits/byte", True, "the same loss over the bytes that the tokens spell"),
    "grad_norm": Metric("", True, "L2 norm of the gradient before clipping"),
    "lr": Metric("", True, "learning rate"),
}

TABLES: Mapping[str, pa.Schema] = {
    # split: train (this step's batch), valid (the curve), test (once, at the end). domain: "" where a metric has none.
    "metrics": pa.schema(
        [
            ("run", pa.string()),
            ("step", pa.int64()),  # optimiser steps taken when the value was measured
            ("tokens", pa.int64()),  # training tokens seen by then
            ("split", pa.string()),
            ("domain", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
        ]
    ),
    # The share of each domain that the mixer asked for in a step (1-based) and the share that was drawn.
    "mixture": pa.schema(
        [
            ("run", pa.string()),
            ("step", pa.int64()),
            ("domain", pa.string()),
            ("requested", pa.float64()),
            ("drawn", pa.float64()),
        ]
    ),
    "diagnostics": pa.schema(
        [("run", pa.string()), ("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
    ),
}

# One file per run, beside its tables and not collected: what its mixer was shown and made of it (docs/reference/data.md).
SIGNALS = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("name", pa.string()),  # a signal of mixing.Signal, or a vector that the mixer calls so
        ("item", pa.string()),  # domain, or group where the mixer decides about groups; number of a weight tensor
        ("other", pa.string()),  # the second domain of a matrix's entry; "" in vectors
        ("value", pa.float64()),
    ]
)

# What a trained model scores on a task: one row per checkpoint, task, subject, shots and metric. A task that could not run has one
# row without a metric, with its reason.
SCORES = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),  # optimiser steps behind the weights
        ("task", pa.string()),  # mmlu, humaneval, or an lm-eval task
        ("subject", pa.string()),  # "" for the task as a whole
        ("shots", pa.int64()),  # few-shot examples asked for
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),  # items
        ("standard_error", pa.float64()),  # over items; NaN where unknown
        ("chance", pa.float64()),  # what knowing nothing scores; NaN where there is no such level
        ("status", pa.string()),  # measured | skipped
        ("reason", pa.string()),  # why it was skipped
    ]
)

# The metrics of this project's own tasks; other lm-eval tasks keep lm-eval's names.
SCORE_METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("", False, "share of questions answered right"),
    "accuracy_above_letters": Metric(
        "", False, "accuracy minus that of the same letters dealt to the questions at random"
    ),
    "gold_probability": Metric("", False, "probability of the right choice among the choices"),
    "bits_per_byte": Metric("bits/byte", True, "what the right answer's text costs the model, over its bytes"),
    "unigram_ratio": Metric("", True, "the same bits over those of the unigram model of the training text"),
    "shots_kept": Metric("", False, "few-shot examples that fitted the context, mean over questions"),
    "cut_share": Metric("", True, "share of prompts whose beginning did not fit the context"),
    "unasked_share": Metric("", True, "share of problems whose prompt leaves no room in the context for an answer"),
}

# One row per run, made by ``collect`` from the manifests.
RUN_COLUMNS = (
    "run",  # name of the run's folder
    "method",
    "title",  # the method's name in tables and figures
    "mixer",
    "compared",  # a row of the comparison (True), or only a value of an axis or a stage of another run (False)
    "role",  # target, proxy, ...
    "model",
    "seed",
    "status",  # finished | diverged | out_of_memory
    "steps",
    "tokens",
    "parameters",
    "parameters_non_embedding",
    "model_flops",  # of the run's own training steps, forward and backward
    "method_flops",  # of what the mixer had measured, on top
    "train_seconds",  # measured by the run's own clock: for the reader, never for a comparison
    "joules",  # counted by the device's own meter while it trained; missing where there is none
    "ancestors",  # JSON list of the runs it depends on, nearest first
    "device",
    "hardware",
    "precision",
    "corpus",
    "commit",
    "version",  # of this project
)

LATER_COLUMNS = {
    "joules",
    "version",
    "hardware",
}  # results of earlier versions lack them: hardware in the probe's tables

# What an experiment's description cannot do without; what later versions added has defaults.
DESCRIPTION = ("experiment", "domains", "natural_weights", "compare", "steps", "batch", "context", "runs")

# The probe's rows: one block of interleaved steps. arm: "plain" (uniform, no signals), "gradients" (plain with the per-domain
# gradients measured and unused) or "method". The whole step is the part "step".
PROBE_COLUMNS = ("method", "model", "block", "arm", "part", "seconds", "hardware")
MEMORY_COLUMNS = ("method", "model", "repeat", "arm", "host_bytes", "device_bytes", "hardware")  # a process of its own

# What runs that stand in one table may not differ in without its being said: column -> words.
MUST_AGREE = {
    "hardware": "hardware",
    "precision": "precision",
    "commit": "code commit",
    "version": "version of the code",
}
