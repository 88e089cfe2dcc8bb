"""Refuses models that cannot be trained, before anything is spent.

A model of the shipped catalogue is tried by the tests. Another one is tried here, once: a process of its own imports torch, and
what passed is remembered in the user's cache, because a workflow is planned again for each of its jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from acodm_core.errors import UserError
from acodm_core.files import digest
from acodm_core.mixers.find import build_mixer
from acodm_core.settings.yaml_files import shipped
from acodm_core.study.config import CORE
from acodm_core.study.model_types import check_model_type
from acodm_core.study.planner import Plan


def check_models(plan: Plan) -> None:
    """Try each of the plan's models that is neither shipped nor known to train.

    Raises:
        UserError: one cannot be built or trained, or no layer is called as its patterns say; with its YAML path.
    """
    catalogue = shipped(CORE / "lm" / "models.yaml")
    needs: dict[str, set[str]] = {}
    trials: dict[str, dict[str, Any]] = {}
    for spec in plan.runs.values():
        name, model = spec.model_name, spec.model.model_dump(mode="json", exclude_defaults=True)
        check_model_type(model["config"].get("model_type"), where=f"models.{name}.config.model_type")
        if model == catalogue.get(name):
            continue
        asked = needs.setdefault(name, set())
        asked |= build_mixer(spec.mixer, spec.options).needs
        trials[name] = {"model": model, "context": spec.training.context, "needs": sorted(asked)}
    code = _code()
    passed = {name: _cache() / digest([trial, code], 32) for name, trial in trials.items()}
    unknown = [name for name in trials if not passed[name].exists()]
    for name, found in zip(unknown, _verdicts([trials[name] for name in unknown]), strict=True):
        if found:
            raise UserError(found["what"], where=found["where"].replace("*", name, 1), fix=found["fix"])
        with suppress(OSError):  # it is tried again
            passed[name].parent.mkdir(parents=True, exist_ok=True)
            passed[name].touch()


def _verdicts(trials: list[dict[str, Any]]) -> list[dict[str, str] | None]:
    if not trials:
        return []
    command = [sys.executable, "-m", "acodm_core.lm.trial"]
    done = subprocess.run(command, input=json.dumps(trials), capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"models could not be tried: {done.stderr.strip()[-500:]}", where="models")
    return json.loads(done.stdout.splitlines()[-1])


def _code() -> list[str]:
    """What a verdict depends on beside the model: this program's models, and the libraries that they are made of."""
    files = [*sorted((CORE / "lm").glob("*.py")), CORE / "study" / "model_types.py"]
    return [*(path.read_text(encoding="utf-8") for path in files), version("torch"), version("transformers")]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acodm" / "models"
