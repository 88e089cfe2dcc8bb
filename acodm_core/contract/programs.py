"""``acodm new-mixer`` and ``acodm check``: write a mixer, and hold it to the contract."""

from __future__ import annotations

import importlib
import keyword
import re
import shlex
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acodm_core.errors import UserError
from acodm_core.files import atomic

if TYPE_CHECKING:
    import numpy as np

    from acodm_core.contract.checks import Finding

PROMISE_SECONDS = 600  # for one promise: an agent's take some seconds
LONGEST_NAME = 40  # of a mixer: it becomes part of other names
SMOKE = "snakemake --configfile workflow/config/smoke.yaml --config"
SLOW_SECONDS = 3e-3  # a step's own arithmetic should stay under this
WORDS = {True: ("ok", "green"), False: ("failed", "bold red"), None: ("not asked", "yellow")}


def new_mixer(
    name: Annotated[str, typer.Argument(help="Name of the mixer: lower-case letters, digits and _.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: NAME.py in the folder of baselines.")
    ] = None,
) -> None:
    """Write a new mixer that works, from the template, and say what to type next."""
    from acodm_core.mixers.find import baseline_names

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"{name!r} cannot be the name of a mixer",
            where="acodm new-mixer",
            fix=f"a lower-case letter, then letters, digits or _, no word of Python's, {LONGEST_NAME} at most: my_mixer",
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
    print(f"  acodm check {name if out is None else shlex.quote(str(shown))}")
    for line in _first_training(name, None if out is None else path.resolve()):
        print(f"  {line}")


def _first_training(name: str, path: Path | None) -> list[str]:
    """The command that trains the new mixer beside others; ``path`` is its file where that is none of the baselines."""
    words = [f"experiment=try-{name}", f"compare=[natural, uniform, {name}]", "downstream=null"]
    if path is None:
        return [f"{SMOKE} {shlex.join(words)}"]
    package = path.parent.name
    if not package.isidentifier():
        return ["(to train it, put it into a folder whose name Python can import: my_mixers)"]
    words.append(f"methods={{{name}: {{mixer: {package}.{path.stem}}}}}")
    return [f"PYTHONPATH={shlex.quote(str(path.parent.parent))} {SMOKE} {shlex.join(words)}"]


def check(
    mixers: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of mixers or methods, dotted modules, or .py files; default: every mixer of the baselines.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Hold mixers to the contract: what is checked, what failed and how to fix it. Exit status 1 if anything failed."""
    from rich.console import Console

    from acodm_core.lm.kernels.device import prepare
    from acodm_core.mixers.find import baseline_names

    prepare("cpu", threads=1)
    console = Console(highlight=False, soft_wrap=True)
    broken = 0
    for name in mixers or baseline_names():
        broken += _report(console, name)
    if broken:
        console.print(f"[bold red]{broken} promises broken[/]")
        raise typer.Exit(1)


def _report(console, name: str) -> int:
    """Print one mixer's findings; how many promises it breaks."""
    from rich.markup import escape

    from acodm_core.contract.checks import MOST_DOMAINS, Finding

    broken, titled = 0, False
    for found in _in_a_process_of_its_own(name):
        if not titled:
            console.print(f"[bold]{escape(name)}[/]")
            titled = True
        if isinstance(found, Finding):
            word, style = WORDS[found.kept]
            console.print(f"  [{style}]{word:<9}[/]  {escape(found.promise)}")
            for line in filter(None, (found.what, found.fix and f"-> {found.fix}")):
                console.print(f"{'':13}{escape(line)}")
            broken += found.kept is False
            continue
        slow = "" if found.mean() < SLOW_SECONDS else f"; more than {SLOW_SECONDS * 1e3:.0f} ms: a probe will show it"
        console.print(
            f"  own arithmetic at {MOST_DOMAINS} domains, CPU ms per step: mean {found.mean() * 1e3:.3f},"
            f" longest {found.max() * 1e3:.3f}{slow}"
        )
    return broken


def _in_a_process_of_its_own(name: str) -> Iterator[Finding | np.ndarray]:
    """What ``_examine`` finds. A mixer that ends its process, or never comes back, is a finding, too."""
    from acodm_core.contract.checks import Finding

    context = get_context("fork" if sys.platform == "linux" else "spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_examine, args=(name, there), daemon=True)
    process.start()
    there.close()
    promise = "Comes back, and ends no program"
    try:
        while here.poll(PROMISE_SECONDS):
            kind, found = here.recv()
            if kind == "end":
                return
            if kind == "error":
                raise UserError(found[0], where=found[1], fix=found[2])
            yield found
        yield Finding(promise, False, f"nothing came back in {PROMISE_SECONDS} seconds", "look for a loop without end")
    except EOFError:
        process.join()
        what = f"the mixer ended its process, with status {process.exitcode}"
        yield Finding(promise, False, what, "raise what is wrong; os._exit and signals end a training without a word")
    finally:
        process.kill()
        process.join()


def _examine(name: str, out: Connection) -> None:
    """Send all findings of a mixer and, where it keeps its promises, the seconds of its steps."""
    from acodm_core.contract.case import case_of, modest
    from acodm_core.contract.checks import examine
    from acodm_core.contract.speed import step_seconds

    try:
        case = case_of(name)
        broken = 0
        for finding in examine(modest(case)):
            broken += finding.kept is False
            out.send(("finding", finding))
        if not broken:
            out.send(("seconds", step_seconds(case)))
        out.send(("end", None))
    except UserError as error:
        out.send(("error", (error.what, error.where, error.fix)))
