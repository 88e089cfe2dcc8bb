"""One self-contained page: verdicts and the main table first, then every figure and table, then where they come from.

It draws nothing and computes nothing but its sentences: figures and tables are the files that the other programs rendered.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
from html import escape
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from acodm_core.errors import UserError
from acodm_core.files import atomic
from acodm_core.study.results import Results

from . import comparison, paired, repetition, style, verdicts
from .frames import ORACLE, baseline, horizon, targets, title, weighting
from .tables import read_markdown

# id, heading, figure, tables, files to download, what the figure shows. Order is the page's.
SECTIONS = (
    ("paired", "Difference to the baseline", None, ("paired",), (), ""),
    (
        "curves", "Validation curves", "curves", (), ("curves",),
        "Left: validation perplexity, exp of the mean loss over domains, on a logarithmic axis; dots mark where the"
        " median seed reaches the target, with its steps saved against the baseline. Right: difference to the baseline, seed by"
        " seed. Lines are medians, bands the smallest and largest seed, crosses the end of failed runs.",
    ),
    (
        "steps", "Steps to target", "steps_to_target", ("steps_to_target",), (),
        "Median steps to three targets; dots are seeds. A triangle is a seed that did not get there, a hatched bar a median"
        " that did not.",
    ),
    (
        "domains", "Domains", "domains", ("domains_perplexity",), ("domains",),
        "Final test loss of each domain against the reference, seed by seed: median, with a line from the smallest to the"
        " largest seed. Percentages are natural shares.",
    ),
    (
        "mixtures", "Mixtures", "mixtures", ("repetition",), ("mixtures",),
        "Share of each domain that the methods asked for: medians over seeds of means over short stretches of steps, bands from"
        " the smallest to the largest seed. Each panel has its own scale.",
    ),
    (
        "diagnostics", "What the agent does", "diagnostics", (), ("diagnostics",),
        "What the mixers record after a step, medians over seeds of means over short stretches, bands from the smallest to the"
        " largest seed; last, the distance (total variation) of the drawn from the requested mixture, of the step and of all"
        " steps so far.",
    ),
    (
        "overhead", "Overhead and memory", "overhead", ("overhead",), ("overhead_parts",),
        "A step with the method against a plain step: time ratio with its 95 % bootstrap interval over interleaved blocks, where"
        " the time goes, and peak memory.",
    ),
    (
        "cost", "Cost to target", "cost", ("cost",), ("cost_phases",),
        "FLOPs and seconds to the target: the target run, and hatched in white the runs it depends on, each in full. Faded"
        " hatched bars with > are whole runs that did not reach it.",
    ),
)  # fmt: skip
REGRET = (
    "regret", "Regret to the oracle", "regret", ("regret",), (),
    "Left: the share of the gap between uniform and the oracle's test loss that each method closes, with its interval. Right:"
    " total variation between its mean requested mixture and the oracle's.",
)  # fmt: skip
ABLATION = (
    "Each value of the setting on the seeds of the base: final test loss (median with its interval, seeds as small dots) and the"
    " difference to the base seed by seed. Dashed: medians of the references."
)
PROVENANCE = ("run", "status", "seed", "model", "steps", "device", "hardware", "precision", "corpus", "commit")


def inline_svg(text: str, name: str, alt: str) -> Markup:
    """An SVG file as part of the page: no ids shared with another figure, scaled by the page, methods as classes."""
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\s(?:xmlns(?::xlink)?="[^"]*"|version="[^"]*")', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="method-([^"]+?)--\d+">', r'<g class="m" data-m="\1">', svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = re.match(r"<svg[^>]*>", svg)[0]
    box = re.search(r'viewBox="[^"]*"', opening)[0]
    return Markup(f'<svg {box} role="img" aria-label="{escape(alt)}">{svg[len(opening) :]}')


def sections(results: Results, folder: Path, facts: str) -> list[dict]:
    """The page's sections; the oracle's and the ablations' only where there are some."""
    specs = [*SECTIONS[:1], REGRET, *SECTIONS[1:]] if ORACLE in results.compare else SECTIONS
    found = [{"id": spec[0], "heading": spec[1], "blocks": [block(folder, spec, facts)]} for spec in specs]
    axes = []
    for axis, about in results.axes.items():
        name = f"ablation_{axis}"
        axes.append(block(folder, (name, about["title"], name, (name,), (f"{name}_seeds",), ABLATION), facts))
        axes[-1]["heading"] = about["title"]
    return [*found, {"id": "ablations", "heading": "Ablations", "blocks": axes}] if axes else found


def block(folder: Path, spec: tuple, facts: str) -> dict:
    """A section's or an axis's figure, tables and downloads, from the rendered folder."""
    _, heading, figure, tables, extra, words = spec
    found = {"heading": "", "figure": None, "tables": [], "downloads": []}
    if figure:
        found["figure"] = inline_svg(_read(folder / f"{figure}.svg"), figure, f"{heading}. {words}")
        found["caption"] = f"{words} {facts}"
    found["tables"] = [read_markdown(_read(folder / f"{name}.md")) for name in tables]
    for name in (*tables, *extra):
        data = base64.b64encode(_read(folder / f"{name}.csv").encode()).decode()
        found["downloads"].append((f"{name}.csv", f"data:text/csv;charset=utf-8;base64,{data}"))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "not rendered yet", where=str(path), fix=f"python -m acodm_analysis.render RESULTS {path.parent}"
        ) from None


def facts(results: Results) -> str:
    """The sentence that ends every caption: target, horizon rule, seeds."""
    goal = targets(results).set_index("target").loc["natural", "loss"]
    reach = f"{goal:.4f} nats (perplexity {np.exp(goal):.2f})" if np.isfinite(goal) else "not run"
    seeds = len(results.experiment.get("seeds", []))
    return (
        f"Target: {title(results, baseline(results))}'s median final validation loss, {reach}."
        f" Horizon rule: {results.experiment.get('horizon', 'fixed-horizon')}, {horizon(results)} steps."
        f" n = {seeds} seed{'s' * (seeds != 1)}.{weighting(results)}"
    )


def setup(results: Results) -> list[tuple[str, str]]:
    """The recipe that every run shares: label and value."""
    known = results.experiment
    corpus, code = known.get("corpus", {}), known.get("code", {})
    tokens = int(known["steps"]) * int(known["batch"]) * int(known["context"])
    pairs = [
        ("Model", known.get("model")),
        ("Steps", f"{known['steps']:,}"),
        ("Batch × context", f"{known['batch']} × {known['context']} tokens"),
        ("Training tokens a run", f"{tokens:,}"),
        ("Schedule", known.get("schedule")),
        ("Corpus", f"{corpus.get('name', '')}, {len(results.domains)} domains ({corpus.get('id', '')})"),
        ("Seeds", ", ".join(map(str, known.get("seeds", [])))),
        ("Code", code.get("commit")),
        ("Protocol", known.get("protocol")),
    ]
    return [(label, str(value)) for label, value in pairs if value not in (None, "")]


def page(results: Results, folder: Path) -> str:
    """The whole page."""
    main, pairs = comparison.table(results), paired.table(results)
    runs = results.runs[[column for column in PROVENANCE if column in results.runs.columns]].astype(str)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["cell"] = _cell
    common = facts(results)
    text = environment.get_template("report.html").render(
        name=results.experiment.get("experiment", "experiment"),
        facts=common,
        verdicts=verdicts.verdicts(results, main, pairs),
        notes=verdicts.notes(results, main, repetition.table(results)),
        summary=block(folder, ("summary", "Summary", None, ("comparison",), (), ""), common),
        sections=sections(results, folder, common),
        methods=[(m, title(results, m), c) for m, c in style.colours(results.compare).items()],
        setup=setup(results),
        runs=(list(runs.columns), runs.values.tolist()),
    )
    return text.replace(" %", "\u202f%")  # no line ends between a number and its sign


def _cell(text: str) -> Markup:
    """A cell's interval goes below its value, in smaller type."""
    value, bracket, rest = escape(text).partition(" [")
    return Markup(f"{value}<small>[{rest}</small>" if bracket else value)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m acodm_analysis.report",
        description=__doc__,
        epilog="example: python -m acodm_analysis.report results/quick results/quick/rendered results/quick/report.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder that `collect` wrote, with experiment.json"
    )
    parser.add_argument("rendered", type=Path, metavar="RENDERED", help="folder with the tables and figures")
    parser.add_argument("out", type=Path, metavar="OUT_HTML", help="the page to write")
    arguments = parser.parse_args()
    try:
        text = page(Results(arguments.results), arguments.rendered)
    except UserError as error:
        sys.exit(f"error: {error}")
    with atomic(arguments.out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
