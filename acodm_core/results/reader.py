"""The only door to numbers: the reader that every analysis uses.

``collect`` puts the runs of one experiment together; ``Results`` reads what ``collect`` and the probe wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from acodm_core import PROTOCOL
from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.results.finished_run import read_manifest, require
from acodm_core.results.schemas import (
    DESCRIPTION,
    LATER_COLUMNS,
    MEMORY_COLUMNS,
    MUST_AGREE,
    PROBE_COLUMNS,
    RUN_COLUMNS,
    TABLES,
)
from acodm_core.results.table_files import read_frame, read_parquet
from acodm_core.seals import verify, was_written


def disagreements(runs: pd.DataFrame) -> list[str]:
    """What these rows of ``runs`` differ in of MUST_AGREE, in words with the values and how many runs have each."""
    found = []
    for column, words in MUST_AGREE.items():
        counts = runs.get(column, pd.Series(dtype=str)).dropna().astype(str).value_counts().sort_index()
        if len(counts) > 1:
            found.append(f"{words} ({', '.join(f'{kind}: {n} runs' for kind, n in counts.items())})")
    return found


def _with_columns(frame: pd.DataFrame, columns: Collection[str], path: Path) -> pd.DataFrame:
    if missing := sorted(set(columns) - set(frame.columns)):
        raise UserError(f"another table: it has no column {', '.join(missing)}", where=str(path))
    return frame


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Results:
    """The collected results of one experiment: ``results/NAME``.

    Tables are pandas frames: ``runs`` (RUN_COLUMNS), ``metrics``, ``mixture``, ``diagnostics`` (TABLES), ``probe`` and
    ``memory`` (PROBE_COLUMNS, MEMORY_COLUMNS; empty when the probe was not run).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "experiment.json"
        self.experiment = read_json(path, fix="collect the runs again")
        if self.experiment.get("protocol") != PROTOCOL:
            raise UserError(
                f"results of protocol {self.experiment.get('protocol')}, this code has {PROTOCOL}", where=str(path)
            )
        if missing := [key for key in DESCRIPTION if key not in self.experiment]:
            raise UserError(f"not what collect writes: it has no {', '.join(missing)}", where=str(path))

    @cached_property
    def runs(self) -> pd.DataFrame:
        frame = self._table("runs", set(RUN_COLUMNS) - (LATER_COLUMNS - {"hardware"}))
        if (corpora := frame["corpus"].unique()).size > 1:
            raise UserError(f"runs of several corpora: {', '.join(corpora)}", where=str(self.folder / "runs.parquet"))
        return frame

    @cached_property
    def metrics(self) -> pd.DataFrame:
        frame = self._table("metrics", TABLES["metrics"].names)
        compared = self.runs.loc[self.runs["compared"], "run"]  # a stage of another trainer may tell no loss
        if missing := sorted(set(compared) - set(frame["run"].unique())):
            raise UserError(
                f"has nothing of {_some(missing)}",
                where=str(self.folder / "metrics.parquet"),
                fix="collect the runs again",
            )
        return frame

    @cached_property
    def mixture(self) -> pd.DataFrame:
        return self._table("mixture", TABLES["mixture"].names)

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        return self._table("diagnostics", TABLES["diagnostics"].names)

    def run_folder(self, run: str) -> Path:
        """Where ``collect`` found the run: in ``runs`` beside this folder unless it was told others."""
        folders = [self.folder / root / run for root in self.experiment.get("roots", ["../runs"])]
        return next((folder for folder in folders if (folder / "manifest.json").exists()), folders[0])

    def manifest(self, run: str) -> dict[str, Any] | None:
        """What a run wrote about itself; None where its folder is not there."""
        path = self.run_folder(run) / "manifest.json"
        if not path.exists():
            return None
        manifest = read_manifest(path.parent)
        if manifest["run"] != run:
            raise UserError(f"the manifest of {manifest['run']}, in the folder of {run}", where=str(path))
        return manifest

    def actor(self, run: str) -> dict[str, tuple[int, ...]] | None:
        """Shapes of the tensors of the actor that a run left, none where it has none; None where its folder is not there."""
        manifest = self.manifest(run)
        if manifest is None:
            return None
        if "actor.safetensors" not in manifest["artefacts"]:
            return {}
        path = self.run_folder(run) / "actor.safetensors"
        require(path.parent, path.name)
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dictionary

    @cached_property
    def probe(self) -> pd.DataFrame:
        return self._probed("probe", PROBE_COLUMNS)

    @cached_property
    def memory(self) -> pd.DataFrame:
        return self._probed("memory", MEMORY_COLUMNS)

    def _table(self, name: str, columns: Collection[str]) -> pd.DataFrame:
        """A table of this experiment's runs; a UserError that names the file where it is another table or another experiment's."""
        path, recorded = self.folder / f"{name}.parquet", self.experiment.get("files", {})
        if path.name in recorded:
            verify(self.folder, recorded, path.name, fix="collect the runs again")
        frame = _with_columns(read_parquet(path), columns, path)
        if foreign := sorted(set(frame["run"].unique()) - set(self.experiment["runs"])):
            raise UserError(
                f"holds runs that are not of this experiment: {_some(foreign)}",
                where=str(path),
                fix="collect the runs again",
            )
        return frame

    def _probed(self, name: str, columns: Collection[str]) -> pd.DataFrame:
        path = self.folder / "probe" / f"{name}.parquet"
        if not was_written(path):
            return pd.DataFrame(columns=list(columns))
        frame = _with_columns(read_frame(path, fix="probe again"), set(columns) - LATER_COLUMNS, path)
        frame = frame.reindex(columns=list(columns))
        if (machines := frame["hardware"].dropna().unique()).size > 1:
            raise UserError(f"of several machines: {', '.join(machines)}", where=str(path), fix="probe again, on one")
        return frame

    @property
    def domains(self) -> list[str]:
        return list(self.experiment["domains"])

    @property
    def natural_weights(self) -> dict[str, float]:
        """Training tokens of each domain over their sum."""
        return dict(zip(self.domains, self.experiment["natural_weights"], strict=True))

    @property
    def objective_weights(self) -> dict[str, float]:
        """Weights of the domains in the objective loss; results older than these weights are uniform."""
        uniform = [1 / len(self.domains)] * len(self.domains)
        return dict(zip(self.domains, self.experiment.get("objective_weights", uniform), strict=True))

    @property
    def axes(self) -> dict[str, dict[str, Any]]:
        """Axis -> title, ``of`` (the method that is varied) and ``methods`` (label -> method whose runs stand for it)."""
        return self.experiment.get("axes", {})

    @property
    def compare(self) -> list[str]:
        """The compared methods, in the order of the configuration."""
        return list(self.experiment["compare"])
