"""Documents generated from the code, so that they cannot disagree with it: default configuration, schema, methods."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import yaml
from pydantic import BaseModel

from acodm_core.mixing import baseline_names, find_mixer
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
        if field.is_required():
            lines.append(f"{pad}# {key}:  (required; in the catalogues or yours to give)")
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            lines += [f"{pad}{key}:", *_section(type(value), depth + 1)]
        else:
            text = (
                yaml.safe_dump(_plain(value), default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
            )
            lines.append(f"{pad}{key}: {text}")
    return lines


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def methods() -> str:
    """The methods page: a table of all mixers, then each one's card from its docstring."""
    names = [*baseline_names(), "acodm_core.acodm"]
    lines = ["# Methods", "", "Generated from the code: `acodm reference methods`.", ""]
    lines += ["| mixer | what it does | signals | options | source |", "| --- | --- | --- | --- | --- |"]
    cards = []
    for name in names:
        cls = find_mixer(name)
        doc = inspect.getdoc(cls) or ""
        fields = {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
        needs = getattr(cls(), "needs", frozenset())
        options = ", ".join(f"`{k}={v!r}`" for k, v in fields.items()) or "none"
        lines.append(
            f"| `{name}` | {doc.splitlines()[0]} | {', '.join(sorted(needs)) or 'none'} | {options} | {cls.cite} |"
        )
        cards += ["", f"## `{name}`", "", doc.splitlines()[0], *_card(doc)]
    return "\n".join([*lines, *cards]) + "\n"


def _card(doc: str) -> list[str]:
    """The docstring's blocks as Markdown: a bold heading and its lines."""
    lines: list[str] = []
    for line in doc.splitlines()[1:]:
        if line and not line.startswith(" "):
            lines += ["", f"**{line.rstrip(':')}.**"]
        elif line.strip():
            lines.append(line.strip())
    return [line.replace("``", "`") for line in lines]
