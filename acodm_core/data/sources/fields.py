"""Text in records: a line of JSON, a row of a table, and the dotted name that leads to the text in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from acodm_core.errors import UserError, unknown_name

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_NAMES = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", bytes: "bytes"}


def parse(line: bytes) -> Any:
    """The JSON value of a line; a UserError says what is wrong with it, without a place.

    Numbers are floats, however many digits they have. Of a key that an object has twice, ``pick`` says so when it is asked for.
    """
    try:
        text = line.decode("utf-8", "surrogatepass")
        return json.loads(text, object_pairs_hook=_object, parse_int=float)
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: {error}", fix="write the domain's `encoding:`, or mend the line") from error
    except ValueError as error:
        raise UserError(
            f"not JSON: {error}", fix="one object a line, as in JSON Lines; mend or remove the line"
        ) from error
    except RecursionError as error:
        raise UserError("not readable: nested too deeply", fix="remove the line, or what is nested in it") from error


class _Ambiguous(dict[str, Any]):
    """An object some of whose keys stand in it twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.twice = {key for key in keys if keys.count(key) > 1} if len(keys) < 1000 else set(keys)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Ambiguous(pairs)


def pick(record: Any, dotted: str) -> Any:
    """What stands under a dotted name. A key that has the dots in it comes first; an object may be written as JSON text.

    Raises:
        UserError: without a place: no such key, or what leads to it is no object.
    """
    if isinstance(record, Mapping) and dotted in record:
        return _only(record, dotted)
    value, done = record, ""
    for key in dotted.split("."):
        if done and isinstance(value, str):
            value = parse(value.encode("utf-8", "surrogatepass"))
        if not isinstance(value, Mapping):
            raise UserError(
                f"{repr(done) if done else 'it'} is {name_of(value)}, not an object with the key {key!r}",
                fix="correct `field`, or write one object per line",
            )
        if key not in value:
            raise unknown_name("key", f"{done}.{key}".lstrip("."), [f"{done}.{k}".lstrip(".") for k in value])
        value, done = _only(value, key), f"{done}.{key}".lstrip(".")
    return value


def _only(record: Mapping[str, Any], key: str) -> Any:
    if isinstance(record, _Ambiguous) and key in record.twice:
        raise UserError(f"the key {key!r} stands twice in one object", fix="keep one of them")
    return record[key]


def text_of(record: Any, dotted: str) -> str | None:
    """The text under a dotted name; None where it is null: no document.

    Raises:
        UserError: without a place: see ``pick``; or it is no text.
    """
    value = pick(record, dotted)
    if value is not None and not isinstance(value, str):
        raise UserError(
            f"{dotted!r} is {name_of(value)}, not text",
            fix="name the key that holds text in `field` (dots lead into objects), or write one text per document",
        )
    return value


def name_of(value: Any) -> str:
    """What a person calls the type of a value."""
    if value is None:
        return "null"
    return "an object" if isinstance(value, Mapping) else _NAMES.get(type(value), f"of type {type(value).__name__}")


def column_of(schema: pa.Schema, dotted: str) -> str:
    """The column to read for a dotted name, itself or the JSON text that holds it, after a look at its type.

    Raises:
        UserError: without a place: no such column, or one that holds no text.
    """
    import pyarrow as pa

    if schema.names.count(dotted) > 1:
        raise UserError(f"the column {dotted!r} is there {schema.names.count(dotted)} times", fix="keep one of them")
    if dotted in schema.names:
        names, kind, path = [], schema.field(dotted).type, dotted
    else:
        names, kind, path = dotted.split("."), pa.struct(list(schema)), ""
    while names and pa.types.is_struct(kind):
        inside = [kind.field(i).name for i in range(kind.num_fields)]
        if inside.count(names[0]) != 1:
            shown = [f"{path}.{name}".lstrip(".") for name in inside]
            raise unknown_name("column", f"{path}.{names[0]}".lstrip("."), shown)
        path = f"{path}.{names[0]}".lstrip(".")
        kind = kind.field(names.pop(0)).type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UserError(
            f"the column {path!r} is of type {kind}, not text",
            fix="name a column of strings in `field` (dots lead into structs), or write it as strings, one text per row",
        )
    return path


def rows_of(file: pq.ParquetFile, fields: list[str], rows: int = 256) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with no other columns than those that the dotted ``fields`` need, ``rows`` in memory at a time.

    Raises:
        UserError: see ``column_of``.
    """
    columns = [column_of(file.schema_arrow, field) for field in fields]
    for batch in file.iter_batches(batch_size=rows, columns=columns):
        yield from batch.to_pylist()
