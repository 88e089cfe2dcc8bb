"""What a value from outside may be: strict types with bounds, declared once, and errors that name the place.

Strict: ``true`` is no number, ``"5"`` and ``5.0`` are no integers, and no number is infinite or not a number.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from acodm_core.errors import UserError, unknown_name

LARGEST = 2**53  # every integer up to here is exact as a float, in JSON and in Parquet

_NO_NAMES = {"true", "false", "null", "none", "nan", "na", "inf"}  # read back from a table, these would be no text
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong, _SHORT.maxlevel = 60, 3
_SHORT.maxlist = _SHORT.maxdict = 8
_TYPES = {
    "int_type": "a whole number (an integer)",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (in quotes, if it looks like a number)",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a dictionary (key: value)",
    "model_type": "a dictionary (key: value)",
}
_PATTERNS: dict[str, str] = {}  # pattern -> what it asks for, in words


def text_like(pattern: str, words: str, *, longest: int = 60) -> Any:
    """The type of text that matches ``pattern``; an error says ``words``."""
    _PATTERNS[pattern] = words
    return Annotated[str, Field(pattern=pattern, max_length=longest)]


def _is_a_name(name: str) -> str:
    if name in _NO_NAMES:
        raise ValueError(
            f"{name!r} cannot be a name: tables that hold it would be read as a missing value; choose another"
        )
    return name


def _is_one_line(text: str) -> str:
    if not text.isprintable():
        bad = next(character for character in text if not character.isprintable())
        raise ValueError(f"must be one line of printable characters, and holds {bad!r}: {shown(text)}")
    return text


def _is_a_pattern(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression ({error}): {shown(text)}") from None
    return text


def distinct(values: Any) -> Any:
    """``values`` as they are; ValueError if one stands twice."""
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"named twice: {shown(twice[0])}, in {shown(values)}")
    return values


#: What names a method, experiment, axis, model, role or group: part of files' names, of tables and of commands.
Name = Annotated[
    text_like(r"^[a-z][a-z0-9_.-]*$", "a name is a lower-case letter, then lower-case letters, digits, _ . or -"),
    AfterValidator(_is_a_name),
]
#: What names a domain: also a folder, a column and a colour's key.
DomainName = Annotated[
    text_like(r"^[a-z][a-z0-9_]*$", "a domain's name is a lower-case letter, then lower-case letters, digits or _"),
    AfterValidator(_is_a_name),
]
Line = Annotated[str, Field(max_length=1000), AfterValidator(_is_one_line)]  # a path, a name elsewhere
Title = Annotated[str, Field(max_length=100), AfterValidator(_is_one_line)]  # shown to people as it is
Label = Annotated[Title, Field(min_length=1)]
Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_is_a_pattern)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(gt=0, le=LARGEST)]
Distinct = AfterValidator(distinct)  # for a list: no value twice


class Strict(BaseModel):
    """A section of a configuration or of a file: no unknown key, no change, no infinite number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()  # fields that came later: unused, they change no digest and no file

    @model_serializer(mode="wrap")
    def _without_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value or name not in self.later}


Checked = TypeVar("Checked", bound=BaseModel)


def checked(model: type[Checked], value: Any, *, where: str = "") -> Checked:
    """``value``, as YAML or JSON gave it, as a ``model``.

    Args:
        where: the place of ``value``: what its YAML paths begin with.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of its bounds; with its YAML path and what is valid.
    """
    try:
        value = _plain(value, where)
    except RecursionError:
        raise UserError("nested too deep", where=where) from None
    try:
        return model.model_validate_json(json.dumps(value), strict=True)  # strict, and a list is also a tuple
    except ValidationError as error:
        raise _readable(error, model, value, where) from None


def shown(value: Any) -> str:
    """``value`` as text of bounded length, on one line."""
    return _SHORT.repr(value)


def path_of(*parts: Any) -> str:
    """A YAML path such as ``horizons.odm[1]``, also of keys that nobody should have written."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif word := str(part):
            path += "." * bool(path) + (word if word.isprintable() and len(word) <= 200 else shown(word))
    return path


def _plain(value: Any, where: str) -> Any:
    """A copy of ``value`` that JSON can hold: no NaN, no infinity, no integer without end, no object."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, path_of(where, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if hasattr(value, "tolist"):  # of numpy
        return _plain(value.tolist(), where)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"must be a finite number; got {value}", where=where)
    if isinstance(value, int) and abs(value) >= 2**64:
        raise UserError("must be a number that 64 bits can hold; got a larger one", where=where)
    if not isinstance(value, str | int | float | None):
        raise UserError(
            f"must be text, a number, true, false, null, a list or a dictionary; got {shown(value)}", where=where
        )
    return value


def _readable(error: ValidationError, model: type[BaseModel], value: Any, prefix: str) -> UserError:
    """The first mistake with the YAML path, the value and the valid names."""
    first, *others = error.errors()
    path = _yaml_path(first, value)
    where = path_of(prefix, *path)
    if first["type"] == "extra_forbidden":
        return unknown_name("key", str(first["loc"][-1]), _fields(model, first["loc"][:-1]), where=where)
    ours = first.get("ctx", {}).get("error")  # raised by a validator of this project: it says all there is to say
    if ours:
        return UserError(str(ours), where=where)
    same_place = [_words(one) for one in others if _yaml_path(one, value) == path]  # the other members of a union
    what = "; or ".join(dict.fromkeys([_words(first), *same_place]))
    return UserError(what if first["type"] == "missing" else f"{what}; got {shown(first['input'])}", where=where)


def _words(error: Mapping[str, Any]) -> str:
    """What is valid, in the words of YAML."""
    if error["type"] in _TYPES:
        return f"must be {_TYPES[error['type']]}"
    return _PATTERNS.get(error.get("ctx", {}).get("pattern"), error["msg"])


def _yaml_path(error: Mapping[str, Any], value: Any) -> list[str | int]:
    """The error's place without what pydantic puts in between: the names of a union's members, no keys of ``value``."""
    path: list[str | int] = []
    for part in error["loc"]:
        if isinstance(value, Mapping):
            inside = part in value
        else:
            inside = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if inside:
            value = value[part]
            path.append(part)
    return [*path, str(error["loc"][-1])] if error["type"] == "missing" else path


def _fields(model: type[BaseModel] | None, path: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the section that ``path`` leads to; empty where it leads out of the models."""
    for part in path:
        field = model.model_fields.get(str(part)) if model is not None else None
        if field is None:  # a key of a dictionary of sections, as in methods.NAME
            continue
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return [field.alias or name for name, field in model.model_fields.items()] if model is not None else []
