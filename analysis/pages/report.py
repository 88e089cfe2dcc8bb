"""One self-contained page: verdicts and the main table first, then every figure and table, then the runs behind them.

It draws nothing and computes nothing but its sentences: figures and tables are the files that the other programs rendered. What
they had no data for says "not run". The page's script only picks: methods to hide, a threshold, a point, the runs of a number.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from acodm_analysis import ablation, comparison, currencies, repetition, steps_to_threshold
from acodm_analysis.core import pairs, style
from acodm_analysis.core.frames import THRESHOLDS, baseline, horizon, thresholds, title, weighting
from acodm_analysis.core.outputs import SECTIONS, SUMMARY, Output, registered
from acodm_analysis.core.tables import number, read_markdown, scientific
from acodm_analysis.pages import verdicts
from acodm_analysis.render import outputs_of
from acodm_core import entry
from acodm_core.errors import UserError
from acodm_core.files import atomic
from acodm_core.results.reader import Results
from acodm_core.seals import verify_mark, was_written

CARDS = "cards.md"
PLAIN_BYTES = 65_536  # a CSV above this is packed: the page stays small
QUIET = {"not run", "never", "failed", "not reported", "none"}


def inline_svg(text: str, name: str, alt: str) -> tuple[Markup, list[dict]]:
    """An SVG file as part of the page, with no id that another figure has, and the points of its lines."""
    svg = text[text.index("<svg") :]
    points = re.search(r'<metadata id="points">(.*?)</metadata>', svg, flags=re.S)
    svg = re.sub(r"<metadata.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\s(?:xmlns(?::xlink)?="[^"]*"|version="[^"]*")', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="part-\d+"', "<g", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)  # 1/7200 inch
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = re.match(r"<svg[^>]*>", svg)[0]
    box = re.search(r'viewBox="[^"]*"', opening)[0]
    inline = Markup(f'<svg {box} role="img" aria-label="{escape(alt)}">{svg[len(opening) :]}')
    return inline, json.loads(unescape(points[1])) if points else []


def sections(results: Results, folder: Path) -> list[dict]:
    """The page's sections in order, each with a block per output; of several experiments' where its files are there."""
    common, found = facts(results), []
    several = [one for one in registered() if one.several and _there(folder, one)]
    known = [*outputs_of(results), *several]
    for heading, absent in SECTIONS.items():
        mine = sorted((one for one in known if one.section == heading), key=lambda one: one.place)
        if heading != SUMMARY and (mine or absent):
            blocks = [block(results, folder, one, common) for one in mine]
            key = heading.lower().replace(" ", "-")
            found.append({"key": key, "heading": heading, "blocks": blocks, "absent": absent})
    return found


def _there(folder: Path, output: Output) -> bool:
    names = [f"{output.figure}.svg"] * bool(output.figure) + [f"{table}.md" for table in output.tables]
    return any(was_written(folder / name) for name in names)


def block(results: Results, folder: Path, output: Output, facts: str) -> dict:
    """An output's figure, tables and downloads."""

    def have(name: str) -> bool:  # of several experiments' outputs some may be left out
        return not output.several or was_written(folder / name)

    found = {"key": output.key, "heading": output.heading, "figure": None, "points": []}
    if output.figure and have(f"{output.figure}.svg"):
        alt = f"{output.heading}. {output.caption}"
        found["figure"], found["points"] = inline_svg(_read(folder / f"{output.figure}.svg"), output.figure, alt)
        found["caption"] = f"{output.caption} {facts}"
    # The first cell of a row tells its method, but on an axis, where it is a value.
    methods = ablation.rows_of(results, output.axis)["method"].tolist() if output.axis else ()
    tables = [name for name in output.tables if have(f"{name}.md")]
    found["tables"] = [grid(results, *read_markdown(_read(folder / f"{name}.md")), methods) for name in tables]
    data = [f"{name}.csv" for name in dict.fromkeys([*tables, *output.data])]
    found["downloads"] = [download(name, _read(folder / name)) for name in data if have(name)]
    return found


def download(name: str, text: str) -> tuple[str, str]:
    """Name and data URI of a file to download."""
    data, kind = text.encode(), "text/csv;charset=utf-8"
    if len(data) > PLAIN_BYTES:
        name, data, kind = f"{name}.gz", gzip.compress(data, mtime=0), "application/gzip"
    return name, f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _read(path: Path) -> str:
    """A rendered file, as it was written."""
    fix = f"python -m acodm_analysis.render RESULTS {path.parent}"
    if path.name == CARDS:
        fix = f"acodm reference methods --out {path}"
    if not path.is_file():
        raise UserError("not rendered yet", where=str(path), fix=fix)
    verify_mark(path, fix=fix)
    return path.read_text(encoding="utf-8")


def grid(
    results: Results, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, methods: Sequence[str] = ()
) -> dict:
    """A table for the page: which method each row or column belongs to, and which threshold a row counts to."""
    known = {title(results, method): method for method in results.compare}
    known_thresholds = {currencies.NAMES[threshold]: threshold for threshold in THRESHOLDS} if header[0] == "To" else {}
    named = 1 if known_thresholds else 0  # the column with the methods' names
    kinds = [{_kind(row[j]) for row in rows} for j in range(len(header))]
    prose = ["prose" if "prose" in column else "" for column in kinds]  # then the whole column is set as text
    found = []
    for i, row in enumerate(rows):
        method = methods[i] if methods else known.get(row[named], "")
        cells = [{"text": _cell(text), "kind": prose[j] or _kind(text)} for j, text in enumerate(row)]
        found.append({"method": method, "threshold": known_thresholds.get(row[0], ""), "cells": cells})
    columns = [{"text": text, "method": known.get(text, ""), "kind": prose[j]} for j, text in enumerate(header)]
    return {"header": columns, "rows": found, "caption": caption, "named": named}


def _cell(text: str) -> Markup:
    """A cell's interval goes below its value, in smaller type."""
    value, bracket, rest = escape(text).partition(" [")
    return Markup(f"{value}<small>[{rest}</small>" if bracket else value)


def _kind(text: str) -> str:
    """How a cell is set: "quiet" for what is no number, "words" for what may be broken into lines, "prose" for sentences."""
    if text in QUIET:
        return "quiet"
    plain = "[" not in text and " " in text
    return "prose" if plain and len(text) > 28 else "words" if plain and len(text) > 11 else ""


def main_table(results: Results, mains: dict[str, pd.DataFrame]) -> dict:
    """The main table: a cell that depends on the threshold holds one value a threshold (``mains``), the default's seen first."""
    shown = {threshold: comparison.shown(main, horizon(results)) for threshold, main in mains.items()}
    # The verdicts stand above the table in words.
    shown = {threshold: cells.drop(columns=comparison.VERDICTS) for threshold, cells in shown.items()}
    first = shown[style.DEFAULT_THRESHOLD]
    table = grid(results, list(first.columns), first.values.tolist(), comparison.caption(results))
    for i, row in enumerate(table["rows"]):
        for j, cell in enumerate(row["cells"]):
            texts = {threshold: str(one.iat[i, j]) for threshold, one in shown.items()}
            if len(set(texts.values())) > 1:
                cell["text"] = Markup().join(_variant(threshold, _cell(text)) for threshold, text in texts.items())
    captions = {threshold: Markup(escape(comparison.caption(results, threshold))) for threshold in shown}
    table["caption"] = Markup().join(_variant(threshold, text) for threshold, text in captions.items())
    return table


def _variant(threshold: str, text: Markup) -> Markup:
    hidden = "" if threshold == style.DEFAULT_THRESHOLD else " hidden"
    return Markup(f'<span data-threshold="{threshold}"{hidden}>{text}</span>')


def choices(results: Results) -> list[dict]:
    """The thresholds that a reader may choose between."""
    found = []
    for row in thresholds(results).itertuples():
        if np.isfinite(row.loss):
            who = title(results, row.method)
            name = steps_to_threshold.NAMES[row.threshold].capitalize()
            found.append({"key": row.threshold, "name": name, "about": f"{who}, {row.loss:.4f} nats"})
    return found


def facts(results: Results) -> str:
    """The sentence that ends every caption: threshold, horizon rule, seeds."""
    loss = thresholds(results).set_index("threshold").loc["natural", "loss"]
    reach = f"{loss:.4f} nats (perplexity {np.exp(loss):.2f})" if np.isfinite(loss) else "not run"
    seeds = len(results.experiment.get("seeds", []))
    return (
        f"Threshold: {title(results, baseline(results))}'s median final validation loss, {reach}."
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
        ("Training tokens per run", f"{tokens:,}"),
        ("Schedule", known.get("schedule")),
        ("Corpus", f"{corpus.get('name', '')}, {len(results.domains)} domains ({corpus.get('id', '')})"),
        ("Seeds", ", ".join(map(str, known.get("seeds", [])))),
        ("Code", code.get("commit")),
        ("Protocol", known.get("protocol")),
    ]
    return [(label, str(value)) for label, value in pairs if value not in (None, "")]


def runs(results: Results, at: Path) -> list[dict]:
    """Every run as the page tells it; ``at`` is the page's folder, from which its links lead to files that are there."""
    found = []
    for run in results.runs.to_dict("records"):
        manifest = results.manifest(run["run"]) or {}
        code = manifest.get("code", {})
        packages = manifest.get("environment", {}).get("packages", {})
        lines = [
            ("Mixer", run["mixer"]),
            ("Model", f"{run['model']} ({run['role']}), {number(run['parameters'], 0)} parameters"),
            ("Trained", f"{run['steps']:,} steps, {run['tokens']:,} tokens"),
            (
                "FLOPs",
                f"{scientific(run['model_flops'])} of the model, {scientific(run['method_flops'])} of the method",
            ),
            ("Own clock", f"{number(run['train_seconds'], 0)} s"),
            ("Hardware", f"{run['device']}: {run['hardware']}, {run['precision']}"),
            ("Corpus", run["corpus"]),
            ("Commit", f"{run['commit']}{' with changes' if code.get('modified') else ''}"),
            ("Packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ]
        folder = results.run_folder(run["run"]).resolve()  # PROJECT/results/runs/RUN, and PROJECT/logs beside results
        files = [folder / name for name in ("spec.json", "manifest.json")]
        files.append(folder.parents[2] / "logs" / "train" / f"{run['run']}.log")
        found.append(
            {
                "run": run["run"],
                "method": run["method"],
                "title": title(results, run["method"]),
                "status": str(run["status"]).replace("_", " "),
                "seed": run["seed"],
                "commit": str(run["commit"])[:10],
                "lines": [(label, value) for label, value in lines if value],
                "ancestors": json.loads(run["ancestors"] or "[]"),
                "files": [
                    (str(path.relative_to(folder.parents[2])), os.path.relpath(path, at) if path.exists() else "")
                    for path in files
                ],
                "spec": json.dumps(manifest["spec"], indent=1) if "spec" in manifest else "",
            }
        )
    return found


def behind(found: Sequence[dict]) -> dict[str, list[str]]:
    """Method -> its runs, then those they depend on."""
    names = {run["run"] for run in found}
    groups: dict[str, dict[str, None]] = {}
    for run in found:
        groups.setdefault(run["method"], {})[run["run"]] = None
    for run in found:
        groups[run["method"]] |= dict.fromkeys(name for name in run["ancestors"] if name in names)
    return {method: list(group) for method, group in groups.items()}


def cards(results: Results, folder: Path) -> list[dict]:
    """The card of each mixer in these results, from ``cards.md``: its methods' titles and its paragraphs."""
    path = folder / CARDS
    text = _read(path) if was_written(path) else ""
    written = dict(re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", text, flags=re.S | re.M))
    found = []
    for mixer, group in results.runs.groupby("mixer", sort=False):
        titles = [title(results, method) for method in group["method"].unique()]
        paragraphs = [_inline(paragraph) for paragraph in written.get(mixer, "").strip().split("\n\n") if paragraph]
        found.append({"mixer": mixer, "titles": titles, "paragraphs": paragraphs})
    return found if text else []


def _inline(text: str) -> Markup:
    """A paragraph of a card: bold and code are all the Markdown it has."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip(), quote=False))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text))


def page(results: Results, folder: Path, at: Path | None = None) -> str:
    """The whole page; ``at`` is the folder it will lie in (default: the results' own)."""
    parts, known = sections(results, folder), runs(results, (at or results.folder).resolve())
    chosen = choices(results)
    keys = dict.fromkeys([style.DEFAULT_THRESHOLD, *(one["key"] for one in chosen)])
    mains = {key: comparison.table(results, key) for key in keys}
    main = mains[style.DEFAULT_THRESHOLD]
    methods = [{"key": m, "title": title(results, m), "colour": c} for m, c in style.colours(results.compare).items()]
    points = {one["key"]: one["points"] for part in parts for one in part["blocks"] if one["points"]}
    data: dict[str, Any] = {"points": points, "behind": behind(known)}
    data["titles"] = {run["method"]: run["title"] for run in known} | {m["key"]: m["title"] for m in methods}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html").render(
        name=results.experiment.get("experiment", "experiment"),
        facts=facts(results),
        verdicts=verdicts.verdicts(results, main, pairs.tables(results)),
        notes=verdicts.notes(results, main, repetition.table(results)),
        main=main_table(results, mains),
        main_file=download("comparison.csv", _read(folder / "comparison.csv")),
        sections=parts,
        methods=methods,
        thresholds=chosen,
        default_threshold=style.DEFAULT_THRESHOLD,
        cards=cards(results, folder),
        setup=setup(results),
        runs=known,
        known={run["run"] for run in known},
        # "<" may not stand in a script element
        data=Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
    )
    return text.replace(" %", "\u202f%")  # no line ends between a number and its sign


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m acodm_analysis.pages.report",
        description=__doc__,
        epilog="example: python -m acodm_analysis.pages.report results/quick results/quick/rendered results/quick/report.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder that `collect` wrote, with experiment.json"
    )
    parser.add_argument("rendered", type=Path, metavar="RENDERED", help="folder with the tables and figures")
    parser.add_argument("out", type=Path, metavar="OUT_HTML", help="the page to write")
    arguments = parser.parse_args()

    def body() -> None:
        text = page(Results(arguments.results), arguments.rendered, arguments.out.parent)
        with atomic(arguments.out) as temporary:
            temporary.write_text(text, encoding="utf-8")

    entry.run("error", body)


if __name__ == "__main__":
    main()
