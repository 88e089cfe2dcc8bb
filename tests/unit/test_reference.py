"""Generated documents are what the code says: run the command in the message to refresh one."""

from pathlib import Path

import pytest
import yaml

from acodm_core.study import reference
from acodm_core.study.config import load_experiment

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "workflow/schemas/defaults.yaml": ("defaults", reference.defaults),
    "workflow/schemas/experiment.schema.json": ("schema", reference.schema),
    "docs/methods.md": ("methods", reference.methods),
}


@pytest.mark.parametrize("path", PAGES)
def test_a_generated_document_is_current(path):
    name, page = PAGES[path]
    assert (ROOT / path).read_text() == page(), f"run: acodm reference {name} > {path}"


@pytest.mark.parametrize(
    "setting", ["methods.NAME.groups: null", "axes.NAME.of: (required)", "models.NAME.lr: (required)"]
)
def test_the_settings_of_an_entry_are_described(setting):
    assert setting in reference.defaults()


def test_the_shipped_defaults_are_accepted_as_a_configuration():
    """Laid over a preset, the defaults file names only settings that exist, with values that are valid."""
    shipped = yaml.safe_load((ROOT / "workflow/schemas/defaults.yaml").read_text())
    load_experiment(ROOT / "workflow/config/smoke.yaml", shipped)
