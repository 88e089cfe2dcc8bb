"""The registry of what the analysis writes: every output has a file of its own, and describes itself there in one entry.

    OUTPUT = Output(section="Cost", heading="Cost to threshold", figure="cost", tables=("cost",), caption="What it shows.")

The entries are literals and are read from the files' syntax trees: nothing is imported, so Snakemake may ask at every parse. The
rules, the programs that render, the report, Snakemake's captions and the export all read them here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from acodm_core.errors import UserError, unknown_name

FOLDER = Path(__file__).parents[1]  # of the analysis
PAPER = "paper"  # the folder in it whose outputs stand beside the AC-ODM paper's own
SUMMARY = "Summary"  # what the report begins with
AXIS = "{axis}"  # in a name of an output: one of each for every axis of the ablation
STATEMENT = re.compile(r"^OUTPUT = (?:[^\n]*\)$|.*?^\)$)", re.M | re.S)
SECTIONS = {  # of the report, in its order -> what it says where nothing of a section is there
    SUMMARY: "",
    "Efficiency": "",
    "Quality by domain": "",
    "Mixture dynamics": "",
    "Cost": "",
    "Overhead and memory": "",
    "Downstream": "Not run: these runs have no downstream scores.",
    "Ablations": "Not run: this experiment varies no setting.",
    "Claims": "Not run: no published claim was measured on these results.",
    "Noise card": "",
    "The paper": "",
}


@dataclass(frozen=True, kw_only=True)
class Output:
    """The files that one module of the analysis writes into the rendered folder, and what they show.

    A name with ``{axis}`` in it stands for one file per axis of the ablation; ``{axis}`` in the heading is the axis's title.
    """

    section: str  # one of SECTIONS
    heading: str
    caption: str  # what the figure shows, or the table
    figure: str = ""  # NAME.svg and NAME.png
    tables: tuple[str, ...] = ()  # NAME.csv (numbers), NAME.md and NAME.tex (cells)
    data: tuple[str, ...] = ()  # NAME.csv: numbers behind the figure that are in no table
    place: int = 100  # within its section, the lowest first
    needs: tuple[str, ...] = ()  # written where the experiment has one of these: see ``Experiment.has``; (): always
    several: bool = False  # made from several experiments, by its own program alone
    module: str = ""  # filled in by the registry: the file's name without its suffix
    axis: str = ""  # filled in by the registry: the axis that it is about

    @property
    def key(self) -> str:
        """A name that no other output of the same folder has."""
        return self.module + f"_{self.axis}" * bool(self.axis)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*[self.figure] * bool(self.figure), *self.tables, *self.data]))

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files."""
        found = [f"{self.figure}.{kind}" for kind in ("svg", "png") if self.figure]
        found += [f"{name}.{kind}" for name in self.tables for kind in ("csv", "md", "tex")]
        return (*found, *(f"{name}.csv" for name in self.data), self.caption_file)

    @property
    def caption_file(self) -> str:
        """The caption in the format that Snakemake's own report takes."""
        return f"captions/{self.key}.rst"


@dataclass(frozen=True)
class Experiment:
    """What decides which outputs an experiment has."""

    compare: Sequence[str]  # the compared methods
    axes: Mapping[str, str] = field(default_factory=dict)  # of the ablation -> their titles
    downstream: bool = False  # whether models are asked downstream tasks
    contamination: bool = False  # whether the tasks' questions are sought in the training text

    def has(self, need: str) -> bool:
        """Whether ``need`` is there: "method NAME", "axis NAME", "downstream" or "contamination".

        Raises:
            UserError: it is none of these.
        """
        kind, _, name = need.partition(" ")
        if kind in ("method", "axis") and name:
            return name in (self.compare if kind == "method" else self.axes)
        if need not in ("downstream", "contamination"):
            raise unknown_name("need of an output", need, ("method NAME", "axis NAME", "downstream", "contamination"))
        return getattr(self, need)

    def outputs(self, folder: str = "") -> tuple[Output, ...]:
        """The outputs of this experiment that the modules of ``folder`` write, in the report's order; one for every axis."""
        found: list[Output] = []
        for one in registered(folder):
            if not one.several and (not one.needs or any(map(self.has, one.needs))):
                found += self._expanded(one)
        return tuple(found)

    def _expanded(self, one: Output) -> Iterator[Output]:
        if AXIS not in "".join(one.names):
            yield one
            return
        for axis, title in self.axes.items():
            tables, data = (tuple(name.replace(AXIS, axis) for name in names) for names in (one.tables, one.data))
            figure, heading = one.figure.replace(AXIS, axis), one.heading.replace(AXIS, title)
            yield replace(one, heading=heading, figure=figure, tables=tables, data=data, axis=axis)


def registered(folder: str = "") -> tuple[Output, ...]:
    """Every output that a module of ``folder`` (of the analysis) registers, in the report's order.

    Raises:
        UserError: an entry is not made of literals, names an unknown section, or writes a file that another one writes.
    """
    found = [one for path in sorted((FOLDER / folder).glob("*.py")) if (one := read(path)) is not None]
    owners: dict[str, str] = {}
    for one in found:
        for name in one.names:
            if name in owners:
                raise UserError(f"{name!r} is written by {owners[name]}.py, too", where=f"OUTPUT of {one.module}.py")
            owners[name] = one.module
    order = list(SECTIONS)
    return tuple(sorted(found, key=lambda one: (order.index(one.section), one.place, one.module)))


def read(path: Path) -> Output | None:
    """The OUTPUT of a module, without importing it; None where it registers nothing.

    Raises:
        UserError: see ``registered``.
    """
    entry = _entry(path.read_text(encoding="utf-8"))
    if entry is None:
        return None
    where, fix = f"OUTPUT of {path.name}", "write OUTPUT = Output(name=literal, ...), as in analysis/cost.py"
    try:
        if entry.func.id != "Output" or entry.args:
            raise ValueError("no Output(name=value, ...)")
        values = {one.arg: ast.literal_eval(one.value) for one in entry.keywords}
    except (ValueError, AttributeError) as error:
        raise UserError("not made of literals", where=where, fix=fix) from error
    known = {one.name for one in fields(Output)} - {"module", "axis"}
    for name in values:
        if name not in known:
            raise unknown_name("field of an output", name, known, where=where)
    if not {"section", "heading", "caption"} <= set(values):
        raise UserError("needs a section, a heading and a caption", where=where, fix=fix)
    if values["section"] not in SECTIONS:
        raise unknown_name("section of the report", values["section"], SECTIONS, where=where)
    return Output(**values, module=path.stem)


def _entry(text: str) -> ast.expr | None:
    """The value of a module's OUTPUT. Formatted as all code here is, its statement is found and parsed alone: thirty whole
    modules are a second of a busy machine's time."""
    if not (found := re.search(STATEMENT, text)):
        return None
    try:
        tree = ast.parse(found[0])
    except SyntaxError:
        tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == "OUTPUT" for one in node.targets
        ):
            return node.value
    return None
