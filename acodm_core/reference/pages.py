"""Documents generated from the code, so that they cannot disagree with it: default configuration, schema, methods."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from acodm_core.mixers.find import baseline_names, build_mixer, find_mixer, option_fields
from acodm_core.mixing import Mixer, Signal, SignalInfo
from acodm_core.study.config import Experiment, ModelConfig, load_experiment
from acodm_core.study.model_types import MODEL_TYPES
from acodm_core.study.planner import RunSpec, plan


def schema() -> str:
    """JSON schema of an experiment's configuration, for editors."""
    return json.dumps(Experiment.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def defaults() -> str:
    """Every setting with its description and default, as YAML; what has no default is shown as a comment."""
    lines = ["# Every setting and its default. Generated: `acodm reference defaults`.", ""]
    lines += _section(Experiment, 0)
    return "\n".join(lines) + "\n"


def _section(model: type[BaseModel], depth: int) -> list[str]:
    pad, lines = "  " * depth, []
    for name, field in model.model_fields.items():
        key = field.alias or name
        lines.append(f"{pad}# {field.description}")
        lines += [f"{pad}#   {key}.NAME.{line}" for line in _entry(field.annotation)]
        if field.is_required():
            lines.append(f"{pad}# {key}:  (required; in the catalogues or yours to give)")
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            lines += [f"{pad}{key}:", *_section(type(value), depth + 1)]
        else:
            lines.append(f"{pad}{key}: {_text(value)}")
    return lines


def _entry(annotation: Any) -> list[str]:
    """The settings of one entry, where a setting is a dictionary of sections, each with its default and description."""
    of = get_args(annotation)[-1] if get_origin(annotation) is dict else None
    if not (isinstance(of, type) and issubclass(of, BaseModel)):
        return []
    return [
        f"{name}: {'(required)' if field.is_required() else _text(field.get_default(call_default_factory=True))}"
        f"  {field.description}"
        for name, field in of.model_fields.items()
    ]


def _text(value: Any) -> str:
    """``value`` as YAML on one line."""
    return yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000).strip().removesuffix("...").strip()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def models() -> str:
    """The models page: a table of the types that are tested, and the rule for others."""
    lines = [
        "# Models",
        "",
        "Generated from the code: `acodm reference models`.",
        "",
        "A model is an entry of `models`: a Hugging Face `config` with one of these types as `model_type`, a learning rate, and"
        " two patterns that say which layers are measured. Tests train each type, stop it and go on bit for bit, save it, read"
        " it again here and in transformers, and compare its domains' gradients with autograd's. Another type is refused: some"
        " let a token see those that it is to predict, some cannot be saved, and nobody would notice. To add one, add a line to"
        " `acodm_core/study/model_types.py` and a shape to `tests/unit/lm/test_model_types.py`; if its tests pass, it is accepted.",
        "",
        "Attention: `short` is this project's on a CPU and torch's kernels on a GPU; `own` is as transformers writes it out.",
        "",
        "| type | models | attention | |",
        "| --- | --- | --- | --- |",
        *(f"| `{kind}` | {one.title} | {one.attention} | {one.note} |" for kind, one in MODEL_TYPES.items()),
        "",
        "`acodm plan` and `snakemake -n` build each model that is not shipped and take it forward and backward, on tensors that"
        " hold no numbers. A shape that cannot be trained and a pattern that finds no layer end there. It takes seconds, once:"
        " what passed is remembered in `~/.cache/acodm`.",
        "",
        "The corpus gives the vocabulary and its end-of-text token, the recipe gives the positions and the precision, and nothing"
        " is padded; a config that says otherwise is refused. Everything else is as transformers has it, dropout too. What is"
        " dropped comes from the run's seed, and its random state is in the checkpoint: a run goes on to the same bytes.",
    ]
    return "\n".join(lines) + "\n"


RECORDED = {"values": "the values", "products": "the inner products of its rows", "metrics": "in `metrics.parquet`"}


def signals() -> str:
    """The signals page: the contract's table, and how to read it."""
    rows = [
        [
            f"`{signal}`",
            f"({', '.join(signal.info.shape)})",
            signal.info.meaning,
            signal.info.unit,
            signal.info.source,
            _without_value(signal.info),
            signal.info.cost,
            RECORDED[signal.info.recorded],
            "yes" if signal.info.source.in_any_loop else "no",
        ]
        for signal in Signal
    ]
    lines = [
        "# Signals",
        "",
        "Generated from the code: `acodm reference signals`.",
        "",
        "A signal is something that a mixer may ask the trainer to measure. A mixer names its signals in `needs`, and in"
        " `wants(step)` those of one step. Only what is asked for is measured, and its time counts as the mixer's cost. The"
        " table stands in `acodm_core/mixing.py`; what measures a signal is a function of `acodm_core/lm/signals/`.",
        "",
        "Shapes: K domains, D projections, H hidden units, L probed weight tensors, M models with merged adapters; () is one"
        " number. The gradient of domain i, g_i, is that of its mean training loss (nats per token, over its tokens in the step's"
        " batch) by the weights of the probed layers (`gradient_layers`), before clipping and whatever the loss weights are. All"
        " values are float64.",
        "",
        "| signal | shape | meaning | unit | measured on | NaN | extra operations | `signals.parquet` has | drop-in |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "NaN: the entries of which there is no value; of a (K, K) signal the rows and the columns. Drop-in: whether"
        " `acodm_core.lm.dropin.Mix` measures it in a training loop of your own.",
    ]
    return "\n".join(lines) + "\n"


def _without_value(info: SignalInfo) -> str:
    if not info.source.of_batch:
        return "none"
    return f"domains with fewer than {info.sequences} sequences" if info.sequences > 1 else "domains not drawn"


VARIANTS = ("acodm_core.acodm", "acodm_core.acodm.paper", "acodm_core.acodm.released", "acodm_core.acodm.hds")


# What the table of methods is planned for. The domains count where a swarm has one run per domain.
SHOWN = {
    "experiment": "reference",
    "corpus": {"name": "reference", "domains": ["easy", "medium", "hard", "noisy", "blend", "twin", "rival", "noise"]},
    "seeds": [0],
}


def methods(sequence_flops: Callable[[ModelConfig, int, int], int]) -> str:
    """The methods page: a table of all methods, one of all mixers, then each mixer's card from its docstring.

    Args:
        sequence_flops: (model, context, vocabulary) -> operations of one training sequence.
    """
    experiment = _all_methods()
    context, vocabulary = experiment.training.context, experiment.corpus.tokenizer.vocab_size
    lines = ["# Methods", "", "Generated from the code: `acodm reference methods`.", ""]
    lines += [
        "One row per method of the catalogue (`acodm_core/study/methods.yaml`). Runs first: those it depends on, for each seed."
        " Extra: the operations of their models' passes over those of the method's own run, with"
        f" `{experiment.roles['target']}` as target, `{experiment.roles['proxy']}` as proxy, context {context}, a vocabulary of"
        f" {vocabulary} and {len(experiment.corpus.domains)} domains; what signals cost comes on top, and every experiment"
        " reports it as measured. Differences: in how many sentences the card says how it differs from its paper.",
        "",
        "| method | mixer | signals | inputs | runs first | extra | paper | differences |",
        "| --- | --- | --- | --- | ---: | ---: | --- | ---: |",
    ]
    flops = cache(lambda model: sequence_flops(experiment.models[model], context, vocabulary))
    lines += _method_rows(experiment, lambda spec: spec.tokens() * flops(spec.model_name))
    lines += ["", "| mixer | what it does | signals | source |", "| --- | --- | --- | --- |"]
    cards = []
    for name in [*baseline_names(), *VARIANTS]:
        cls = find_mixer(name)
        doc = inspect.getdoc(cls) or ""
        lines.append(f"| `{name}` | {doc.splitlines()[0]} | {_signals(cls())} | {cls.cite} |")
        cards += ["", f"## `{name}`", "", doc.splitlines()[0], *_card(doc), "", *_options(cls)]
    return "\n".join([*lines, *cards]) + "\n"


def _all_methods() -> Experiment:
    """An experiment that compares all methods of the catalogue that can be compared; the others are their stages."""
    catalogue = load_experiment(SHOWN, {"compare": ["uniform"], "baseline": "uniform"})
    compared = [name for name, entry in catalogue.methods.items() if entry.length == 1 and entry.members is None]
    return catalogue.model_copy(update={"compare": compared})


def _method_rows(experiment: Experiment, flops: Callable[[RunSpec], int]) -> list[str]:
    planned, rows = plan(experiment), []
    for name, entry in experiment.methods.items():
        stages = (run for run, spec in planned.runs.items() if spec.method == name)
        run = planned.compared[name][0] if name in planned.compared else next(stages)
        mixer, before = build_mixer(entry.mixer, entry.options), planned.ancestors(run)
        makers = [type(mixer), *(find_mixer(planned.runs[one].mixer) for one in before)]
        author = next((cls for cls in makers if cls.cite not in ("", "folklore")), makers[0])
        extra = sum(flops(planned.runs[one]) for one in before) / flops(planned.runs[run])
        cells = [
            f"`{name}`",
            f"[`{entry.mixer}`](#{_anchor(entry.mixer)})" + (" (a swarm)" if entry.members else ""),
            _signals(mixer),
            ", ".join(f"{role}: `{stage}`" for role, stage in entry.inputs.items()) or "none",
            str(len(before)),
            f"{extra:.2f}" if before else "0",
            author.cite,
            f"[{_differences(author)}](#{_anchor(_module(author))})",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _signals(mixer: Mixer) -> str:
    return ", ".join(sorted(mixer.needs)) or "none"


def _differences(cls: type[Mixer]) -> int:
    """Sentences of the card's last block, none if it begins with None."""
    text = " ".join(inspect.getdoc(cls).split("\nDifferences:\n")[1].split())
    return 0 if text.startswith("None") else len(re.findall(r"\.(?= |$)", text))


def _module(cls: type[Mixer]) -> str:
    """The name under which a configuration finds the mixer."""
    return cls.__module__.removeprefix("acodm_baselines.").removesuffix(".mixer")


def _anchor(mixer: str) -> str:
    """Where the card of a mixer is on the page, as Markdown's headings are linked to."""
    return mixer.replace(".", "")


def _options(cls: type[Mixer]) -> list[str]:
    """The mixer's options and defaults; of a variant of another mixer, those that it changes or adds."""
    parent = cls.__mro__[1]
    inherited = _defaults(parent) if parent is not Mixer else {}
    mine = {name: value for name, value in _defaults(cls).items() if inherited.get(name, inherited) != value}
    shown = ", ".join(f"`{name}={value!r}`" for name, value in mine.items()) or "none"
    return [f"**Options.** {shown}" + (f"; the rest as `{parent.__name__}`." if inherited else ".")]


def _defaults(cls: type[Mixer]) -> dict[str, Any]:
    mixer = cls()
    return {name: getattr(mixer, name) for name in option_fields(cls)}


def _card(doc: str) -> list[str]:
    """The docstring's blocks as Markdown: a bold heading and its lines."""
    lines: list[str] = []
    for line in doc.splitlines()[1:]:
        if line and not line.startswith(" "):
            lines += ["", f"**{line.rstrip(':')}.**"]
        elif line.strip():
            lines.append(line.strip())
    return [line.replace("``", "`") for line in lines]
