"""``acodm new-mixer`` and ``acodm check``: write a mixer, and hold it to the contract."""

from __future__ import annotations

import importlib
import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from acodm_core.errors import UserError
from acodm_core.files import atomic

SLOW_SECONDS = 1e-3  # a step's own arithmetic should stay under this
WORDS = {True: ("ok", "green"), False: ("failed", "bold red"), None: ("not asked", "yellow")}


def new_mixer(
    name: Annotated[str, typer.Argument(help="Name of the mixer: lower-case letters, digits and _.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: NAME.py in the folder of baselines.")
    ] = None,
) -> None:
    """Write a new mixer that works, from the template, and say what to type next."""
    from acodm_core.mixing import baseline_names

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r} cannot be the name of a mixer",
            where="acodm new-mixer",
            fix="a lower-case letter, then letters, digits or _, and no word of Python's: my_mixer",
        )
    if name in baseline_names():
        raise UserError(f"there is a mixer {name!r} already", where="acodm new-mixer", fix="choose another name")
    folder = Path(next(iter(importlib.import_module("acodm_baselines").__path__)))
    path = folder / f"{name}.py" if out is None else out
    if path.suffix != ".py" or not path.stem.isidentifier() or not path.parent.is_dir():
        raise UserError("not a file that Python can import", where=str(path), fix="a folder that exists, and a name.py")
    if path.exists():
        raise UserError("the file exists, and is left as it is", where=str(path), fix="choose another name or --out")
    text = (folder / "_template.py").read_text(encoding="utf-8")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    with atomic(path) as temporary:
        temporary.write_text(text.replace("class Template(", f"class {class_name}("), encoding="utf-8")
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    print(f"wrote {shown}; edit it, then")
    print(f"  acodm check {name if out is None else shown}")
    if out is None:
        print(f"  snakemake --configfile workflow/config/smoke.yaml --config 'compare=[natural, uniform, {name}]'")
    else:
        print(
            f"  snakemake --configfile YOURS.yaml    # methods: {{{name}: {{mixer: PACKAGE.{path.stem}}}}}, and compare it"
        )


def check(
    mixers: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of mixers or methods, dotted modules, or .py files; default: every mixer of the baselines.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Hold mixers to the contract: what is checked, what failed and how to mend it. Exit status 1 if anything failed."""
    from rich.console import Console

    from acodm_core.contract.case import case_of
    from acodm_core.lm.device import prepare
    from acodm_core.mixing import baseline_names

    prepare("cpu", threads=1)
    console = Console(highlight=False, soft_wrap=True)
    broken = 0
    for name in mixers or baseline_names():
        broken += _report(console, name, case_of(name))
    if broken:
        console.print(f"[bold red]{broken} promises broken[/]")
        raise typer.Exit(1)


def _report(console, name: str, case) -> int:
    """Print one mixer's findings; how many promises it breaks."""
    from rich.markup import escape

    from acodm_core.contract.checks import MOST_DOMAINS, examine, step_seconds

    console.print(f"[bold]{escape(name)}[/]")
    broken = 0
    for finding in examine(case):
        word, style = WORDS[finding.kept]
        console.print(f"  [{style}]{word:<9}[/]  {escape(finding.promise)}")
        for line in filter(None, (finding.what, finding.fix and f"-> {finding.fix}")):
            console.print(f"{'':13}{escape(line)}")
        broken += finding.kept is False
    if not broken:
        seconds = step_seconds(case)
        slow = "" if seconds.mean() < SLOW_SECONDS else f"; more than {SLOW_SECONDS * 1e3:.0f} ms: a probe will show it"
        console.print(
            f"  own arithmetic at {MOST_DOMAINS} domains, CPU ms a step: mean {seconds.mean() * 1e3:.3f},"
            f" longest {seconds.max() * 1e3:.3f}{slow}"
        )
    return broken
