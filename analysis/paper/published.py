"""What was published: the reader of claims.yaml. Every name, function and argument in it is checked when it is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from acodm_analysis.core.frames import thresholds
from acodm_analysis.paper.arithmetic import CHECKS, Finding
from acodm_analysis.paper.measures import MEASURES
from acodm_core.errors import UserError, unknown_name
from acodm_core.results.reader import Results

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one where libyaml is there
FILE = Path(__file__).with_name("claims.yaml")
BEST_STATIC = "best_static"  # in the place of a method: the static method with the lowest final validation loss
METHOD_ARGUMENTS = ("method", "than", "to")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(_Part):
    """A paper's method: its name, that of its row in the AC-ODM paper's tables, and the methods here that stand for it, most
    literal first, by the name of their variant where they have one. ``AXIS/LABEL`` is the method behind a value of an axis.
    """

    title: str
    row: str = ""
    here: Annotated[dict[str, str] | list[str], Field(min_length=1)]

    def variants(self) -> list[tuple[str, str]]:
        """(variant, method) in order; a method without variants has "" for it."""
        return list(self.here.items()) if isinstance(self.here, dict) else [("", method) for method in self.here]


class Table(_Part):
    """A published table: row -> its cells. Rows are names of ``methods``, in the table of domains what is measured."""

    source: str
    setting: str
    rows: dict[str, dict[str, float | str] | list[float]]
    steps: list[int] = []  # of curves: where the rows were read off
    questions: dict[str, int] = {}  # column -> items behind a score


class Call(_Part):
    """A function's name and its arguments, written ``{name: {argument: value}}``."""

    name: str
    arguments: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _one_entry(cls, value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1 or not isinstance(next(iter(value.values())), dict):
            raise ValueError("write one function and its arguments: {fewer_steps: {method: acodm, to: odm}}")
        ((name, arguments),) = value.items()
        return {"name": name, "arguments": arguments}

    def check(self, functions: Mapping[str, Callable], *before: Any) -> None:
        """Raise ValueError unless it names one of ``functions`` and its arguments fit, after ``before``."""
        if self.name not in functions:
            raise ValueError(f"unknown function {self.name!r}; valid: {', '.join(sorted(functions))}")
        try:
            inspect.signature(functions[self.name]).bind(*before, **self.arguments)
        except TypeError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.arguments.items())})"


class Claim(_Part):
    """One published claim. ``side`` says where it puts the quantity against ``none``, its value where there is no effect;
    with ``at most``, ``value`` is a bound instead. A claim without a value is one of direction alone."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    of: str
    says: str
    value: float | None = None
    unit: str = ""
    printed: str = ""  # what the source prints, where it has another form than `value`
    derived: str = ""  # from which printed figures we computed `value`, where the source prints none
    none: float | None = None
    side: Literal["above", "below", "at most"]
    setting: str
    source: str
    measure: Call | None = None
    unmeasured: str = ""  # why nothing here measures it
    only: dict[Literal["corpus", "model"], str] = {}  # what the corpus's or the model's name must contain
    variants: list[str] = []  # of its method, the only ones it is tested on; empty: all
    plausible: list[Call] = []

    def findings(self) -> list[Finding]:
        """What the arithmetic on published figures says about it."""
        return [CHECKS[call.name](**call.arguments) for call in self.plausible]

    @field_validator("measure")
    @classmethod
    def _measured_by_a_function(cls, call: Call | None) -> Call | None:
        if call:
            call.check(MEASURES, None)
        return call

    @field_validator("plausible")
    @classmethod
    def _checked_by_functions(cls, calls: list[Call]) -> list[Call]:
        for call in calls:
            call.check(CHECKS)
            try:
                CHECKS[call.name](**call.arguments)
            except (TypeError, ValueError, ArithmeticError) as error:
                raise ValueError(f"{call} cannot be computed: {error}") from None
        return calls

    @model_validator(mode="after")
    def _fits_together(self) -> Claim:
        if (self.measure is None) == (self.unmeasured == ""):
            raise ValueError("give either `measure` or, with the reason, `unmeasured`")
        if self.printed and self.derived:
            raise ValueError("a figure is either `printed` or `derived` from others")
        if self.side == "at most":
            if self.value is None or self.none is not None:
                raise ValueError("a claim of `at most` has a `value`, its bound, and no `none`")
        elif self.none is None:
            raise ValueError("`none` is missing: the quantity's value where there is no effect")
        elif self.value is not None and not (
            self.value > self.none if self.side == "above" else self.value < self.none
        ):
            raise ValueError(f"`value` {self.value} is not {self.side} `none` {self.none}")
        return self


class Published(_Part):
    """The whole file."""

    methods: dict[str, Method]
    tables: dict[str, Table]
    claims: list[Claim]

    def stand_ins(self, results: Results, name: str) -> dict[str, str]:
        """Method -> variant: those of ``results`` that stand for the paper's method ``name`` and have runs, most literal first."""
        if name == BEST_STATIC:
            found = {thresholds(results).set_index("threshold").loc["best_static", "method"]: ""}
        else:
            found = {_behind(results, method): variant for variant, method in self.methods[name].variants()}
        ran = set(results.runs["method"])
        return {method: variant for method, variant in found.items() if method in ran}

    def title(self, name: str) -> str:
        return "the best static mixture" if name == BEST_STATIC else self.methods[name].title

    def row(self, name: str) -> str:
        """What the AC-ODM paper's tables call the method."""
        return self.methods[name].row or self.methods[name].title


def _behind(results: Results, name: str) -> str:
    axis, slash, label = name.partition("/")
    return results.axes.get(axis, {}).get("methods", {}).get(label, "") if slash else name


def read(path: Path) -> Published:
    """The file at ``path``.

    Raises:
        UserError: a mistake in it; ``where`` names the claim (or the section) and the field.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        published = Published.model_validate(raw)
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML ({error})", where=str(path)) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(first["msg"], where=_place(raw, first["loc"], path)) from None
    names = [claim.name for claim in published.claims]
    for claim in published.claims:
        where = f"{path.name}: claim {claim.name!r}"
        if names.count(claim.name) > 1:
            raise UserError("there are two claims of that name", where=where)
        arguments = claim.measure.arguments if claim.measure else {}
        for variant in claim.variants:
            known = dict(published.methods[claim.of].variants()) if claim.of in published.methods else {variant: ""}
            if variant not in known:
                raise unknown_name("variant", variant, known, where=where)
        for name in [
            claim.of,
            *(arguments[key] for key in METHOD_ARGUMENTS if arguments.get(key, BEST_STATIC) != BEST_STATIC),
        ]:
            if name not in published.methods:
                raise unknown_name("method", str(name), published.methods, where=where)
    return published


def _place(raw: Any, location: tuple, path: Path) -> str:
    """Where a mistake is, with the claim's own name in the place of its number."""
    if location[:1] == ("claims",) and len(location) > 1:
        name = raw["claims"][location[1]].get("name", f"number {location[1] + 1}")
        return ": ".join([path.name, f"claim {name!r}", *filter(None, [".".join(map(str, location[2:]))])])
    return f"{path.name}: {'.'.join(map(str, location))}"


@lru_cache(maxsize=1)
def published() -> Published:
    """What claims.yaml holds."""
    return read(FILE)
