"""The AC-ODM paper's own tables, row by row: what it prints, and beside it what these results give at the scale that was run.

Rows and columns are the paper's. Each method here that stands for a row has a line of its own (claims.yaml says which); a cell
that was not run says so. Domains here are not the Pile's, so the table by domain is two: the published block and ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from acodm_analysis.core.evaluated import accuracy, scores
from acodm_analysis.core.frames import horizon, runs_of, strongest_cheap, title, weighting
from acodm_analysis.core.measured import Measured
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import interval_name
from acodm_analysis.core.tables import NOT_RUN, amount, between, number, program, steps_cell, write_table
from acodm_analysis.paper import domains
from acodm_analysis.paper.measures import (
    agent_size,
    fewer_steps,
    final_perplexity,
    lower_perplexity,
    scale,
    speedup,
    step_time,
    steps_to,
)
from acodm_analysis.paper.published import Table, published
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="The paper",
    place=10,
    heading="The paper's tables",
    tables=(
        "paper_downstream",
        "paper_cost",
        "paper_domains_published",
        "paper_domains",
        "paper_granularity",
        "paper_llama",
        "paper_proxy",
    ),
    caption="The AC-ODM paper's tables: each published value, and beside it what was measured here.",
)

NOT_RECOVERED = "not known"  # a published figure that we could not recover
NO_ROW = "none: strongest cheap baseline here"  # of the paper
REFERENCE = "odm"  # whose final perplexity the paper counts steps to
DOWNSTREAM = {  # column -> heading, task, shots, metric
    "mmlu_0": ("MMLU 0-shot", "mmlu", 0, "accuracy"),
    "mmlu_5": ("MMLU 5-shot", "mmlu", 5, "accuracy"),
    "humaneval": ("HumanEval pass@1", "humaneval", 0, "pass@1"),
}


def lines(results: Results, table: Table) -> list[tuple[str, str]]:
    """(row of the paper, method here) in the paper's order, then the strongest cheap baseline; "" where no run stands for the row,
    and where no row of the paper stands for the method."""
    known = published()
    found = [(row, method) for row in table.rows for method in known.stand_ins(results, row) or {"": ""}]
    cheap = strongest_cheap(results)
    return found if cheap in {"", *(method for _, method in found)} else [*found, ("", cheap)]


def beside(
    results: Results, table: Table, columns: dict[str, tuple[str, Callable[[str], Measured], Callable[[float], str]]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numbers and cells of a table with, for each column, the published value and the one measured here.

    ``columns``: name -> heading, the measurement of a method, and how a number is written.
    """
    known, numbers, cells, seen = published(), [], [], set()
    for row, method in lines(results, table):
        said, name_of_row = (table.rows[row], known.row(row)) if row else ({}, NO_ROW)
        number_row = {"row": name_of_row, "method": method}
        cell_row = {"Paper's row": "" if row in seen else name_of_row}
        cell_row["Here"] = title(results, method) if method else NOT_RUN
        for name, (heading, measure, text) in columns.items():
            value = said.get(name, math.nan)
            found = measure(method) if method else Measured()
            number_row |= {
                f"{name}_published": value,
                name: found.value,
                f"{name}_low": found.low,
                f"{name}_high": found.high,
            }
            number_row |= {f"{name}_n": found.n}
            nothing = NOT_RECOVERED if row else ""
            cell_row[f"{heading}, published"] = "" if row in seen else text(value) if value == value else nothing
            cell_row[heading] = (
                NOT_RUN if math.isnan(found.value) else between(*map(text, (found.value, found.low, found.high)))
            )
        seen.add(row)
        numbers.append(number_row)
        cells.append(cell_row)
    return pd.DataFrame(numbers), pd.DataFrame(cells)


def here(results: Results, numbers: str = "") -> str:
    """The scale that was run, and what the ``numbers`` are (default: medians over seeds), in a sentence."""
    if not len(runs_of(results)):
        return "Here: not run."
    one, seeds = scale(results, runs_of(results)["method"].iloc[0]), len(results.experiment.get("seeds", []))
    model = f"{one['model']} ({amount(one['parameters'])} parameters), {horizon(results):,} steps"
    data = (
        f"{amount(one['tokens'])} tokens, corpus {one['corpus']} with {len(results.domains)} domains, {one['hardware']}"
    )
    numbers = numbers or f"medians over {seeds} seeds, in brackets the {interval_name(seeds)}"
    return f"Here: {model}, {data}; {numbers}.{weighting(results)}"


def about(results: Results, table: Table, numbers: str = "") -> str:
    """Where the published figures are from, and what stands beside them."""
    return f"Published: {table.setting} ({table.source}). {here(results, numbers)}"


def downstream_table(results: Results) -> tuple:
    table = published().tables["downstream"]

    def score(*of: object) -> Callable[[str], Measured]:
        return lambda method: _share(accuracy(results, method, *of))

    columns = {
        name: (heading, score(task, shots, metric), lambda value: number(value, 3))
        for name, (heading, task, shots, metric) in DOWNSTREAM.items()
    }
    numbers, cells = beside(results, table, columns)
    for name, (heading, *of) in DOWNSTREAM.items():
        for i, row in numbers.iterrows():
            chance = scores(results, row["method"], *of)["chance"].mean()
            if row[f"{name}_low"] <= chance <= row[f"{name}_high"]:
                cells.loc[i, heading] += ", not distinguishable from chance"
    caption = (
        "Downstream scores, as shares. In which unit the paper gives HumanEval is not stated: as shares they are beyond every"
        " public model of this size, as percent under two problems of 164. A score whose interval holds the level of chance says"
        f" so. {about(results, table, 'means over seeds, in brackets the 95 % interval over questions and seeds')}"
    )
    return "paper_downstream", numbers, cells, caption


def _share(percent: Measured) -> Measured:
    return Measured(percent.value / 100, percent.low / 100, percent.high / 100, percent.n, percent.unit, percent.why)


def to_reference(results: Results, currency: str) -> dict:
    """The columns that count against ODM: its own row is its whole run, by the paper's definition."""
    reference = next(iter(published().stand_ins(results, REFERENCE)), "")

    def against(measure: Callable, own: float, *more: str) -> Callable[[str], Measured]:
        def found(method: str) -> Measured:
            if method == reference:
                return Measured(own, own, own)
            return measure(results, method, reference, *more) if reference else Measured()

        return found

    steps = against(steps_to, float(horizon(results)))
    return {
        "steps": ("Steps to ODM's final perplexity", steps, lambda value: steps_cell(value, horizon(results))),
        "speedup": (
            "End-to-end speed-up (×)",
            against(speedup, 1.0, currency),
            lambda value: "never" if value == -math.inf else number(value, 2),
        ),
    }


def cost_table(results: Results) -> tuple:
    def parameters(method: str) -> Measured:
        found = agent_size(results, method)
        return Measured(
            *(1e6 * value for value in (found.value, found.low, found.high)), found.n, found.unit, found.why
        )

    table = published().tables["cost"]
    columns = {
        "agent_parameters": ("Agent parameters", parameters, amount),
        "step_seconds": ("Seconds a step", lambda method: step_time(results, method), lambda value: number(value, 3)),
    }
    numbers, cells = beside(results, table, columns | to_reference(results, "seconds"))
    caption = (
        "Cost. The speed-up is ODM's whole run over what the method spends to reach ODM's final perplexity, in seconds, every run"
        " it depends on charged; seconds here are from the probe. Perplexity is the mean over domains of their perplexities, and"
        " intervals of steps take ODM's as known. An agent is actor, critic and their copies."
        f" {about(results, table)}"
    )
    return "paper_cost", numbers, cells, caption


def domains_published(results: Results) -> tuple:
    """The published block: what could be read off the paper's bars."""
    table, known = published().tables["domains"], published()
    names = [*dict.fromkeys(name for row in table.rows.values() for name in row if name != "others")]
    cells = [
        {"Domain of the Pile": domain}
        | {known.row(name): row.get(name, NOT_RECOVERED) for name in names}
        | {"Range of the others": row.get("others", "")}
        for domain, row in table.rows.items()
    ]
    caption = (
        f"Published test perplexity by domain, as far as it could be read off. {table.setting} ({table.source}). Domains here are"
        " others: their table is the next."
    )
    frame = pd.DataFrame(cells)
    return "paper_domains_published", frame, frame, caption


def domains_here(results: Results) -> tuple:
    """Our block: our domains, the methods that stand for the paper's."""
    frame = domains.table(results)
    wide = frame.pivot_table(index="domain", columns="title", values="perplexity", sort=False, dropna=False)
    cells = wide.map(lambda value: number(value, 2)).reset_index().rename(columns={"domain": "Domain here"})
    caption = (
        "Test perplexity by domain, here: medians over seeds. The mean is that of the domains' perplexities, as the paper counts;"
        f" the last row is exp of the mean loss, by which this benchmark compares. {here(results)}"
    )
    return "paper_domains", frame, cells, caption


def granularity_table(results: Results) -> tuple:
    table, known = published().tables["granularity"], published()
    whole = next(iter(known.stand_ins(results, "all_domains")), "")

    def change(method: str) -> Measured:
        if method == whole:
            return Measured(0.0, 0.0, 0.0)
        found = lower_perplexity(results, method, whole)
        return Measured(-found.value, -found.high, -found.low, found.n)

    columns = {
        "perplexity": (
            "Mean validation perplexity",
            lambda method: final_perplexity(results, method),
            lambda value: number(value, 2),
        ),
        "change": ("Above all domains (%)", change, lambda value: number(value, 1, signed=True)),
    }
    numbers, cells = beside(results, table, columns)
    cells.insert(
        0,
        "Domains, published",
        [f"{table.rows[row]['domains']:g}" if row else NO_ROW for row, _ in lines(results, table)],
    )
    cells = cells.drop(columns=["Paper's row", "Above all domains (%), published"])
    caption = (
        "Granularity: AC-ODM with the domains as they are, merged by two and by four. The paper says that merging hurts; of its"
        f" perplexities only the first could be recovered, and it equals the Pile weights'. {about(results, table)}"
    )
    return "paper_granularity", numbers, cells, caption


def llama_table(results: Results) -> tuple:
    table, known = published().tables["llama"], published()
    base = next(iter(known.stand_ins(results, "natural")), "")
    is_llama = "llama" in str(results.experiment.get("model", ""))

    def fewer(method: str) -> Measured:
        return fewer_steps(results, method, base) if base and is_llama else Measured()

    columns = {"fewer_steps": ("Fewer steps than the Pile weights (%)", fewer, lambda value: number(value, 1))}
    numbers, cells = beside(results, table, columns)
    shape = "" if is_llama else " The model of this experiment is no Llama: roles: {target: cpu-mini-llama} makes one."
    caption = f"A Llama-shaped model: steps to the Pile weights' final perplexity.{shape} {about(results, table)}"
    return "paper_llama", numbers, cells, caption


def proxy_table(results: Results) -> tuple:
    table = published().tables["proxy"]
    numbers, cells = beside(results, table, to_reference(results, "flops"))
    caption = (
        "Sizes of the proxy that the actor was learned on (here: the axis proxy_size, with the speed-up in FLOPs: values of an axis"
        f" are not timed). {about(results, table)}"
    )
    return "paper_proxy", numbers, cells, caption


TABLES = (
    downstream_table,
    cost_table,
    domains_published,
    domains_here,
    granularity_table,
    llama_table,
    proxy_table,
)


def render(results: Results, out: Path) -> None:
    for make in TABLES:
        name, numbers, cells, caption = make(results)
        write_table(numbers, cells, name, out, caption)


if __name__ == "__main__":
    program("paper.published_tables", __doc__, render)
