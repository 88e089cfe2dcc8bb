"""Ablation axes: every value of an axis is a method, the one that is varied with the value's overlay laid over it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from acodm_core.errors import UserError, unknown_name
from acodm_core.settings.types import checked
from acodm_core.study.config import Experiment, MethodConfig, merge


@dataclass(frozen=True)
class Variant:
    """One value of an axis."""

    axis: str
    label: str
    method: str  # OF-AXIS-LABEL, as a file's name can hold it
    entry: MethodConfig
    where: str  # YAML path of the value


def variants(experiment: Experiment) -> list[Variant]:
    """All values of all axes, in the configuration's order.

    Raises:
        UserError: an axis of an unknown method, an overlay that is none of a method, labels that give the same name.
    """
    found: dict[str, Variant] = {}
    for name, axis in experiment.axes.items():
        if axis.of not in experiment.methods:
            raise unknown_name("method", axis.of, experiment.methods, where=f"axes.{name}.of")
        for label, overlay in axis.values.items():
            where = f"axes.{name}.values.{label}"
            base = experiment.methods[axis.of].model_dump() | {"title": label, "trials": 0}
            if overlay.get("mixer", base["mixer"]) != base["mixer"]:
                base |= {"options": {}, "inputs": {}}  # another mixer starts from its own defaults
            merged = merge(base, overlay)
            entry = checked(MethodConfig, merged, where=where)
            method = f"{axis.of}-{name}-{_slug(label, where)}"
            if method in experiment.methods or method in found:
                taken = found[method].where if method in found else f"methods.{method}"
                raise UserError(f"its method would be called {method!r}, as that of {taken}", where=where)
            found[method] = Variant(name, label, method, entry, where)
    return list(found.values())


def _slug(label: str, where: str) -> str:
    slug = re.sub(r"[^a-z0-9_.-]+", "-", label.lower()).strip("-.")
    if not slug:
        raise UserError(f"label {label!r} has no letter and no digit", where=where, fix="give it a name")
    return slug
