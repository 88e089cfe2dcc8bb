"""What a paper takes from an experiment: booktabs tables, vector figures, the protocol in words with its numbers, and BibTeX.

Everything comes from the outputs that the report shows; nothing is measured here and no LaTeX is run.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import textwrap
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from acodm_analysis.core import style
from acodm_analysis.core.evaluated import downstream
from acodm_analysis.core.frames import baseline, horizon, losses, mean_name, runs_of, thresholds, title, weighting
from acodm_analysis.core.outputs import PAPER, Output
from acodm_analysis.core.seed_statistics import interval_name
from acodm_analysis.core.tables import NOT_RUN, amount, column_types, escape, program, read_markdown
from acodm_analysis.render import outputs_of, render
from acodm_core.errors import UserError
from acodm_core.files import atomic, read_json
from acodm_core.results.reader import Results

HERE = Path(__file__).parent
LONG, WIDE = 30, 7  # rows from which a table breaks over pages, columns from which it lies on its side
HEADING = 16  # letters in a line of a column's name
STUDIED = "acodm2026"  # whose tables and figures stand among the exported ones
PREAMBLE = r"\usepackage{booktabs,graphicx,longtable,pdflscape,rotating}"


def table_tex(shown: pd.DataFrame, caption: str, name: str) -> str:
    """A booktabs table with caption and label ``tab:NAME``: in the text, on its side where wide, over pages where long."""
    columns = column_types(shown)
    wide = shown.shape[1] > WIDE or "p{" in columns
    head = " & ".join(map(_heading, shown.columns)) + r" \\"
    body = [" & ".join(map(escape, row)) + r" \\" for row in shown.values.tolist()]
    title_ = rf"\caption{{{escape(caption)}}}\label{{tab:{name.replace('_', '-')}}}"
    small = r"\footnotesize\setlength{\tabcolsep}{3pt}" if wide else r"\small"
    if len(shown) > LONG:
        lines = [r"\begin{landscape}", small, rf"\begin{{longtable}}{{{columns}}}", title_ + r" \\", r"\toprule", head]
        lines += [r"\midrule", r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", r"\end{landscape}"]) + "\n"
    kind = "sidewaystable" if wide else "table"
    lines = [rf"\begin{{{kind}}}", r"\centering", small, title_, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head]
    return "\n".join([*lines, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", rf"\end{{{kind}}}"]) + "\n"


def _heading(name: str) -> str:
    """A column's name, over lines where it is long."""
    lines = [escape(line) for line in textwrap.wrap(name, HEADING)]
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}" if len(lines) > 1 else "".join(lines)


@lru_cache(maxsize=1)
def references() -> dict[str, str]:
    """references.bib: key -> entry.

    Raises:
        UserError: two entries of one key.
    """
    found: dict[str, str] = {}
    for entry in (HERE / "references.bib").read_text(encoding="utf-8").strip().split("\n\n"):
        key = re.match(r"@\w+\{([^,\s]+),", entry)[1]
        if key in found:
            raise UserError(f"two entries {key!r}", where="references.bib")
        found[key] = entry
    return found


def _of(entry: str, field: str) -> list[str]:
    """The names in a field of an entry that says what of this benchmark it belongs to."""
    found = re.search(rf"^\s*{field} = \{{(.*)\}},$", entry, re.M)
    return [name.strip() for name in found[1].split(",")] if found else []


def cites(mixers: list[str]) -> list[str]:
    """The keys of the papers of these mixers, in their order."""
    of = {mixer: key for key, entry in references().items() for mixer in _of(entry, "mixers")}
    return [*dict.fromkeys(of[mixer] for mixer in mixers if mixer in of)]


def mixers_of(results: Results, method: str) -> list[str]:
    """The mixers behind a method: its runs' and those of the runs that they depend on."""
    known, runs = results.runs.set_index("run")["mixer"], runs_of(results, [method])
    names = [*runs["run"], *(one for text in runs["ancestors"] for one in json.loads(text or "[]"))]
    return [*dict.fromkeys(known[name] for name in names if name in known.index)]


def bibliography(results: Results) -> str:
    """BibTeX of the paper studied, every method compared and every task evaluated, without the fields that are this benchmark's."""
    keys = [STUDIED, *cites([mixer for method in results.compare for mixer in mixers_of(results, method)])]
    tasks = set(downstream(results)["task"])
    keys += [key for key, entry in references().items() if tasks & set(_of(entry, "tasks"))]
    entries = [re.sub(r"^\s*(mixers|tasks) = .*\n", "", references()[key], flags=re.M) for key in dict.fromkeys(keys)]
    return "\n\n".join(entries) + "\n" * bool(entries)


def protocol(results: Results) -> str:
    """The protocol in words, as LaTeX, with this experiment's numbers."""
    known, runs = results.experiment, runs_of(results)
    plan_path = results.folder / "plan.json"
    plan = read_json(plan_path) if plan_path.exists() else {}
    steps = np.unique(losses(results, "valid")["step"]) if len(runs) else np.array([])
    loss = thresholds(results).set_index("threshold").loc["natural", "loss"]
    corpus, code = known.get("corpus", {}), known.get("code", {})
    values = {
        "model": known.get("model", ""),
        "parameters": amount(runs["parameters"].median()) if len(runs) else "",
        "non_embedding": amount(runs["parameters_non_embedding"].median()) if len(runs) else "",
        "steps": f"{horizon(results):,}",
        "batch": known["batch"],
        "context": known["context"],
        "tokens": amount(horizon(results) * known["batch"] * known["context"]),
        "schedule": known.get("schedule", "unstated"),
        "training": plan.get("training"),
        "precision": _words(runs["precision"]),
        "hardware": _words(runs["hardware"]),
        "seeds": ", ".join(map(str, known.get("seeds", []))),
        "seed_count": len(known.get("seeds", [])),
        "corpus": corpus.get("id", corpus.get("name", "")),
        "domains": results.domains,
        "train_tokens": amount(sum(corpus.get("train_tokens", [0]))),
        "methods": [{"title": title(results, name), "cite": _cite(results, name)} for name in results.compare],
        "evaluations": len(steps) - 1 if len(steps) > 1 else 0,
        "every": int(np.diff(steps).max()) if len(steps) > 1 else 0,
        "mean": f"{mean_name(results)} of the loss",
        "weighting": weighting(results),
        "baseline": title(results, baseline(results)),
        "threshold": f"{loss:.4f} nats (perplexity {np.exp(loss):.2f})" if np.isfinite(loss) else NOT_RUN,
        "horizon": known.get("horizon", "fixed-horizon"),
        "interval": interval_name(len(known.get("seeds", []))),
        "protocol": known["protocol"],
        "version": code.get("version", "unknown"),
        "commit": str(code.get("commit", "unknown"))[:12],
    }
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True,
        block_start_string="<%", block_end_string="%>", variable_start_string="<<", variable_end_string=">>",
        finalize=lambda value: value if isinstance(value, _Tex) else escape(value),
    )  # fmt: skip
    return environment.get_template("protocol.tex").render(values)


class _Tex(str):
    """Text that is LaTeX already."""


def _cite(results: Results, method: str) -> _Tex:
    keys = cites(mixers_of(results, method))
    return _Tex(rf"~\cite{{{','.join(keys)}}}" if keys else "")


def _words(values: pd.Series) -> str:
    return ", ".join(sorted(map(str, values.dropna().unique())))


def render_export(results: Results, out: Path) -> None:
    """Fill ``out``: tables/, figures/, protocol.tex, references.bib and a README that says how to take them in."""
    outputs = [one for folder in ("", PAPER) for one in outputs_of(results, folder)]
    with tempfile.TemporaryDirectory() as scratch, style.only("pdf"):
        rendered = Path(scratch)
        for folder in ("", PAPER):
            render(results, rendered, folder)
        for one in outputs:
            for name in one.tables:
                header, rows, caption = read_markdown((rendered / f"{name}.md").read_text(encoding="utf-8"))
                _write(out / "tables" / f"{name}.tex", table_tex(pd.DataFrame(rows, columns=header), caption, name))
                _copy(rendered / f"{name}.csv", out / "tables")
            if one.figure:
                _copy(rendered / f"{one.figure}.pdf", out / "figures")
            for name in one.data:
                _copy(rendered / f"{name}.csv", out / "figures")
    _write(out / "protocol.tex", protocol(results))
    _write(out / "references.bib", bibliography(results))
    _write(out / "README.md", _readme(results, outputs))


def _readme(results: Results, outputs: list[Output]) -> str:
    tables = [f"- {name}: {one.heading}" for one in outputs for name in one.tables]
    figures = [f"- {one.figure}: {one.heading}. {one.caption}" for one in outputs if one.figure]
    lines = [f"# {results.experiment['experiment']}: what a paper takes", ""]
    lines += ["In the preamble:", "", "```latex", PREAMBLE, "```", ""]
    lines += [
        "`\\input{protocol}` is the protocol in words, with this experiment's numbers; it cites `references.bib`.",
        "",
    ]
    lines += ["Tables (`\\input{tables/NAME}`, numbers in `tables/NAME.csv`):", "", *tables, ""]
    lines += ["Figures (`\\includegraphics{figures/NAME}`, numbers in the CSV files beside them):", "", *figures]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _copy(path: Path, folder: Path) -> None:
    with atomic(folder / path.name) as temporary:
        shutil.copyfile(path, temporary)


if __name__ == "__main__":
    program("export", __doc__, render_export)
