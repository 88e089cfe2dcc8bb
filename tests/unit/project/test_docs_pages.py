"""Generated documents are what the code says: run the command in the message to refresh one."""

from pathlib import Path

import pytest
import yaml

from acodm_core.lm.flops import config_flops
from acodm_core.reference import pages, settings_page
from acodm_core.study.config import load_experiment

ROOT = Path(__file__).resolve().parents[3]
PAGES = {
    "workflow/schemas/defaults.yaml": ("defaults", pages.defaults),
    "workflow/schemas/experiment.schema.json": ("schema", pages.schema),
    "docs/reference/methods.md": ("methods", lambda: pages.methods(config_flops)),
    "docs/reference/models.md": ("models", pages.models),
    "docs/reference/signals.md": ("signals", pages.signals),
    "docs/reference/configuration.md": ("configuration", settings_page.configuration),
}


@pytest.mark.parametrize("path", PAGES)
def test_a_generated_document_is_current(path):
    name, page = PAGES[path]
    assert (ROOT / path).read_text() == page(), f"run: acodm reference {name} > {path}"


@pytest.mark.parametrize(
    "setting", ["methods.NAME.groups: null", "axes.NAME.of: (required)", "models.NAME.lr: (required)"]
)
def test_the_settings_of_an_entry_are_described(setting):
    assert setting in pages.defaults()


def test_the_shipped_defaults_are_accepted_as_a_configuration():
    """Laid over a preset, the defaults file names only settings that exist, with values that are valid."""
    shipped = yaml.safe_load((ROOT / "workflow/schemas/defaults.yaml").read_text())
    load_experiment(ROOT / "workflow/config/smoke.yaml", shipped)


def rows_of_methods() -> dict[str, list[str]]:
    """Method -> the cells of its row in the table of methods."""
    page = pages.methods(lambda model, context, vocabulary: model.config["hidden_size"] ** 2)
    lines = [line.strip("| ").split(" | ") for line in page.split("\n\n")[3].splitlines()[2:]]
    return {cells[0].strip("`"): cells[1:] for cells in lines}


def test_the_table_of_methods_names_every_method_and_what_goes_before_it():
    rows = rows_of_methods()
    methods = yaml.safe_load((ROOT / "acodm_core/study/methods.yaml").read_text())
    assert list(rows) == list(methods)
    proxy = 64**2 / 128**2  # cpu-nano beside cpu-mini, by the operations made up above
    stages = {"odm": (0, 0), "doremi": (2, 2 * proxy), "chameleon": (1, proxy), "doremi_proxy": (1, 1.0)}
    stages |= {"regmix": (32, 32 * 0.25 * proxy), "skillit": (8, 8 * 0.25 * proxy)}
    for method, (before, extra) in stages.items():
        assert rows[method][3:5] == [str(before), f"{extra:.2f}" if before else "0"], method
    assert rows["chameleon"][:3] == ["[`static`](#static)", "none", "weights: `chameleon_proxy`"]
    assert rows["chameleon_proxy"][1] == "embedding" and rows["acodm_proxy"][1] == "loss, param_norm"


def test_the_table_of_methods_credits_the_paper_of_the_stage_that_finds_the_weights():
    rows = rows_of_methods()
    assert rows["doge"][5] == "fan2024doge" and rows["natural"][5] == "folklore"
    assert rows["doge"][6].endswith("(#doge)") and rows["acodm_paper"][6].endswith("(#acodm_coreacodmpaper)")
    assert rows["uniform"][6] == "[0](#uniform)" and int(rows["doge"][6][1]) >= 4
