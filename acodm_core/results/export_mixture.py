"""A run's mixture in the words of other trainers: one static blend, or the schedule step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from acodm_core.errors import UserError, unknown_name
from acodm_core.results.finished_run import require
from acodm_core.results.table_files import read_parquet

DIGITS = 6
Of = Literal["mean", "last"]


def schedule(run: Path) -> pd.DataFrame:
    """(steps, domains) the shares that a finished run asked for; index: step, from 1; columns: domains, in the run's order.

    Raises:
        UserError: no run lies there that came to its end, or its mixture is damaged.
    """
    manifest = require(run, "mixture.parquet")
    if manifest["status"] != "finished":
        raise UserError(f"this run is {manifest['status']}", where=str(run), fix="name a run that finished")
    mixture = read_parquet(run / "mixture.parquet")
    return mixture.pivot(index="step", columns="domain", values="requested")[list(manifest["spec"]["domains"])]


def weights(run: Path, of: Of = "mean") -> dict[str, float]:
    """Domain -> weight: the mean over the run, which is what it drew from in all, or what it asked for last.

    Rounded to six digits such that they sum to 1; a share too small for that is 0.
    """
    path_TK = schedule(run)
    mixture_K = (path_TK.mean() if of == "mean" else path_TK.iloc[-1]).to_numpy()
    mixture_K = np.round(mixture_K / mixture_K.sum(), DIGITS)
    mixture_K[mixture_K.argmax()] += 1 - mixture_K.sum()
    return dict(zip(path_TK.columns, mixture_K.round(DIGITS).tolist(), strict=True))


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _plain(weight: Mapping[str, float], names: Mapping[str, str]) -> str:
    return _json({names[domain]: share for domain, share in weight.items()})


def _doremi(weight: Mapping[str, float], names: Mapping[str, str]) -> str:
    named = {names[domain]: share for domain, share in weight.items()}
    return _json({"train_domain_weights": named, "eval_domain_weights": named})


def _megatron(weight: Mapping[str, float], names: Mapping[str, str]) -> str:
    return "".join(f"{share} {names[domain]}\n" for domain, share in weight.items() if share)


def _datasets(weight: Mapping[str, float], names: Mapping[str, str]) -> str:
    drawn = {names[domain]: share for domain, share in weight.items() if share}
    return _json({"datasets": list(drawn), "probabilities": list(drawn.values()), "stopping_strategy": "all_exhausted"})


def _torchtitan(weight: Mapping[str, float], names: Mapping[str, str]) -> str:
    lines = [
        f"        HFDataSource(dataset={json.dumps(names[domain], ensure_ascii=False)}, weight={share}, infinite=True),"
        for domain, share in weight.items()
        if share
    ]
    head = "from torchtitan.hf_datasets.text_datasets import HFDataSource, InterleavedHuggingFaceTextDataLoader\n\n"
    return head + "\n".join(
        ["dataloader = InterleavedHuggingFaceTextDataLoader.Config(", "    sources=[", *lines, "    ],", ")", ""]
    )


FORMATS: Mapping[str, Callable[[Mapping[str, float], Mapping[str, str]], str]] = {
    "weights": _plain,  # what the mixer `static` reads as `file`
    "doremi": _doremi,  # the release's configs/*.json
    "megatron": _megatron,  # --data-args-path: weights and prefixes
    "datasets": _datasets,  # the arguments of datasets.interleave_datasets
    "torchtitan": _torchtitan,  # docs/datasets.md there; weights are sampling probabilities
}


def blend(run: Path, to: str, *, of: Of = "mean", names: Mapping[str, str] | None = None) -> str:
    """The text of a run's blend in one of FORMATS, or with ``to="path"`` its schedule as CSV: step, then a column a domain.

    Args:
        names: what a domain is called where the text is read: a path, a dataset's name. A domain keeps its own otherwise.

    Raises:
        UserError: an unknown format or domain; no finished run.
    """
    if to not in (*FORMATS, "path"):
        raise unknown_name("format", to, [*FORMATS, "path"], where="--to")
    path_TK = schedule(run)
    for domain in names or {}:
        if domain not in path_TK:
            raise unknown_name("domain", domain, path_TK.columns, where="--name")
    called = {domain: (names or {}).get(domain, domain) for domain in path_TK}
    if len(set(called.values())) < len(called):
        raise UserError("two domains have one name", where="--name", fix="give every domain a name of its own")
    if to == "path":
        return path_TK.rename(columns=called).to_csv(float_format=f"%.{DIGITS}f", lineterminator="\n")
    return FORMATS[to](weights(run, of), called)
