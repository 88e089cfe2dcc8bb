"""The digest of a program's code: what decides its results, and nothing that only people read.

Code is its module and what that module imports of its own package, as syntax trees without comments, docstrings and layout,
with the data files that these name (``Path(__file__).with_name("weights.json")``). A changed comment leaves the digest as it is.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from acodm_core.files import digest, sha256

PROJECT = "acodm_core"


def code_digest(*modules: str) -> str:
    """Sixteen hexadecimal digits of the code of ``modules``, which must be importable."""
    return digest(code_files(*modules), length=16)


def code_files(*modules: str) -> dict[str, str]:
    """Module or data file -> digest, of ``modules`` and all that they import of their own package, in alphabetical order."""
    found: dict[str, str] = {}
    queue = list(modules)
    while queue:
        module = queue.pop()
        path = _source(module)
        if module in found or path is None:
            continue
        found[module], imported, named = _read(path, path.stat().st_mtime_ns, path.stat().st_size)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        queue.extend(
            f"{package}.{name[:-3].replace('/', '.')}" for name in named if name.endswith(".py")
        )  # programs it starts
        found |= {f"{module}:{name}": sha256(path.parent / name) for name in named if not name.endswith(".py")}
        queue.extend(_own(_absolute(imported, package), root=_root(module)))
    return dict(sorted(found.items()))


def text_digest(*packages: str) -> str:
    """Sixteen hexadecimal digits of all Python files in the folders of ``packages``, docstrings and comments included."""
    folders = {package: _source(package).parent for package in packages}
    texts = {f"{name}/{path.name}": sha256(path) for name, folder in folders.items() for path in folder.glob("*.py")}
    return digest(texts, length=16)


def _root(module: str) -> str:
    """The package whose parts decide what ``module`` does; in this project one folder of it, as what folders share has a number."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == PROJECT else parts[0]


def _source(module: str) -> Path | None:
    """The file of a module, found without importing anything; None where it does not exist or has no file."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.has_location else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *rest)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py"), *path.parent.glob(f"{path.name}.*.so")):
            if file.is_file():
                return file
    return None


@lru_cache(maxsize=1024)
def _read(path: Path, _mtime_ns: int, _size: int) -> tuple[str, tuple[tuple[int, str, str], ...], tuple[str, ...]]:
    """Digest of a source file, its imports as (level, module, name), and the files beside it that it names."""
    if path.suffix != ".py":  # compiled: only its bytes are there
        return sha256(path), (), ()
    tree = ast.parse(path.read_bytes())
    nodes = list(ast.walk(tree))
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named = sorted(word for word in words if "." in word and ".." not in word and _is_file(path.parent, word))
    return hashlib.sha256("\n".join(_plain(tree)).encode()).hexdigest(), tuple(_imports(nodes)), tuple(named)


def _is_file(folder: Path, name: str) -> bool:
    try:
        return not Path(name).is_absolute() and (folder / name).is_file()
    except (ValueError, OSError):  # a text that can be no file name
        return False


def _plain(node: Any) -> Iterator[str]:
    """A syntax tree as words: without places, docstrings and empty fields, which differ between versions of Python."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name not in _FOR_THE_COMPILER:
                yield name
                yield from _plain(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            if not _is_text(item):
                yield from _plain(item)
    else:
        yield f"{type(node).__name__} {node!r}"


_FOR_THE_COMPILER = {"ctx", "kind", "type_comment"}


def _is_text(node: Any) -> bool:
    """A docstring, or a text that stands by itself like one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, node.module or "", alias.name) for alias in node.names)


def _absolute(imports: Iterable[tuple[int, str, str]], package: str) -> Iterator[tuple[str, str]]:
    """(module, name) with relative imports resolved in ``package``."""
    for level, module, name in imports:
        yield importlib.util.resolve_name("." * level + module, package) if level else module, name


def _own(imports: Iterable[tuple[str, str]], *, root: str) -> Iterator[str]:
    """The modules of ``root`` among what is imported; a name may itself be a module."""
    for module, name in imports:
        if module != root and not module.startswith(f"{root}."):
            continue
        submodule = f"{module}.{name}"
        yield submodule if name and _source(submodule) is not None else module
