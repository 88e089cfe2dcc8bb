"""The three lists of dependencies agree: pyproject.toml is the source, environment.yml and constraints.txt follow it."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "snakemake": "snakemake-minimal",
    "xxhash": "python-xxhash",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def test_environment_yml_lists_what_pyproject_lists():
    *conda, last = ENVIRONMENT["dependencies"]
    listed = {re.split(r"[<>=]", spec, maxsplit=1)[0]: spec for spec in [*conda, *last["pip"]]}
    for line in PROJECT["dependencies"]:
        requirement = Requirement(line)
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        assert listed.pop(name) == f"{name}{requirement.specifier}", line
    assert listed.pop("python") == f"python{PROJECT['requires-python']}"
    assert sorted(listed) == ["-e .", "pip"]
    assert last["pip"][-1] == "-e ."


def test_every_dependency_is_locked_at_a_version_that_pyproject_allows():
    locked: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().split("\n"):
        if line:
            requirement = Requirement(line)
            locked.setdefault(requirement.name, []).append(str(requirement.specifier).removeprefix("=="))
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]:
        requirement = Requirement(line)
        assert locked[requirement.name], requirement
        assert all(requirement.specifier.contains(version) for version in locked[requirement.name]), requirement


def test_every_package_folder_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    tops = {"acodm_core": "acodm_core", "acodm_baselines": "baselines", "acodm_analysis": "analysis"}
    folders = {
        ".".join((name, *path.parent.relative_to(ROOT / top).parts))
        for name, top in tops.items()
        for path in ROOT.glob(f"{top}/**/__init__.py")
    }
    assert folders == set(listed)
