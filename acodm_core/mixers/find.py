"""Mixers by name: find the class in its module, and build it from the options of a configuration."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from acodm_core.errors import UserError, unknown_name
from acodm_core.mixing import Mixer, Signal
from acodm_core.settings.mixer_options import failed, typed


def mixer_module(name: str) -> str:
    """The module of mixer ``name``: a dotted one is itself, every other a file of the baselines folder."""
    return name if "." in name else f"acodm_baselines.{name}"


def find_mixer(name: str, *, where: str = "") -> type[Mixer]:
    """The one Mixer defined in module ``name``: a file of the baselines folder, or any importable dotted module.

    Raises:
        UserError: no such module, one that fails when it is imported, or not exactly one Mixer in it, a dataclass.
    """
    dotted = mixer_module(name)
    if name.endswith(".py"):
        fix = (
            f"{name[:-3]!r} for a file of baselines/, or a dotted module that Python can import: my_package.{name[:-3]}"
        )
        raise UserError(f"a mixer is named without .py; got {name!r}", where=where, fix=fix)
    try:
        module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name and _is_within(dotted, error.name):
            raise unknown_name("mixer", name, baseline_names(), where=where) from error
        raise failed(name, error, where) from error  # the mixer exists but one of its own imports is missing
    except (Exception, SystemExit) as error:
        raise failed(name, error, where) from error
    found = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Mixer) and not inspect.isabstract(cls) and _is_within(cls.__module__, dotted)
    ]
    if len(found) != 1:
        names = ", ".join(cls.__name__ for cls in found) or "none"
        raise UserError(
            f"module {dotted} must define exactly one Mixer with all its methods; found: {names}", where=where
        )
    if not dataclasses.is_dataclass(found[0]):
        fix = f"write @dataclass above  class {found[0].__name__}"
        raise UserError(f"the mixer of module {dotted} is no dataclass", where=where, fix=fix)
    return found[0]


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def baseline_names() -> list[str]:
    """Names of the mixers in the baselines folder, in alphabetical order; files that start with ``_`` are not mixers."""
    package = importlib.import_module("acodm_baselines")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def build_mixer(name: str, options: Mapping[str, Any], *, where: str = "") -> Mixer:
    """Instantiate mixer ``name``; its options are checked against its own dataclass fields.

    Args:
        where: YAML path of the method, for errors.

    Raises:
        UserError: an option that the mixer does not have (valid ones are listed), or one that its ``__post_init__`` refuses.
    """
    prefix = f"{where}." if where else ""
    cls = find_mixer(name, where=f"{prefix}mixer")
    fields = option_fields(cls)
    for option in options:
        if option not in fields:
            raise unknown_name(f"option of mixer {name!r}", option, fields, where=f"{prefix}options.{option}")
    options = typed(cls, options, where=f"{prefix}options")
    try:
        mixer = cls(**options)
        needs, inputs, built = mixer.needs, mixer.required_inputs(), mixer.built_mixers()
    except UserError as error:  # its `where` is the option
        raise UserError(error.what, where=f"{prefix}options.{error.where}", fix=error.fix) from None
    except (TypeError, ValueError) as error:
        raise UserError(f"mixer {name!r} refuses its options: {error}", where=f"{prefix}options") from error
    except (Exception, SystemExit) as error:
        raise failed(name, error, f"{prefix}options") from error
    if not isinstance(needs, frozenset) or not all(isinstance(signal, Signal) for signal in needs):
        raise UserError(f"`needs` of mixer {name!r} is {needs!r:.80}", where=f"{prefix}mixer", fix=_NEEDS)
    for question, names, fix in (
        ("required_inputs", inputs, 'roles, as in ("actor",)'),
        ("built_mixers", built, "names of mixers"),
    ):
        if not isinstance(names, tuple) or not all(isinstance(one, str) for one in names):
            what = f"`{question}` of mixer {name!r} gives {names!r:.80}"
            raise UserError(what, where=f"{prefix}mixer", fix=f"a tuple of {fix}")
    return mixer


_NEEDS = "a frozenset of signals, as in  needs = frozenset({Signal.LOSS})"


def option_fields(cls: type[Mixer]) -> dict[str, dataclasses.Field]:
    """What a configuration may set of a mixer, by name: its dataclass fields, but for those whose name begins with ``_``."""
    return {f.name: f for f in dataclasses.fields(cls) if f.init and not f.name.startswith("_")}
