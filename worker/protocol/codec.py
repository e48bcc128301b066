"""Encodes messages as JSON lines and decodes them. Each line has the protocol's version."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from worker.protocol.messages import VERSION, Event
from worker.protocol.requests import Request


class ProtocolError(ValueError):
    """The line is not a valid message of this protocol version."""


def encode(message: Event | Request) -> bytes:
    """Return the message as one line that ends with a newline."""
    fields = {"v": VERSION, "type": type(message).__name__, **dataclasses.asdict(message)}
    # A diverged loss is NaN or infinite. Python's json, which both sides use, accepts that.
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode_event(line: bytes) -> Event:
    """Return the event. Raises ProtocolError if the line is not a valid event of this version."""
    event: Event = _decode(Event, line)
    return event


def decode_request(line: bytes) -> Request:
    """Return the request. Raises ProtocolError if the line is not a valid request."""
    request: Request = _decode(Request, line)
    return request


def _decode(kinds: Any, line: bytes) -> Any:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not a JSON line") from error
    version = fields.pop("v", None) if isinstance(fields, dict) else None
    if type(version) is not int or version != VERSION:
        raise ProtocolError(f"not a message of protocol version {VERSION}")
    name = fields.pop("type", None)
    for kind in get_args(kinds):
        if kind.__name__ == name:
            return _build(kind, fields)
    raise ProtocolError("unknown message type")


def _build(kind: type[Any], fields: dict[str, Any]) -> Any:
    """Return ``fields`` as the dataclass ``kind``. Raises ProtocolError if they do not match it."""
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _value(hints[name], value) for name, value in fields.items()})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"malformed {kind.__name__}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    """Return ``value`` as ``hint``. Raises TypeError or ValueError if it has a different type."""
    if isinstance(hint, UnionType):
        if value is None:
            return None
        (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, _typed(dict, value))
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], item) for item in _typed(list, value))
    if get_origin(hint) is dict:
        return {key: _value(get_args(hint)[1], item) for key, item in _typed(dict, value).items()}
    if issubclass(hint, StrEnum):
        return hint(value)
    if hint is float and type(value) is int:
        return float(value)
    return _typed(hint, value)


def _typed(expected: type[Any], value: Any) -> Any:
    if type(value) is not expected:  # isinstance would accept True as an int
        raise TypeError(f"expected {expected.__name__}, not {value!r}")
    return value
