"""Messages as JSON lines, one a line, each with the protocol's version."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from worker.protocol.messages import VERSION, Event, ProbeRequest, TrainingRequest, TrialRequest

Request = TrialRequest | ProbeRequest | TrainingRequest
R = TypeVar("R", TrialRequest, ProbeRequest, TrainingRequest)

_EVENTS: dict[str, type[Any]] = {event.kind: event for event in get_args(Event)}


class ProtocolError(ValueError):
    """A line that is not a message of this version of the protocol."""


def encode_event(event: Event) -> bytes:
    """One line, newline included."""
    return _line({"event": event.kind, **dataclasses.asdict(event)})


def decode_event(line: bytes) -> Event:
    """The event on one line.

    Raises:
        ProtocolError: if the line is torn, garbage, or of another version.
    """
    fields = _fields(line)
    event = _EVENTS.get(str(fields.pop("event", None)))
    if event is None:
        raise ProtocolError("not a known event")
    decoded: Event = _build(event, fields)
    return decoded


def encode_request(request: Request) -> bytes:
    """One line, newline included."""
    return _line(dataclasses.asdict(request))


def decode_request(kind: type[R], line: bytes) -> R:
    """The request of that kind on one line; raises ProtocolError as `decode_event` does."""
    request: R = _build(kind, _fields(line))
    return request


def _line(fields: dict[str, Any]) -> bytes:
    # NaN and infinity are legal here (a diverged loss is evidence); both sides are Python's json.
    return json.dumps({"v": VERSION, **fields}, separators=(",", ":")).encode() + b"\n"


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not a JSON line") from error
    if not isinstance(fields, dict) or type(fields.get("v")) is not int or fields["v"] != VERSION:
        raise ProtocolError(f"not a message of protocol version {VERSION}")
    return {name: value for name, value in fields.items() if name != "v"}


def _build(kind: type[Any], fields: dict[str, Any]) -> Any:
    """The dataclass that was encoded as ``fields``; raises ProtocolError if they do not fit."""
    hints = get_type_hints(kind)
    try:
        return kind(**{name: _value(hints[name], value) for name, value in fields.items()})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"malformed {kind.__name__}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    """``value`` as the type ``hint``; raises TypeError if it is of another type."""
    if isinstance(hint, UnionType):
        if value is None:
            return None
        (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, _typed(dict, value))
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], item) for item in _typed(list, value))
    if get_origin(hint) is dict:
        return {key: _value(get_args(hint)[1], item) for key, item in _typed(dict, value).items()}
    if hint is Any:
        return value
    if issubclass(hint, StrEnum):
        return hint(value)
    if hint is float and type(value) is int:
        return float(value)
    return _typed(hint, value)


def _typed(expected: type[Any], value: Any) -> Any:
    if type(value) is not expected:  # not isinstance: True would pass for 1
        raise TypeError(f"{expected.__name__} expected, not {value!r}")
    return value
