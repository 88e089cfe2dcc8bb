"""AC-ODM as its released code behaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acodm_core.acodm.mixer import AgentName
from acodm_core.acodm.paper import AcOdmPaper
from acodm_core.acodm.reward import Importance
from acodm_core.acodm.state import Form


@dataclass
class AcOdmReleased(AcOdmPaper):
    """AC-ODM as released at e95863e: an actor that stays as it was initialised, behind a uniform part and an ODM warm-up.

    Idea:
        What was published as code, so that its behaviour can be compared with what the paper describes.
    Update:
        2 % of the steps are drawn by ODM's released rule; then a = actor(s) minus U(0, 1) / 1000 per domain, renormalised, and
        15.3 % of the batch is spread evenly. The actor's weights never change.
    Source:
        Release at e95863e, megatron/data/agent.py:476-477 and 539-540 (the actor's optimiser is never stepped), 546-561 (noise),
        352-376 (state); megatron/training.py:362-408 (one micro-batch of every domain in each step: 22 of 144), 824-913 (warm-up).
    Differences:
        The release computes rewards and trains a critic; neither reaches the mixture, so neither is computed
        here. Each of this benchmark's seeds draws another random actor: the row
        averages over actors. Shares that its noise makes negative are 0 here. Norms of weight changes are of one step, the
        release's are against the first step. Cost is not the release's: it keeps a K x P matrix of gradients on the host.
    """

    warmup_mixer: str = "odm"
    warmup_options: Mapping[str, Any] = field(default_factory=lambda: {"rule": "released", "alpha": 0.5, "warmup": 0.0})
    importance: Importance = "none"
    state_form: Form = "released"
    uniform_fraction: float = 22 / 144
    subtracted_noise: float = 1e-3
    agent: AgentName = "frozen"
