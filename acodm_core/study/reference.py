"""Documents generated from the code, so that they cannot disagree with it: default configuration, schema, methods."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from acodm_core.mixing import Mixer, baseline_names, find_mixer
from acodm_core.study.config import Experiment


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


VARIANTS = ("acodm_core.acodm", "acodm_core.acodm.paper", "acodm_core.acodm.released", "acodm_core.acodm.hds")


def methods() -> str:
    """The methods page: a table of all mixers, then each one's card from its docstring."""
    lines = ["# Methods", "", "Generated from the code: `acodm reference methods`.", ""]
    lines += ["| mixer | what it does | signals | source |", "| --- | --- | --- | --- |"]
    cards = []
    for name in [*baseline_names(), *VARIANTS]:
        cls = find_mixer(name)
        doc = inspect.getdoc(cls) or ""
        needs = ", ".join(sorted(getattr(cls(), "needs", frozenset()))) or "none"
        lines.append(f"| `{name}` | {doc.splitlines()[0]} | {needs} | {cls.cite} |")
        cards += ["", f"## `{name}`", "", doc.splitlines()[0], *_card(doc), "", *_options(cls)]
    return "\n".join([*lines, *cards]) + "\n"


def _options(cls: type[Mixer]) -> list[str]:
    """The mixer's options and defaults; of a variant of another mixer, those that it changes or adds."""
    parent = cls.__mro__[1]
    inherited = vars(parent()) if parent is not Mixer else {}
    mine = {name: value for name, value in vars(cls()).items() if inherited.get(name, inherited) != value}
    shown = ", ".join(f"`{name}={value!r}`" for name, value in mine.items()) or "none"
    return [f"**Options.** {shown}" + (f"; the rest as `{parent.__name__}`." if inherited else ".")]


def _card(doc: str) -> list[str]:
    """The docstring's blocks as Markdown: a bold heading and its lines."""
    lines: list[str] = []
    for line in doc.splitlines()[1:]:
        if line and not line.startswith(" "):
            lines += ["", f"**{line.rstrip(':')}.**"]
        elif line.strip():
            lines.append(line.strip())
    return [line.replace("``", "`") for line in lines]
