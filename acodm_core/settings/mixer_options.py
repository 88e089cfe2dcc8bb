"""Options that a configuration gives to code of somebody's own: their types, and what to say when that code fails."""

from __future__ import annotations

import traceback
import typing
from collections.abc import Mapping
from typing import Any

from acodm_core.errors import UserError


def typed(cls: type, options: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """``options`` with the types that the dataclass declares (a YAML list becomes a tuple); UserError where they don't fit."""
    from pydantic import ConfigDict, create_model  # a loop of somebody's own has none to check

    from acodm_core.settings.types import Strict, checked

    class Options(Strict):
        model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:  # imported for type checkers only
        fix = f"import it outside of `if TYPE_CHECKING` in {cls.__module__}"
        raise UserError(f"a type of the mixer's options is not known: {error}", where=where, fix=fix) from error
    model = create_model("Options", __base__=Options, **{name: (hints[name], ...) for name in options})
    found = checked(model, dict(options), where=where)
    return {name: getattr(found, name) for name in options}


def failed(name: str, error: BaseException, where: str) -> UserError:
    """What an exception while a mixer is imported or built says, with the line of the mixer's code that raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    line = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames[1:] else ""
    return UserError(f"mixer {name!r} fails: {line}{type(error).__name__}: {error}", where=where, fix="mend its file")
