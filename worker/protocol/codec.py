"""Messages as JSON lines, each with the protocol's version."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from worker.protocol.messages import VERSION, Event, Request


class ProtocolError(ValueError):
    """A line is not a message of this version of the protocol."""


def encode(message: Event | Request) -> bytes:
    """Return the message as one line, newline included."""
    fields = {"v": VERSION, "type": type(message).__name__, **dataclasses.asdict(message)}
    # NaN and infinity are legal here (a diverged loss is evidence): both sides are Python's json.
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode_event(line: bytes) -> Event:
    """Return the event; raises ProtocolError if the line is torn, garbage or of another version."""
    event: Event = _decode(Event, line)
    return event


def decode_request(line: bytes) -> Request:
    """Return the request; raises as `decode_event` does."""
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
    raise ProtocolError("unknown type of message")


def _build(kind: type[Any], fields: dict[str, Any]) -> Any:
    """Return the dataclass encoded as ``fields``; raises ProtocolError if they do not fit."""
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _value(hints[name], value) for name, value in fields.items()})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"malformed {kind.__name__}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    """Return ``value`` as the type ``hint``; raises TypeError or ValueError if it is another."""
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
    if type(value) is not expected:  # not isinstance: True would pass for 1
        raise TypeError(f"{expected.__name__} expected, not {value!r}")
    return value
