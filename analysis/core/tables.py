"""How a table leaves the analysis: numbers in CSV, the same rows formatted in Markdown and LaTeX (booktabs)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from acodm_analysis.core.seed_statistics import enough
from acodm_core import entry
from acodm_core.results.reader import Results
from acodm_core.seals import marked

NOT_RUN = "not run"
FAILED = "failed"
SENTENCE = 40  # letters from which on a cell is text to wrap

_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_TEX |= {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}", ">": r"$>$", "<": r"$<$", "×": r"$\times$"}
_TEX |= {
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "∞": r"$\infty$",
    "±": r"$\pm$",
    "√": r"$\surd$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "\u202f": r"\,",
}


def number(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A number with a true minus sign; "not run" for NaN, "failed" for inf."""
    if value is None or math.isnan(value):
        return NOT_RUN
    if math.isinf(value):
        return FAILED
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−").replace(",", "\u202f")


def scientific(value: float) -> str:
    """Three digits and a power of ten, as 1.23e15."""
    if not math.isfinite(value) or value == 0:
        return number(value, 0)
    return f"{value:.2e}".replace("e+", "e").replace("e0", "e")


def amount(value: float) -> str:
    """A count in three digits: 921k, 1.08M, 49.2B; "unstated" for NaN."""
    if math.isnan(value):
        return "unstated"
    for size_, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size_:
            return f"{value / size_:.3g}{letter}"
    return f"{value:.0f}"


def mid_sentence(sentence: str) -> str:
    """A sentence as it goes on after a colon; names keep their letters."""
    rest = sentence.split()[0][1:]
    return sentence[0].lower() + sentence[1:] if rest == rest.lower() else sentence


def between(middle: str, low: str, high: str) -> str:
    """A cell with its interval: ``3.412 [3.401, 3.423]``; without one where nothing was measured."""
    return middle if middle == NOT_RUN or low == high == middle else f"{middle} [{low}, {high}]"


def with_interval(row: pd.Series, name: str, digits: int = 3, *, signed: bool = False) -> str:
    """The cell of column ``name`` with ``name_low`` and ``name_high``."""
    return between(*(number(row[key], digits, signed=signed) for key in (name, f"{name}_low", f"{name}_high")))


def few(n: int, text: str) -> str:
    """What a judgement's cell says: ``text``, or that ``n`` seeds carry none."""
    return text if enough(n) else f"n = {n}" if n else NOT_RUN


def at_least(text: str, bound: bool) -> str:
    """A number that is a lower bound, with its sign; words such as "never" have none."""
    return f"≥{text}" if bound and text.lstrip("−+")[:1].isdigit() else text


def times(value: float) -> str:
    """A speed-up; "never" where the threshold was not reached."""
    return "never" if value == -math.inf else number(value, 2)


def steps_cell(value: float, horizon: int) -> str:
    """Steps to a threshold; censored is ``>N``, never dropped."""
    return NOT_RUN if math.isnan(value) else f">{horizon}" if math.isinf(value) else f"{value:.0f}"


def seeds_cell(row: pd.Series) -> str:
    """How many seeds, and how they ended where one did not finish."""
    return str(row["n"]) if row["statuses"] == f"{row['n']} finished" else row["statuses"]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Ten significant digits: enough to redraw a figure, few enough to be the same bytes on every machine."""
    with marked(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")


def markdown(shown: pd.DataFrame, caption: str) -> str:
    """A GitHub table, numbers to the right, the caption below it."""
    rows = [list(shown.columns), *shown.astype(str).values.tolist()]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]]) + f"\n\n{caption}\n"


def read_markdown(text: str) -> tuple[list[str], list[list[str]], str]:
    """What ``markdown`` wrote: header, rows, caption."""
    table, _, caption = text.partition("\n\n")
    split = [line.strip().strip("|").replace("\\|", "\0").split("|") for line in table.splitlines()]
    cells = [[cell.strip().replace("\0", "|") for cell in row] for row in split]
    return cells[0], cells[2:], caption.strip()


def escape(text: object) -> str:
    """Text as LaTeX takes it."""
    return "".join(_TEX.get(letter, letter) for letter in str(text))


def column_types(shown: pd.DataFrame) -> str:
    """A tabular's columns: the first to the left, numbers to the right, sentences in paragraphs that share the line."""
    longest = [max([0, *map(len, shown.iloc[:, i].astype(str))]) for i in range(shown.shape[1])]
    sentences = [math.sqrt(length) if length > SENTENCE else 0.0 for length in longest]
    room = 0.95 - 0.06 * sentences.count(0.0)
    return "".join(
        rf"p{{{room * share / sum(sentences):.2f}\linewidth}}" if share else "r" if i else "l"
        for i, share in enumerate(sentences)
    )


def latex(shown: pd.DataFrame, caption: str) -> str:
    """A booktabs ``tabular`` with its caption, ready for ``\\input``."""
    body = [" & ".join(map(escape, row)) + r" \\" for row in shown.values.tolist()]
    head = " & ".join(map(escape, shown.columns)) + r" \\"
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{column_types(shown)}}}", r"\toprule", head, r"\midrule", *body]
    if shown.shape[1] > 7:
        lines.insert(2, r"\footnotesize\setlength{\tabcolsep}{3pt}")  # wide tables still want a landscape page
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def write_table(frame: pd.DataFrame, shown: pd.DataFrame, name: str, out: Path, caption: str) -> None:
    """``NAME.csv`` (numbers), ``NAME.md`` and ``NAME.tex`` (cells)."""
    write_csv(frame, out / f"{name}.csv")
    for suffix, text in ((".md", markdown(shown, caption)), (".tex", latex(shown, caption))):
        with marked(out / f"{name}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")


def program(
    name: str, about: str | None, render: Callable[[Results, Path], None], printer: Callable | None = None
) -> None:
    """The command line of every output: ``python -m acodm_analysis.NAME RESULTS OUT``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m acodm_analysis.{name}",
        description=about,
        epilog=f"example: python -m acodm_analysis.{name} results/quick results/quick/rendered",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, metavar="RESULTS", help="folder that `collect` wrote, with experiment.json"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the files; made when it is missing")
    if printer:
        parser.add_argument("--print", action="store_true", help="also print the table to the terminal")
    arguments = parser.parse_args()

    def body() -> None:
        results = Results(arguments.results)
        render(results, arguments.out)
        if printer and arguments.print:
            printer(results)

    entry.run("error", body)
