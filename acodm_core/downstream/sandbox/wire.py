"""Plain data between a process that runs model-written code and one that does not: tagged JSON in bounded frames.

Standard library only: this file also runs inside the sandbox. Nothing is pickled, so what arrives is data of built-in
types, whatever the other side sent; an object with an ``__eq__`` of its own cannot cross.
"""

from __future__ import annotations

import json
import os
import struct
from decimal import Decimal
from fractions import Fraction

MAX_FRAME_BYTES = 4 << 20
MAX_DEPTH = 64
_JSON_INT_LIMIT = 1 << 63  # beyond it hexadecimal, which has no limit of digits


class NotPlain(TypeError):
    """A value that is not plain data, or too large or too deep to send."""


class Garbled(ValueError):
    """Bytes that are no frame, no JSON or no encoding of ours."""


def encode(value: object, depth: int = 0) -> object:
    """``value`` as something JSON holds; an object with one key is a tagged value. NotPlain for anything but data."""
    if depth > MAX_DEPTH:
        raise NotPlain(f"a value nested deeper than {MAX_DEPTH}")

    def items(values) -> list:
        return [encode(item, depth + 1) for item in values]

    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value) if -_JSON_INT_LIMIT < value < _JSON_INT_LIMIT else {"int": hex(value)}
        case float():
            return float(value) if value - value == 0 else {"float": repr(float(value))}
        case complex():
            return {"complex": [encode(value.real), encode(value.imag)]}
        case bytes():
            return {"bytes": value.hex()}
        case Fraction():
            return {"fraction": [encode(value.numerator), encode(value.denominator)]}
        case Decimal():
            return {"decimal": str(value)}
        case list():
            return items(value)
        case tuple() | set() | frozenset():
            kind = next(kind for kind in (tuple, set, frozenset) if isinstance(value, kind))
            return {kind.__name__: items(value)}
        case dict():
            return {"dict": [items(pair) for pair in value.items()]}
    raise NotPlain(f"a value of type {type(value).__name__}, which is not plain data")


_DECODERS = {
    "int": lambda text: int(text, 16),
    "float": float,
    "complex": lambda parts: complex(*parts),
    "bytes": bytes.fromhex,
    "fraction": lambda parts: Fraction(*parts),
    "decimal": Decimal,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}


def decode(value: object, depth: int = 0) -> object:
    """The value that ``encode`` was given. Garbled when it is no encoding."""
    if depth > 2 * MAX_DEPTH + 2:  # a dictionary takes two levels of JSON, and its tag one more
        raise Garbled("a value nested too deep")
    if isinstance(value, list):
        return [decode(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    try:
        ((tag, payload),) = value.items()
        return _DECODERS[tag](decode(payload, depth + 1))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise Garbled(f"no value: {error!r}") from None


def pack(message: object) -> bytes:
    """One frame: four bytes of length, then JSON. NotPlain when it is too large."""
    payload = json.dumps(message).encode("ascii")
    if len(payload) > MAX_FRAME_BYTES:
        raise NotPlain(f"a value of more than {MAX_FRAME_BYTES} bytes")
    return struct.pack(">I", len(payload)) + payload


def write(fd: int, frame: bytes) -> None:
    """Write all of ``frame``. BrokenPipeError where the other side has gone."""
    view = memoryview(frame)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int) -> object:
    """The next frame's message. EOFError where the other side has gone, Garbled where it is no message."""
    (length,) = struct.unpack(">I", _exactly(fd, 4))
    if length > MAX_FRAME_BYTES:
        raise Garbled(f"a frame of {length} bytes")
    try:
        return json.loads(_exactly(fd, length))
    except (ValueError, RecursionError) as error:
        raise Garbled(f"no JSON: {error}") from None


def _exactly(fd: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(fd, min(count - len(data), 1 << 16))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
