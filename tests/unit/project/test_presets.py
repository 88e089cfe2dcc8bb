"""What a preset says of its models is true of the models: patterns of layers are checked against the layers."""

from pathlib import Path

import pytest

from acodm_core.lm.model import build_model, matching_layers
from acodm_core.study.config import load_experiment

CONFIG = Path(__file__).parents[3] / "workflow" / "config"
BELOW = {
    "ablation-synthetic": ["ablation", "synthetic"],
    "downstream": ["quick"],
    "mini-acodm": ["mini"],
    "technical": ["quick"],
}  # read after these, as their heads say


@pytest.mark.parametrize("preset", sorted(path.stem for path in CONFIG.glob("*.yaml")))
def test_every_pattern_of_a_preset_finds_layers(preset: str) -> None:
    files = [CONFIG / f"{name}.yaml" for name in [*BELOW.get(preset, []), preset]]
    experiment = load_experiment(*files)
    for role, name in experiment.roles.items():
        shape = experiment.models[name]
        model = build_model(shape.config, vocab_size=64, context=32, seed=None, device="meta")  # layers without weights
        for pattern in (shape.gradient_layers, shape.norm_layers):
            assert matching_layers(model, pattern, where=f"roles.{role}: {name}")
