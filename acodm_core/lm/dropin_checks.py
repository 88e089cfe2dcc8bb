"""What ``dropin.Mix`` is given, looked at before a step is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakMethod

import numpy as np
import torch

from acodm_core.errors import UserError, unknown_name
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS
from acodm_core.mixers.find import baseline_names
from acodm_core.mixing import Mixer, Source, signals_from
from acodm_core.settings.yaml_files import shipped
from acodm_core.study.config import CORE


def resolved(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The mixer of a name, and options laid over those that the catalogue has for it."""
    if "." in name or name in baseline_names():
        return name, dict(options)
    catalogue = shipped(CORE / "study" / "methods.yaml")
    if name not in catalogue:
        raise unknown_name("mixer", name, {*baseline_names(), *catalogue}, where="mixer")
    return catalogue[name]["mixer"], {**catalogue[name].get("options", {}), **options}


def per_domain(
    values: Mapping[str, float], domains: tuple[str, ...], what: str, default: float | None = None
) -> np.ndarray:
    """(K,) the ``values`` in the order of ``domains``; one without a value has the ``default``, which makes zeros valid.

    Raises:
        UserError: a domain that is none of them, or a value that is no share of anything; ``what`` they are.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"must be domain -> number; got {values!r}", where=what)
    for domain, value in values.items():
        if domain not in domains:
            raise unknown_name("domain", domain, domains, where=f"{what}.{domain}")
        if not isinstance(value, int | float | np.number) or not 0 <= value < np.inf or (default is None and not value):
            raise UserError(f"must be a number above 0; got {value!r}", where=f"{what}.{domain}")
    found_K = np.array([values.get(domain, default) for domain in domains], dtype=np.float64)
    if not found_K.sum() > 0:
        raise UserError(f"must not all be zero: {dict(values)}", where=what)
    return found_K


def check_model(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer, weights: list[torch.nn.Parameter], mixer: Mixer
) -> None:
    """Refuse what would be measured wrongly without a word.

    Raises:
        UserError: the model is cut among devices; the optimiser trains other weights, or has not the metric that is asked for.
    """
    if any(type(m).__name__ in ("FullyShardedDataParallel", "DataParallel") for m in model.modules()):
        raise UserError(
            "the model is cut among devices (FSDP, DataParallel), and here only whole ones are measured",
            where="model",
            fix="DistributedDataParallel, or `acodm train --shard`",
        )
    trained = {id(p) for group in optimiser.param_groups for p in group["params"]}
    if GRADIENT_SIGNALS & mixer.needs and not all(id(weight) in trained and weight.requires_grad for weight in weights):
        raise UserError(
            "the optimiser does not train all layers of this pattern",
            where="layers",
            fix="give Mix the optimiser that the loop steps, or name layers that it trains",
        )
    plain = getattr(optimiser, "optimizer", optimiser)  # accelerate's wrapper
    if set(signals_from(Source.ADAM_GRADIENTS)) & mixer.needs and not isinstance(
        plain, torch.optim.Adam | torch.optim.AdamW
    ):
        raise UserError(
            f"the mixer measures in AdamW's metric, and the optimiser is a {type(plain).__name__}",
            where="optimiser",
            fix="torch.optim.AdamW",
        )


def call_after_steps(optimiser: torch.optim.Optimizer, method: WeakMethod) -> None:
    """Call ``method`` after every step of the optimiser, as long as there is whose it is."""

    def after(*_: object) -> None:
        if bound := method():
            bound()

    getattr(optimiser, "optimizer", optimiser).register_step_post_hook(after)
