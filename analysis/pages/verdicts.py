"""What the numbers say in plain words, and what a reader must keep in mind: sentences made from the tables, no more.

With fewer than five seeds nothing is called better; a difference that the test does not find is "not distinguishable".
"""

from __future__ import annotations

import math

import pandas as pd

from acodm_analysis.core import pairs
from acodm_analysis.core.frames import baseline, held_against, horizon, runs_of, thresholds, title
from acodm_analysis.core.seed_statistics import MIN_SEEDS, enough
from acodm_analysis.core.tables import NOT_RUN, number
from acodm_analysis.repetition import EPOCHS_FLAG
from acodm_core.results.reader import Results, disagreements

NAMED = 3  # methods of one note; the rest is counted


def verdicts(results: Results, main: pd.DataFrame, tested: pd.DataFrame) -> list[dict[str, str]]:
    """One entry per compared method but the baseline: ``method``, ``title``, ``verdict`` (against the baseline, and against the
    strongest cheap one) and ``text``. ``tested``: ``pairs.tables``."""
    base, found = title(results, baseline(results)), tested.set_index(["method", "against"])
    entries = []
    for row in main[main["method"] != baseline(results)].itertuples():
        entry = {"method": row.method, "title": row.title, "verdict": NOT_RUN, "text": ""}
        if row.n:
            mine = {title(results, b): found.loc[(row.method, b)] for b in held_against(results) if b != row.method}
            words = dict.fromkeys(pair["verdict"] for pair in mine.values())
            each = [
                f"{pair['verdict']} than {b}" if _sided(pair) else f"{pair['verdict']} ({b})"
                for b, pair in mine.items()
            ]
            entry["verdict"] = "; ".join(each if len(words) > 1 else words)
            text = [*(_loss(pair, b) for b, pair in mine.items()), _steps(row, results), _cost(row, base)]
            entry["text"] = " ".join(filter(None, dict.fromkeys(text)))
        entries.append(entry)
    return entries


def _sided(pair: pd.Series) -> bool:
    return pair["verdict"] in (pairs.LOWER, pairs.HIGHER)


def _loss(pair: pd.Series, base: str) -> str:
    gap = pair["difference"]
    if pair["verdict"] == pairs.FAILED:
        return "At least one run failed, so there is no mean difference."
    if math.isnan(gap):
        return f"No test loss was measured beside {base}'s."
    size = f"{number(abs(gap), 4)} nats {'below' if gap < 0 else 'above'} {base}"
    low, high = (number(pair[f"difference_{end}"], 4, signed=True) for end in ("low", "high"))
    if not enough(pair["n"]):
        seeds = "1 seed" if pair["n"] == 1 else f"{pair['n']} seeds ({low} to {high})"
        return f"Measured test loss {size} on {seeds}: too few for a verdict."
    # The verdict is Holm's, so an interval without zero may stand beside "not distinguishable".
    interval = f"95 % interval {low} to {high}, {pair['n']} paired seeds, Holm's p {pairs.p_cell(pair['holm'])}"
    if pair["verdict"] == pairs.SAME:
        return f"Test loss not distinguishable from {base}'s ({interval})."
    return f"Test loss {size} ({interval})."


def _steps(row, results: Results) -> str:
    if math.isnan(row.steps):
        return ""
    if math.isinf(row.steps):
        return f"Its median seed did not reach the threshold in {horizon(results)} steps."
    fewer = 100 * row.fewer_steps_than_baseline
    bound = ("at least " if fewer >= 0 else "at most ") * row.baseline_bound
    words = f"{bound}{abs(fewer):.0f} % {'fewer' if fewer >= 0 else 'more'} than the baseline"
    return f"It reached the threshold at step {row.steps:.0f} of {horizon(results)} ({words})."


def _cost(row, base: str) -> str:
    alone, all_in = row.flops_alone_speedup_over_baseline, row.flops_all_in_speedup_over_baseline
    if not (alone > 0 and all_in > 0):
        return ""
    share = f"{'at most ' * row.baseline_bound}{100 / alone:.0f} % of {base}'s FLOPs"
    if row.flops_upfront == 0:
        return f"That took {share}."
    return f"That took {share}, or {100 / all_in:.0f} % with the runs it depends on."


def notes(results: Results, main: pd.DataFrame, epochs: pd.DataFrame) -> list[str]:
    """What limits these results; only what applies to them."""
    runs, said = runs_of(results), []
    if not main["n"].map(enough).all():
        said.append(
            f"Fewer than {MIN_SEEDS} seeds: ranges are the smallest and largest seed, nothing is ranked, and every number"
            " is a measurement, not a finding."
        )
    failed = [
        f"{row.title}: {row.statuses}" for row in main.itertuples() if row.n and row.statuses != f"{row.n} finished"
    ]
    if failed:
        said.append(f"{'; '.join(failed)}. A run that failed counts as infinitely bad in every median.")
    if results.experiment.get("horizon", "fixed-horizon") == "fixed-horizon" and _decays(results):
        said.append(
            f"The {results.experiment['schedule']} schedule ends at step {horizon(results)} for every run, so a curve that"
            " crosses the threshold early does so at a high learning rate: steps to threshold are comparable between methods here,"
            " not with runs whose schedule ends at the crossing."
        )
    if thresholds(results)["loss"].isna().all():
        said.append("No threshold: the baseline did not finish, so steps to threshold could not be counted.")
    for words in disagreements(results.runs):
        said.append(f"The runs differ in {words}: do not read small differences between them.")
    if scored := [title(results, method) for method in results.experiment.get("scored", [])]:
        said.append(
            f"Scored from the records of another trainer: {', '.join(scored)}. What pairs their seeds, and that they saw the same"
            " held-out text, is that trainer's word; their seconds, where there are any, are its own clock's."
        )
    if results.probe.empty:
        said.append("The probe was not run: step times, seconds and memory are missing.")
    probed, trained = (set(frame["hardware"].dropna().astype(str)) for frame in (results.probe, runs))
    if probed - trained:
        said.append(
            f"Step times, seconds and memory were probed on {', '.join(probed)}, the runs trained on"
            f" {', '.join(sorted(trained))}: they hold for the probe's machine."
        )
    if epochs["flag"].any():
        said.append(_repeated(epochs[epochs["flag"]], len(results.domains)))
    return said


def _repeated(rows: pd.DataFrame, domains: int) -> str:
    """Which methods repeated domains too often, in one sentence: those that repeated one most by name, the others counted."""
    worst = rows.sort_values("epochs", ascending=False).drop_duplicates("title")
    often = rows["title"].value_counts()
    named = [
        f"{row.title} {often[row.title]} (most: {row.domain}, {row.epochs:.1f} epochs)" for row in worst.itertuples()
    ]
    more = f", and {len(named) - NAMED} more methods (the table of epochs has them)" if len(named) > NAMED else ""
    return f"Of {domains} domains more than {EPOCHS_FLAG} times repeated: {'; '.join(named[:NAMED])}{more}."


def _decays(results: Results) -> bool:
    return results.experiment.get("schedule") in {"cosine", "linear"}
