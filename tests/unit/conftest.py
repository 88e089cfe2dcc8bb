"""Canned results and what is rendered from them, made once for all tests of the analysis."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import fake_results
import pandas as pd
import pytest

# kind -> what makes it, and a method that its broken version never ran
KINDS = {"plain": (fake_results.make, "odm"), "extended": (fake_results.extended, "acodm-discount-0.99")}


@pytest.fixture(scope="session")
def canned_results(tmp_path_factory):
    """``canned_results(kind, broken=False)``: five seeds; broken: two, one AC-ODM run diverged, one method never run, no probe."""
    from acodm_core.results.reader import Results

    @cache
    def make(kind: str, broken: bool = False):
        write, missing = KINDS[kind]
        folder = tmp_path_factory.mktemp(kind)
        if not broken:
            return Results(write(folder, 5))
        write(folder, 2, probe=False, diverged=("acodm", 1))
        runs = pd.read_parquet(folder / "runs.parquet")
        runs[runs["method"] != missing].to_parquet(folder / "runs.parquet")
        return Results(folder)

    return make


@pytest.fixture(scope="session")
def canned_rendered(canned_results, tmp_path_factory):
    """``canned_rendered(kind, broken=False)``: the folder with every table and figure of those results."""
    from acodm_analysis import render

    @cache
    def make(kind: str, broken: bool = False) -> Path:
        out = tmp_path_factory.mktemp(f"{kind}-rendered")
        render.render(canned_results(kind, broken), out)
        return out

    return make
