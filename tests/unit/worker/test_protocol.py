"""The protocol's encoding: every message survives a round trip, anything else is rejected."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import tiny
from worker.protocol.codec import (
    ProtocolError,
    decode_event,
    decode_request,
    encode,
)
from worker.protocol.configuration import Configuration
from worker.protocol.messages import (
    VERSION,
    Advanced,
    Compiled,
    Device,
    Event,
    Failed,
    Lengths,
    LengthsDone,
    Loaded,
    Memory,
    ModelFacts,
    OverBudget,
    Passed,
    Phase,
    PhaseBegan,
    ProbeAnswer,
    Resumed,
    Saved,
    Started,
    Step,
    Timed,
    Tokenized,
    Trained,
    Truncated,
    Validated,
)
from worker.protocol.requests import ModelSource, Request, TrialRequest

EVENTS: tuple[Event, ...] = (
    Compiled(2.5),
    Advanced(2.5),
    Started(0.0, 4711),
    PhaseBegan(0.1, Phase.TIGHT, 2**40),
    PhaseBegan(0.1, Phase.IMPORT),
    Device(0.2, "cuda", {"device_name": "H200", "total_memory": 150754820096}, {"mlx": "0.32.4"}),
    Loaded(0.3, 2.5, 4 * 2**30, 5 * 2**30, 7_248_023_552, 54_525_952),
    Step(0.4, Phase.RELAXED, 5, 1.25, 2046, 6.5, 6 * 2**30),
    Memory(0.5, 123, 456),
    Passed(0.6, 1, 2, 3, 4),
    OverBudget(0.7, Phase.LOAD, 99, planned=True),
    Resumed(0.8, 100),
    Tokenized(0.8, "train.jsonl", 1000, 2),
    Truncated(0.8, 1500),
    Timed(0.8, 512, 0.5, is_first=True, is_validation=False, peak_bytes=2**30),
    Lengths(0.8, "train", (12, 512), 0.5),
    LengthsDone(0.9),
    Validated(0.8, 200, 2.5, 1.5),
    Saved(0.8, 200),
    Trained(0.8, 1000, 2000, 512),
    Failed(0.8, Phase.LOAD, "RuntimeError", "bad\nmultiline \u2713 text"),
    ProbeAnswer(
        {
            "a": ModelFacts(
                1000, 10, 2, ("self_attn.q_proj",), lacks_attention=False, weights_bytes=99
            )
        },
        {"b": "Model type nonesuch not supported."},
    ),
)
SAMPLES = [pytest.param(event, id=type(event).__name__) for event in EVENTS]

REQUEST = TrialRequest(ModelSource(tiny.LLAMA), Configuration(), steps=5, budget_bytes=2**33)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()  # including NaN and infinity
    | st.text()
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for all values of a field of this type."""
    if isinstance(hint, UnionType):
        return st.one_of([values(arm) for arm in get_args(hint)])
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=3).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(st.text(), values(get_args(hint)[1]), max_size=3)
    if hint is Any:
        return JSON
    if dataclasses.is_dataclass(hint):
        return messages(hint)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(),
        str: st.text(),
    }
    is_choice = isinstance(hint, type) and issubclass(hint, StrEnum)
    return st.sampled_from(hint) if is_choice else simple[hint]


def messages(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    return st.builds(cls, **{f.name: values(hints[f.name]) for f in dataclasses.fields(cls)})


def decode_or_reject(decode: Any, line: bytes) -> None:
    """Decode ``line``; only ProtocolError may be raised."""
    try:
        decode(line)
    except ProtocolError:
        return


def fields_of(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(encode(event))
    return fields


def line_of(fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_the_samples_include_every_event_type() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@given(st.one_of([messages(cls) for cls in get_args(Event)]))
def test_events_survive_a_round_trip(event: Event) -> None:
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    # Compare by repr, because NaN is not equal to itself.
    assert repr(decode_event(line)) == repr(event)


@given(st.one_of([messages(cls) for cls in get_args(Request)]))
def test_requests_survive_a_round_trip(sent: Request) -> None:
    assert repr(decode_request(encode(sent))) == repr(sent)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_is_accepted(loss: float) -> None:
    step = Step(1.0, Phase.TIGHT, 1, 1.0, 126, loss, 1)
    received = decode_event(encode(step))
    assert isinstance(received, Step)
    assert str(received.loss) == str(loss)


def test_a_path_that_is_not_utf8_survives_a_round_trip() -> None:
    path = b"/models/\xff".decode(errors="surrogateescape")
    sent = dataclasses.replace(REQUEST, model=ModelSource({}, path))
    assert decode_request(encode(sent)) == sent


@pytest.mark.parametrize("event", SAMPLES)
def test_an_incomplete_line_is_rejected(event: Event) -> None:
    line = encode(event)
    for length in range(len(line) - 1):
        with pytest.raises(ProtocolError):
            decode_event(line[:length])


@pytest.mark.parametrize("event", SAMPLES)
def test_two_events_on_one_line_are_rejected(event: Event) -> None:
    with pytest.raises(ProtocolError):
        decode_event(encode(event).strip() + encode(event))


@pytest.mark.parametrize("event", SAMPLES)
def test_an_extra_key_is_rejected(event: Event) -> None:
    with pytest.raises(ProtocolError):
        decode_event(line_of({**fields_of(event), "extra": 1}))


@pytest.mark.parametrize("event", SAMPLES)
def test_a_missing_key_is_rejected(event: Event) -> None:
    required = {f.name for f in dataclasses.fields(event) if f.default is dataclasses.MISSING}
    for key in {*required, "v", "type"}:
        fields = fields_of(event)
        del fields[key]
        with pytest.raises(ProtocolError):
            decode_event(line_of(fields))


@pytest.mark.parametrize("version", [0, VERSION + 1, -1, "1", None, 1.5, [1]])
@pytest.mark.parametrize("event", SAMPLES)
def test_another_version_is_rejected(event: Event, version: object) -> None:
    with pytest.raises(ProtocolError, match="version"):
        decode_event(line_of({**fields_of(event), "v": version}))


@pytest.mark.parametrize(
    "kind", ["", "nonesuch", "started", "TrialRequest", None, 1, [], {}, ["Started"]]
)
def test_an_unknown_event_type_is_rejected(kind: object) -> None:
    with pytest.raises(ProtocolError, match="unknown message type"):
        decode_event(line_of({**fields_of(EVENTS[0]), "type": kind}))


WRONG_VALUES: dict[Any, list[Any]] = {
    int: ["1", 1.5, 1.0, True, None, [], {}],
    float: ["1", True, None, [], {}],
    str: [1, 1.5, True, None, [], {}],
    bool: [0, 1, "true", None, [], {}],
    Phase: ["nonesuch", "", 1, True, None, [], {}],
    int | None: ["1", 1.5, True, [], {}],
}


def wrong_values(hint: Any) -> list[Any]:
    if get_origin(hint) is tuple:
        return [None, 1, "x", *([value] for value in wrong_values(get_args(hint)[0]))]
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        inside = [] if inner is Any else [{"key": value} for value in wrong_values(inner)]
        return [1, "x", None, [], *inside]
    if dataclasses.is_dataclass(hint):
        return [1, "x", None, [], {}, {"at": 0.0}]
    return WRONG_VALUES[hint]


@pytest.mark.parametrize("event", SAMPLES)
def test_a_value_of_the_wrong_type_is_rejected_in_every_field(event: Event) -> None:
    hints = get_type_hints(type(event))
    for field in dataclasses.fields(event):
        for value in wrong_values(hints[field.name]):
            with pytest.raises(ProtocolError):
                decode_event(line_of({**fields_of(event), field.name: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None),
        ("model", {"config": []}),
        ("model", {"config": {}, "path": 1}),
        ("model", {"config": {}, "extra": 1}),
        ("configuration", None),
        ("configuration", {"weights": 1}),
        ("configuration", {"quantization_bits": "4"}),
        ("configuration", {"batch_size": 2.0}),
        ("configuration", {"grad_checkpoint": 1}),
        ("configuration", {"extra": 1}),
        ("budget_bytes", "8"),
        ("extra", 1),
        ("type", "Started"),
        ("v", VERSION + 1),
    ],
)
def test_a_malformed_request_is_rejected(key: str, value: object) -> None:
    fields = json.loads(encode(REQUEST))
    with pytest.raises(ProtocolError):
        decode_request(line_of({**fields, key: value}))


def test_a_time_may_be_an_integer() -> None:
    assert decode_event(line_of({"v": VERSION, "type": "Started", "at": 3, "pid": 1})) == Started(
        3.0, 1
    )


DECODERS = pytest.mark.parametrize("decode", [decode_event, decode_request])


@DECODERS
@given(st.binary())
def test_arbitrary_bytes_are_rejected(decode: Any, line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(line)


@DECODERS
@given(JSON)
def test_arbitrary_json_is_decoded_or_rejected(decode: Any, value: Any) -> None:
    decode_or_reject(decode, line_of(value))


@given(st.sampled_from(EVENTS), st.data())
def test_a_damaged_event_is_decoded_or_rejected(event: Event, data: st.DataObject) -> None:
    fields = fields_of(event)
    key = data.draw(st.sampled_from(sorted(fields)))
    decode_or_reject(decode_event, line_of({**fields, key: data.draw(JSON)}))


@given(st.sampled_from(EVENTS), st.data())
def test_events_with_flipped_bytes_are_decoded_or_rejected(
    event: Event, data: st.DataObject
) -> None:
    line = bytearray(encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    decode_or_reject(decode_event, bytes(line))


def test_json_nested_too_deeply_is_rejected() -> None:
    with pytest.raises(ProtocolError):
        decode_event(b"[" * 100_000)


def test_a_time_too_large_for_a_float_is_rejected() -> None:
    with pytest.raises(ProtocolError):
        decode_event(line_of({**fields_of(EVENTS[0]), "at": 10**400}))


def test_a_number_too_long_to_parse_is_rejected() -> None:
    with pytest.raises(ProtocolError):
        decode_event(b'{"v":2,"type":"Started","at":0.0,"pid":' + b"9" * 5000 + b"}")


def test_a_boolean_version_is_rejected() -> None:
    with pytest.raises(ProtocolError, match="version"):
        decode_event(line_of({**fields_of(EVENTS[0]), "v": True}))


def test_phases_are_strings_in_json() -> None:
    assert issubclass(Phase, StrEnum)
    assert fields_of(PhaseBegan(0.1, Phase.TIGHT))["phase"] == "tight"
