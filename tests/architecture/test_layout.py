"""The shape of the tree: no import cycle, no stray, no over-full folder, no long module or function, layers and a word for all."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("acodm_core", "baselines", "analysis")
PACKAGES = ("acodm_core", "acodm_baselines", "acodm_analysis")
AT_THE_ROOT = {"__init__", "cli", "domain_vectors", "entry", "errors", "files", "mixing", "seals", "streams"}
PLUG_IN_FOLDERS = {"baselines", "analysis"}  # one file is one method, or one output: as many as there are
MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 15, 350, 60
CYCLES = """
import sys, grimp, networkx
graph = grimp.build_graph(*sys.argv[1:], exclude_type_checking_imports=True, cache_dir=None)
edges = [(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)]
circles = [sorted(c) for c in networkx.strongly_connected_components(networkx.DiGraph(edges)) if len(c) > 1]
print("\\n".join(" ".join(circle) for circle in sorted(circles)))
"""


def modules(root: Path, *folders: str) -> Iterator[tuple[str, str]]:
    """(path below ``root``, text) of every module."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def cycles(root: Path, *packages: str) -> list[str]:
    """Modules that import each other in a circle, a line per circle; imports for type checkers do not count."""
    done = subprocess.run(
        [sys.executable, "-c", CYCLES, *packages],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line]


def strays(root: Path) -> set[str]:
    """Modules beside the library's packages that are not on the list."""
    return {path.stem for path in (root / "acodm_core").glob("*.py")} - AT_THE_ROOT


def over_full(root: Path) -> set[str]:
    """Folders with too many modules, ``__init__`` not counted."""
    found: dict[str, int] = {}
    for name, _ in modules(root, *FOLDERS):
        folder, _, module = name.rpartition("/")
        found[folder] = found.get(folder, 0) + (module != "__init__.py")
    return {folder for folder, count in found.items() if count > MOST_MODULES} - PLUG_IN_FOLDERS


def long_modules(root: Path) -> set[str]:
    return {name for name, text in modules(root, *FOLDERS) if len(text.splitlines()) > MOST_LINES}


def long_functions(root: Path) -> set[str]:
    """``PATH: NAME`` of the library's functions that are too long; docstrings count, decorators do not."""
    return {
        f"{name}: {node.name}"
        for name, text in modules(root, "acodm_core")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= MOST_FUNCTION_LINES
    }


def silent_packages(root: Path) -> set[str]:
    """Folders with modules that have no ``__init__``, or one that does not say what the folder holds."""
    texts = dict(modules(root, *FOLDERS))
    folders = {name.rpartition("/")[0] for name in texts}
    return {folder for folder in folders if not ast.get_docstring(ast.parse(texts.get(f"{folder}/__init__.py", "")))}


def without_layers(root: Path, contracts: str) -> set[str]:
    """The library's packages of several modules that no exhaustive contract of layers covers."""
    layered = {
        package
        for contract in tomllib.loads(contracts)["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract.get("exhaustive")
        for package in contract["containers"]
    }
    inside: dict[str, set[str]] = {}
    for name, _ in modules(root, "acodm_core"):
        *folder, module = name.removesuffix(".py").split("/")
        for depth in range(1, len(folder) + 1):
            inside.setdefault(".".join(folder[:depth]), set()).add([*folder, module][depth])
    return {package for package, names in inside.items() if len(names - {"__init__"}) > 1} - layered


def test_no_module_imports_itself_in_a_circle() -> None:
    assert cycles(ROOT, *PACKAGES) == []


def test_no_stray_stands_beside_the_packages() -> None:
    assert not strays(ROOT)


def test_no_folder_is_over_full() -> None:
    assert not over_full(ROOT)


def test_every_package_says_what_it_holds() -> None:
    assert not silent_packages(ROOT)


def test_every_package_has_layers() -> None:
    assert not without_layers(ROOT, (ROOT / "pyproject.toml").read_text())


def test_no_module_is_long() -> None:
    assert not long_modules(ROOT)


def test_no_function_of_the_library_is_long() -> None:
    assert not long_functions(ROOT)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tree that a test may damage."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_cycle_is_noticed(copy: Path) -> None:
    assert cycles(copy, "acodm_core") == []
    with (copy / "acodm_core" / "errors.py").open("a") as file:
        file.write("\n\ndef late():\n    from acodm_core import files\n")
    assert cycles(copy, "acodm_core") == ["acodm_core.errors acodm_core.files"]


def test_an_import_for_type_checkers_is_no_cycle(copy: Path) -> None:
    with (copy / "acodm_core" / "errors.py").open("a") as file:
        file.write("\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from acodm_core import files\n")
    assert cycles(copy, "acodm_core") == []


def test_a_stray_is_noticed(copy: Path) -> None:
    (copy / "acodm_core" / "helpers.py").write_text("")
    assert strays(copy) == {"helpers"}


def test_an_over_full_folder_is_noticed(copy: Path) -> None:
    for number in range(MOST_MODULES):
        (copy / "acodm_core" / "measure" / f"more_{number}.py").write_text("")
    assert over_full(copy) == {"acodm_core/measure"}


def test_a_package_without_a_word_is_noticed(copy: Path) -> None:
    (copy / "acodm_core" / "measure" / "__init__.py").write_text("")
    (copy / "acodm_core" / "lm" / "extra").mkdir()
    (copy / "acodm_core" / "lm" / "extra" / "module.py").write_text("")
    assert silent_packages(copy) == {"acodm_core/measure", "acodm_core/lm/extra"}


def test_a_package_without_layers_is_noticed(copy: Path) -> None:
    contracts = (
        '[[tool.importlinter.contracts]]\ntype = "layers"\nexhaustive = true\ncontainers = ["acodm_core.measure"]'
    )
    found = without_layers(copy, contracts)
    assert {"acodm_core", "acodm_core.data", "acodm_core.data.sources"} <= found and "acodm_core.measure" not in found


def test_a_long_module_and_a_long_function_are_noticed(copy: Path) -> None:
    body = "    pass\n" * MOST_FUNCTION_LINES
    (copy / "acodm_core" / "measure" / "long.py").write_text(
        f"def short():\n{body[9:]}\n\ndef long():\n{body}" + "\n" * 300
    )
    assert long_modules(copy) == {"acodm_core/measure/long.py"}
    assert long_functions(copy) == {"acodm_core/measure/long.py: long"}
