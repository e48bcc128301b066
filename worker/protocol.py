"""What parent and worker say to each other: the spec in, the events out.

One JSON object a line, each with the protocol's version. Standard library only, because the parent
imports this module and must stay thin. All sizes are bytes, all durations seconds; an event's
``at`` is seconds since the worker's start.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

VERSION = 1
"""Raised whenever a message changes its meaning; both sides are always of one installation."""

EVENTS_FD_FLAG = "--events-fd"
PROBE_FLAG = "--probe"
TRAIN_FLAG = "--train"

LORA_SCALE = 2.0
"""Of every adapter."""

CHECKPOINT_PREFIX = "checkpoint-"
"""Of the name of each folder with one, beside a training's adapters."""


class Weights(StrEnum):
    """Random weights of the model's own shapes, or those in its files."""

    SYNTHETIC = "synthetic"
    REAL = "real"


class ProtocolError(ValueError):
    """A line on the pipe that is not a message of this protocol's version."""


class Phase(StrEnum):
    """What a worker is doing, in the order in which it does it."""

    IMPORT = "import"
    LOAD = "load"
    TIGHT = "tight"
    RELAXED = "relaxed"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantization as MLX stores it: ``bits`` a weight, one scale and bias a group."""

    bits: int
    group_size: int = 64


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's architecture and, for real weights, its tensors come from.

    ``config`` is the model's ``config.json``; ``path`` the local folder with its safetensors, or
    ``None`` when only synthesized weights can be made.
    """

    config: dict[str, Any]
    path: str | None = None


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """All that a worker needs to know to run one trial.

    ``quantization`` is what the weights are quantized to; ``None`` leaves them as they are: in
    their own floating type, or as a real model's files have them quantized already. ``lora_layers``
    counts from the last layer, and is never more than the model has.
    """

    model: ModelSource
    weights: Weights
    quantization: Quantization | None
    batch_size: int
    lora_rank: int
    lora_layers: int
    seq_length: int
    steps: int
    grad_checkpoint: bool
    budget_bytes: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Asks for the device and, for each model by name, whether and how it can be trained."""

    configs: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """All that a worker needs to train adapters for real, as ``mlx_lm.lora`` would.

    ``data`` is a folder with ``train.jsonl`` and maybe ``valid.jsonl``, ``adapter_path`` where
    adapters and checkpoints are written. ``iters`` counts batches; each of ``batch_size`` is taken
    in ``parts`` equal ones where all of it at once takes too much memory, and ``limit_bytes`` is
    MLX's memory limit. ``restart`` goes on from the last checkpoint, if there is one.
    ``adapter_config`` is what mlx-lm needs to load the adapters, but for the projections' names.
    """

    model: ModelSource
    quantization: Quantization | None
    data: str
    adapter_path: str
    iters: int
    batch_size: int
    parts: int
    grad_accumulation_steps: int
    learning_rate: float
    lora_rank: int
    lora_layers: int
    max_seq_length: int
    grad_checkpoint: bool
    mask_prompt: bool
    seed: int
    val_batches: int
    steps_per_eval: int
    save_every: int
    limit_bytes: int
    budget_bytes: int
    adapter_config: dict[str, Any]
    restart: bool


@dataclass(frozen=True, slots=True)
class Started:
    """First event: the worker lives and nothing heavy has been imported yet."""

    kind: ClassVar[str] = "started"
    at: float
    pid: int


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """A phase began; it lasts until the next one begins or the worker ends."""

    kind: ClassVar[str] = "phase"
    at: float
    phase: Phase
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """The device that MLX trains on, as ``mx.device_info()`` describes it, and the versions."""

    kind: ClassVar[str] = "device"
    at: float
    backend: str
    info: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weights and adapters are resident. ``peak_bytes`` is the load's own peak."""

    kind: ClassVar[str] = "loaded"
    at: float
    seconds: float
    resident_bytes: int
    peak_bytes: int
    parameters: int
    trainable_parameters: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step was finished and evaluated. ``index`` counts from 1 in its phase."""

    kind: ClassVar[str] = "step"
    at: float
    phase: Phase
    index: int
    seconds: float
    tokens: int
    loss: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A sample of MLX's own counters; also the heartbeat."""

    kind: ClassVar[str] = "memory"
    at: float
    active_bytes: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """Training goes on behind ``iteration``, the last that a checkpoint has; 0 where none has."""

    kind: ClassVar[str] = "resumed"
    at: float
    iteration: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """A sequence of so many ``tokens`` was cut to the longest that is trained on: the first."""

    kind: ClassVar[str] = "truncated"
    at: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Validated:
    """The loss on the validation set before ``iteration``."""

    kind: ClassVar[str] = "validated"
    at: float
    iteration: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint of everything up to ``iteration`` is on the disk."""

    kind: ClassVar[str] = "saved"
    at: float
    iteration: int


@dataclass(frozen=True, slots=True)
class Trained:
    """Final event of a training: every iteration done, the adapters written.

    ``samples`` counts the sequences trained on since the first iteration, ``longest_tokens`` are
    those of the longest of them.
    """

    kind: ClassVar[str] = "trained"
    at: float
    iterations: int
    samples: int
    longest_tokens: int


@dataclass(frozen=True, slots=True)
class Passed:
    """Final event: every step done, synchronized and checked.

    ``needed_bytes`` is the tight phase's peak and ``needed_limit_bytes`` the MLX memory limit under
    which training takes no more than that. ``peak_bytes`` is the counted steps' peak and
    ``limit_bytes`` the limit under which they stayed inside the budget.
    """

    kind: ClassVar[str] = "passed"
    at: float
    needed_bytes: int
    needed_limit_bytes: int
    peak_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class OverBudget:
    """Final event: memory passed the budget, and the worker stopped itself.

    ``measured_bytes`` is what was reached, or for ``planned`` what the weights alone would take:
    the sum of their sizes, known before anything is allocated.
    """

    kind: ClassVar[str] = "over-budget"
    at: float
    phase: Phase
    measured_bytes: int
    planned: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """Final event: an exception ended the trial. The traceback is in the log."""

    kind: ClassVar[str] = "failed"
    at: float
    phase: Phase
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model's own classes say of it, learnt without allocating its weights.

    ``lora_keys`` are the attention's linear projections within a layer (q, k, v, o in most models).
    """

    parameters: int
    layers: int
    lora_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The only event of a probe. ``problems`` names each model that cannot be built, and why."""

    kind: ClassVar[str] = "probe"
    device: Device
    models: dict[str, ModelFacts]
    problems: dict[str, str]


FinalEvent = Passed | Trained | OverBudget | Failed
Event = (
    Started
    | PhaseBegan
    | Device
    | Loaded
    | Step
    | Memory
    | Resumed
    | Truncated
    | Validated
    | Saved
    | FinalEvent
    | ProbeAnswer
)

_EVENTS: dict[str, type[Any]] = {event.kind: event for event in get_args(Event)}


def encode_event(event: Event) -> bytes:
    """One line, newline included."""
    return _line({"event": event.kind, **dataclasses.asdict(event)})


def decode_event(line: bytes) -> Event:
    """The event on one line.

    Raises:
        ProtocolError: when the line is torn, garbage, or of another version.
    """
    fields = _fields(line)
    event = _EVENTS.get(str(fields.pop("event", None)))
    if event is None:
        raise ProtocolError("not a known event")
    built: Event = build(event, fields)
    return built


def encode_request(request: TrialSpec | ProbeRequest | TrainingSpec) -> bytes:
    """One line, newline included."""
    return _line(dataclasses.asdict(request))


def decode_spec(line: bytes) -> TrialSpec:
    """The trial on one line; raises ProtocolError as `decode_event` does."""
    spec: TrialSpec = build(TrialSpec, _fields(line))
    return spec


def decode_training_spec(line: bytes) -> TrainingSpec:
    """The training on one line; raises ProtocolError as `decode_event` does."""
    spec: TrainingSpec = build(TrainingSpec, _fields(line))
    return spec


def decode_probe_request(line: bytes) -> ProbeRequest:
    """The request on one line; raises ProtocolError as `decode_event` does."""
    request: ProbeRequest = build(ProbeRequest, _fields(line))
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


def build(cls: type[Any], fields: dict[str, Any]) -> Any:
    """The dataclass whose `dataclasses.asdict` these ``fields`` are, after a way through JSON.

    Raises:
        ProtocolError: when they are not.
    """
    hints = {f.name: hint for f, hint in _typed_fields(cls)}
    try:
        return cls(**{name: _value(hints[name], value) for name, value in fields.items()})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"malformed {cls.__name__}: {error}") from error


def _typed_fields(cls: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(cls)
    return [(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _value(hint: Any, value: Any) -> Any:
    """``value`` as the type that ``hint`` names; raises TypeError where it is another."""
    if isinstance(hint, UnionType):
        if value is None:
            return None
        (hint,) = (arm for arm in get_args(hint) if arm is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, _typed(dict, value))
    if get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], v) for v in _typed(list, value))
    if get_origin(hint) is dict:
        return {key: _value(get_args(hint)[1], v) for key, v in _typed(dict, value).items()}
    if hint is Any:
        return value
    if issubclass(hint, StrEnum):
        return hint(value)
    if hint is float and type(value) is int:
        return float(value)
    return _typed(hint, value)


def _typed(expected: type[Any], value: Any) -> Any:
    if type(value) is not expected:  # not isinstance: True is no 1 here
        raise TypeError(f"{expected.__name__} expected, not {value!r}")
    return value
