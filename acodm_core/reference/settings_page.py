"""The configuration page: every setting with its type, default and meaning, from the pydantic models."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from acodm_core.study.config import Experiment

HEAD = """# Configuration

Generated from the code: `acodm reference configuration`.

An experiment is one YAML file, laid over the defaults. `workflow/schemas/experiment.schema.json` is the same as a JSON schema,
for editors. A file with a mistake is refused with the place, the value and what is valid: `acodm plan FILE` checks it.
"""


def configuration() -> str:
    """The page, in Markdown: the top level first, then a table per section."""
    parts = [HEAD, "## Top level\n", _table(Experiment)]
    for name, model in _sections(Experiment, ""):
        kind = model.model_fields["kind"].default if "kind" in model.model_fields else ""
        parts += [
            f"## `{name}`" + (f", from: {kind}" if kind else "") + "\n",
            f"{_first_line(model)}\n" if model.__doc__ else "",
            _table(model),
        ]
    return "\n".join(part for part in parts if part)


def _sections(model: type[BaseModel], prefix: str) -> list[tuple[str, type[BaseModel]]]:
    """(YAML path, model) of every section below ``model``; a dictionary of sections has NAME in its path."""
    found = []
    for key, field in model.model_fields.items():
        for section in _models_in(field.annotation):
            path = f"{prefix}{field.alias or key}" + (".NAME" if get_origin(_some(field.annotation)) is dict else "")
            found += [(path, section), *_sections(section, f"{path}.")]
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return list(dict.fromkeys(model for part in get_args(annotation) for model in _models_in(part)))


def _some(annotation: Any) -> Any:
    """``annotation`` without `| None`."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if len(parts) == 1 and get_origin(annotation) not in (list, tuple, dict) else annotation


def _table(model: type[BaseModel]) -> str:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        cells = f"`{field.alias or name}`", _kind(field.annotation), _default(field), field.description or ""
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _kind(annotation: Any) -> str:
    """What a value is, in words that stand in YAML."""
    if _models_in(annotation):
        return "sections by name" if get_origin(_some(annotation)) is dict else "section"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin is list or origin is tuple:
        return "list of " + _kind(parts[0]).replace("number", "numbers").replace("text", "texts")
    if origin is dict:
        return f"{_kind(parts[0])} -> {_kind(parts[1])}"
    if hasattr(annotation, "__metadata__"):  # Annotated: bounds stand in the schema
        return _kind(parts[0])
    if parts:
        return " or ".join(dict.fromkeys(_kind(part) for part in parts if part is not type(None)))
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), "any value"
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    return "none" if value is None else f"`{list(value) if isinstance(value, tuple) else value}`"


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
