"""Runs of any other trainer, from a file of JSON lines to the tables that every analysis reads: the same rules for all.

Nothing is trained, filled in or guessed: what a file does not say is missing.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from acodm_core import PROTOCOL
from acodm_core.errors import UserError
from acodm_core.files import atomic, write_json
from acodm_core.measure import provenance
from acodm_core.results.external_records import UNSTATED, Header, Told, check, read
from acodm_core.results.reader import Results
from acodm_core.results.schemas import PROBE_COLUMNS, RUN_COLUMNS, TABLES
from acodm_core.results.table_files import write_frame, write_table
from acodm_core.seals import checksums

MOST_ROWS = 10_000_000  # of the table of mixtures, which has one per step and domain: some GB


def score(path: Path, out: Path, beside: Results | None = None) -> None:
    """Write the results folder ``out`` of the runs in ``path``, together with those of ``beside`` where it is given.

    Raises:
        UserError: a line that is none, numbers that contradict each other, or runs that cannot stand beside the others.
    """
    header, told = read(path)
    if (out / "plan.json").exists():
        raise UserError("this folder is a planned experiment's own", where=str(out), fix="--out another folder")
    horizon = header.steps or max(one.steps for one in told.values())
    check(told, horizon, str(path))
    tables = {"metrics": _metrics(told), "mixture": _mixture(told, str(path)), "diagnostics": _empty("diagnostics")}
    runs, probe, about = _runs(header, told), _step_times(told), _about(header, told, horizon)
    if beside is None and header.baseline not in about["compare"]:
        raise UserError(f"no compared run of the baseline {header.baseline!r}", where=str(path))
    if beside is not None:
        _comparable(header, about, beside, str(path))
        tables = {name: pd.concat([getattr(beside, name), frame]) for name, frame in tables.items()}
        runs = pd.concat([beside.runs, runs])
        same = beside.probe["hardware"].isin(probe["hardware"]).all()
        probe = pd.concat([beside.probe, probe]) if same else beside.probe
        about = _joined(about, beside, out)
    for name, frame in tables.items():
        write_table(frame.reset_index(drop=True), name, out / f"{name}.parquet")
    with atomic(out / "runs.parquet") as temporary:
        runs[list(RUN_COLUMNS)].astype({"joules": float}).to_parquet(temporary, index=False)
    write_frame(probe, out / "probe" / "probe.parquet")
    if beside is not None and not beside.memory.empty:
        write_frame(beside.memory, out / "probe" / "memory.parquet")
    files = checksums(out, [f"{name}.parquet" for name in ("runs", *TABLES)])
    write_json(out / "experiment.json", about | {"files": files})


def _metrics(told: dict[str, Told]) -> pd.DataFrame:
    rows = [
        {
            "run": name,
            "step": p.step,
            "tokens": p.tokens,
            "split": p.split,
            "domain": domain,
            "metric": metric,
            "value": v,
        }
        for name, one in told.items()
        for p in one.points
        for metric in ("loss", "bits_per_byte")
        for domain, v in getattr(p, metric).items()
    ]
    return pd.DataFrame(rows, columns=TABLES["metrics"].names)


def _mixture(told: dict[str, Told], where: str) -> pd.DataFrame:
    """A row per step and domain: a point's weights hold for all steps since the point before."""
    spans = []  # run, first and last step, domain, requested, drawn
    for name, one in told.items():
        last = 0
        for point in one.points:
            drawn = point.drawn or point.weights
            if point.step > last:
                spans += [(name, last + 1, point.step, d, point.weights.get(d, drawn[d]), drawn[d]) for d in drawn]
            last = max(last, point.step)
    names = TABLES["mixture"].names
    if not spans:
        return pd.DataFrame(columns=names)
    first, end = np.array([span[1:3] for span in spans]).T
    steps = end - first + 1
    if steps.sum() > MOST_ROWS:
        fix = "leave `weights` and `drawn` out, or write the runs in several files"
        raise UserError(
            f"{steps.sum():,} weights, of every step and domain; at most {MOST_ROWS:,}", where=where, fix=fix
        )
    table = pd.DataFrame(spans, columns=["run", "step", "end", "domain", "requested", "drawn"])
    table = table.loc[np.repeat(table.index, steps), names]
    table["step"] += np.arange(len(table)) - np.repeat(np.cumsum(steps) - steps, steps)  # rows since the span's first
    return table


def _empty(name: str) -> pd.DataFrame:
    return pd.DataFrame(columns=TABLES[name].names)


def _runs(header: Header, told: dict[str, Told]) -> pd.DataFrame:
    rows = []
    for name, one in told.items():
        run = one.run
        rows.append(
            {
                "run": name,
                "method": run.method,
                "title": header.titles.get(run.method, run.method),
                "mixer": run.method,
                "compared": run.compared,
                "role": "target" if run.compared else "stage",
                "model": run.model,
                "seed": run.seed,
                "status": run.status,
                "steps": one.steps,
                "tokens": max((point.tokens for point in one.points), default=0),
                "parameters": run.parameters,
                "parameters_non_embedding": None,
                "model_flops": run.flops,
                "method_flops": run.method_flops if run.flops else None,
                "train_seconds": one.seconds,
                "joules": None,
                "ancestors": json.dumps(list(run.after)),
                "device": UNSTATED,
                "hardware": run.hardware,
                "precision": run.precision,
                "corpus": header.corpus,
                "commit": None,
                "version": None,
            }
        )
    numbers = ("parameters", "parameters_non_embedding", "model_flops", "method_flops", "joules")
    return pd.DataFrame(rows, columns=list(RUN_COLUMNS)).astype(dict.fromkeys(numbers, float))


def _step_times(told: dict[str, Told]) -> pd.DataFrame:
    """Own clocks in the place of a probe: one block per run, without a plain arm to compare with."""
    rows = [
        (one.run.method, one.run.model, block, "method", "step", one.seconds / one.steps, one.run.hardware)
        for block, one in enumerate(told.values())
        if one.steps and not math.isnan(one.seconds)
    ]
    frame = pd.DataFrame(rows, columns=list(PROBE_COLUMNS))
    return frame if frame["hardware"].nunique() < 2 else frame[:0]  # seconds of different machines are not compared


def _about(header: Header, told: dict[str, Told], horizon: int) -> dict[str, Any]:
    tokens, domains = header.train_tokens, list(header.train_tokens)
    weights = (
        [header.objective_weights.get(domain, 0.0) for domain in domains]
        if header.objective_weights
        else [1.0] * len(domains)
    )
    compared = [one.run for one in told.values() if one.run.compared]
    methods = list(dict.fromkeys(run.method for run in compared))
    return {
        "protocol": PROTOCOL,
        "experiment": header.experiment,
        "domains": domains,
        "natural_weights": [n / sum(tokens.values()) for n in tokens.values()],
        "objective_weights": [weight / sum(weights) for weight in weights],
        "compare": methods,
        "axes": {},
        "titles": {method: header.titles.get(method, method) for method in methods},
        "trials": {},
        "baseline": header.baseline,
        "seeds": sorted({run.seed for run in compared}),
        "model": next(run.model for run in compared),
        "steps": horizon,
        "batch": header.batch,
        "context": header.context,
        "schedule": header.schedule,
        "horizon": "fixed-horizon",
        "corpus": {"name": header.corpus, "id": header.corpus, "train_tokens": list(tokens.values())},
        "evaluation": header.evaluation,
        "code": provenance.code(),
        "runs": list(told),
        "scored": methods,
    }


def _comparable(header: Header, about: dict[str, Any], beside: Results, where: str) -> None:
    """Refuse runs that another corpus, evaluation, recipe or name keeps from standing beside those of ``beside``."""
    theirs = beside.experiment
    ours = {"corpus": header.corpus, "domains": sorted(about["domains"]), "evaluation": header.evaluation}
    ours |= {"steps": about["steps"], "tokens per step": header.batch * header.context, "baseline": header.baseline}
    known = {
        "corpus": theirs["corpus"]["id"],
        "domains": sorted(beside.domains),
        "evaluation": theirs.get("evaluation"),
    }
    known |= {"steps": theirs["steps"], "tokens per step": theirs["batch"] * theirs["context"]}
    known |= {"baseline": theirs.get("baseline", "natural")}
    for name, value in ours.items():
        if value != known[name]:
            raise UserError(
                f"{name}: {value}, and {beside.folder} has {known[name]}",
                where=where,
                fix="runs stand in one table only when they share these; without --beside they have tables of their own",
            )
    for name, mine, other in (("method", about["compare"], beside.compare), ("run", about["runs"], theirs["runs"])):
        if both := sorted(set(mine) & set(other)):
            raise UserError(f"a {name} of both: {both[0]!r}", where=where, fix="give it another name in the file")


def _joined(about: dict[str, Any], beside: Results, out: Path) -> dict[str, Any]:
    theirs = beside.experiment
    roots = [beside.folder / root for root in theirs.get("roots", ["../runs"])]
    return theirs | {
        "experiment": about["experiment"],
        "compare": list(dict.fromkeys([*beside.compare, *about["compare"]])),
        "titles": about["titles"] | theirs.get("titles", {}),
        "seeds": sorted({*theirs.get("seeds", []), *about["seeds"]}),
        "runs": [*theirs["runs"], *about["runs"]],
        "roots": [os.path.relpath(root, out) for root in roots],
        "scored": [*theirs.get("scored", []), *about["scored"]],
    }
