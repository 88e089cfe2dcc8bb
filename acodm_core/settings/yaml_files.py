"""Settings as people write them: YAML files and KEY=VALUE words, read so that nothing means something else than it looks like.

A plain word is a decimal number, ``true``, ``false``, ``null`` (or nothing), or else text: ``010``, ``1:30``, ``yes`` and
``.inf``, which YAML 1.1 turns into 8, 90, true and infinity, stay what they are, and whoever wants a number refuses them.
Keys are always text. A key that stands twice, a tag, a second document and an alias of great size are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from acodm_core.errors import UserError

MOST_BYTES = 250_000
MOST_VALUES = (
    100_000  # with everything that aliases repeat: a few lines of aliases can stand for more than memory holds
)
DEEPEST = 32
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WORDS |= dict.fromkeys(("null", "Null", "NULL", "~", ""))
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]{0,99})(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")
}  # what BaseLoader gives to all without a tag


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        UserError: no file, not UTF-8, not YAML, not a mapping; a key twice (with both lines); too large or too deep.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UserError("file not found", where=str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"cannot be read: {getattr(error, 'strerror', error)}", where=str(path)) from None
    if len(raw) > MOST_BYTES:
        raise UserError(f"more than {MOST_BYTES:,} bytes: not a configuration", where=str(path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"not text in UTF-8: byte 0x{raw[error.start]:02x} in line {line}",
            where=str(path),
            fix="save the file in the encoding UTF-8",
        ) from None
    value = parse_yaml(text, where=str(path))
    if not isinstance(value, dict):
        kind = "nothing" if value is None else f"a {'list' if isinstance(value, list) else 'single value'}"
        raise UserError(f"must hold a mapping (key: value), and holds {kind}", where=str(path))
    return value


@cache
def shipped(path: Path) -> dict[str, Any]:
    """A YAML mapping that belongs to the program: read once. Not to be changed."""
    return read_yaml(path)


def assignments(words: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words, each value in YAML, as one mapping.

    Raises:
        UserError: a word without ``=``, a key twice, a value that is not YAML.
    """
    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"got {word!r}", where="--config", fix="write KEY=VALUE, e.g. --config 'seeds=[0, 1]'")
        if key in found:
            raise UserError("given twice", where=f"--config {key}")
        found[key] = parse_yaml(text, where=f"--config {key}")
    return found


def parse_yaml(text: str, *, where: str) -> Any:
    """The value of a YAML document. Raises UserError as ``read_yaml`` does."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        said = [getattr(error, part, None) for part in ("context", "problem")] if mark else [str(error)]
        raise UserError(f"not valid YAML: {' '.join(filter(None, said))}", where=place) from None
    return None if node is None else _Reader(where).value(node)


class _Loader(yaml.BaseLoader):
    """Takes every value for text, and stops where brackets are opened without end."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} levels deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Turns the nodes of one document into values, and counts them."""

    def __init__(self, where: str) -> None:
        self.where, self.values = where, 0

    def value(self, node: yaml.Node, depth: int = 0) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise self._refused(node, f"more than {MOST_VALUES:,} values, with those that aliases (*name) repeat")
        if depth > DEEPEST:  # an alias inside its own anchor has no end
            raise self._refused(node, f"nested more than {DEEPEST} levels deep")
        if node.tag not in _PLAIN_TAGS:
            raise self._refused(node, f"a tag, {node.tag!r}", "write the value without a tag (!...)")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        return self._text(node) if node.style else _plain(self._text(node))

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._refused(key_node, "a key that is a list or a mapping", "quote it if it is text")
            key = self._text(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                raise self._refused(key_node, f"the key {key!r} stands twice: in line {lines[key]} and in line {line}")
            lines[key] = line
            if key == "<<" and not key_node.style:
                merged = self._merged(value_node, depth)
            else:
                own[key] = self.value(value_node, depth + 1)
        return merged | own

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """What ``<<`` brings in: a mapping, or a list of which the earlier wins."""
        given = self.value(node, depth + 1)
        parts = given if isinstance(given, list) else [given]
        if not all(isinstance(part, dict) for part in parts):
            raise self._refused(node, "<< takes a mapping, or a list of mappings")
        return {key: value for part in reversed(parts) for key, value in part.items()}

    def _text(self, node: yaml.ScalarNode) -> str:
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            raise self._refused(node, "half of a character (a surrogate), which no file can hold")
        return node.value

    def _refused(self, node: yaml.Node, what: str, fix: str = "") -> UserError:
        return UserError(what, where=f"{self.where}:{node.start_mark.line + 1}", fix=fix)


def _plain(word: str) -> Any:
    """What a word without quotes means."""
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(word):
        return int(word)
    if _NUMBER.fullmatch(word) and abs(number := float(word)) < float("inf"):
        return number
    return word
