"""The events from the worker to the parent.

Imports only the standard library, because the parent imports this module and must start fast.
Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from worker.protocol.memory import MemoryFacts

VERSION = 3  # increase it when the meaning of a message changes
EVENTS_FD_FLAG = "--events-fd"


class Phase(StrEnum):
    """What a worker does. A trial has "tight" and "relaxed" after "load", a training "train".

    A trial with data of several lengths also has "lengths".
    """

    IMPORT = "import"
    LOAD = "load"
    TIGHT = "tight"
    RELAXED = "relaxed"
    LENGTHS = "lengths"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class _Timed:
    """An event with the time at which the worker sent it."""

    at: float
    """Seconds since the worker started."""


@dataclass(frozen=True, slots=True)
class Started(_Timed):
    """First event, sent before MLX is imported."""

    pid: int


@dataclass(frozen=True, slots=True)
class PhaseBegan(_Timed):
    """A phase began. It lasts until the next phase begins or the worker ends."""

    phase: Phase
    """The phase that began."""
    limit_bytes: int | None = None
    """MLX's memory limit during the phase; null if the phase sets none."""


@dataclass(frozen=True, slots=True)
class Device(_Timed):
    """The device that MLX trains on: its backend, ``mx.device_info()`` and package versions."""

    backend: str
    info: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Loaded(_Timed):
    """State after weights and adapters were loaded."""

    seconds: float
    """Duration of loading."""
    resident_bytes: int
    """Memory used by weights and adapters."""
    peak_bytes: int
    """Peak memory while loading."""
    parameters: int
    """Number of the model's parameters."""
    trainable_parameters: int
    """Number of the parameters that are trained."""
    lora_keys: tuple[str, ...] = ()
    """Names of the modules with adapters, within a layer; empty in full fine-tuning, and in
    results of earlier versions."""


@dataclass(frozen=True, slots=True)
class Step(_Timed):
    """One finished training step."""

    phase: Phase
    """tight: under the lowest memory limit; relaxed: under the budget."""
    index: int
    """Number of the step in its phase, from 1."""
    seconds: float
    """Duration of the step."""
    tokens: int
    """Number of tokens trained on."""
    loss: float
    """Loss before the step; null in JSON if it is not finite."""
    peak_bytes: int
    """MLX's peak memory since the phase began."""
    compile_seconds: float = 0.0
    """Time until MLX had compiled the step's last new kernel; 0 if it compiled none."""

    @property
    def is_timed(self) -> bool:
        """Whether the duration is that of the training alone: no kernels were compiled.

        What the GPU did in the meantime is unknown, so the difference would be no measurement.
        """
        return not self.compile_seconds


@dataclass(frozen=True, slots=True)
class Compiled(_Timed):
    """MLX compiled a kernel. That can take minutes, in which no step is finished."""


@dataclass(frozen=True, slots=True)
class Advanced(_Timed):
    """A part of a long operation other than a step is finished, such as a validation batch."""


@dataclass(frozen=True, slots=True)
class Memory(_Timed):
    """A sample of MLX's memory counters. It also serves as the heartbeat."""

    active_bytes: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Resumed(_Timed):
    """Training continues after ``iteration``, or starts if it is 0 (there was no checkpoint)."""

    iteration: int


@dataclass(frozen=True, slots=True)
class Tokenized(_Timed):
    """Of a file's sequences, ``done`` were tokenized, and ``dropped`` without a completion."""

    file: str
    done: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Truncated(_Timed):
    """A sequence of ``tokens`` will be truncated to the maximum length. Sent only once."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Timed(_Timed):
    """One batch of another length, after the relaxed phase: a training step or a validation."""

    seq_length: int
    """Tokens per sequence."""
    seconds: float
    """Duration of the step, or of the validation of one batch."""
    is_first: bool
    """Whether it is the first of this length, for which MLX traces the step anew."""
    is_validation: bool
    """Whether the loss was only computed."""
    peak_bytes: int
    """MLX's peak memory since the first of this length."""
    compile_seconds: float = 0.0
    """Time until MLX had compiled the last new kernel; 0 if it compiled none."""


@dataclass(frozen=True, slots=True)
class Validated(_Timed):
    """The loss on the validation set, computed before ``iteration``."""

    iteration: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Saved(_Timed):
    """A checkpoint made after ``iteration`` is on the disk."""

    iteration: int


@dataclass(frozen=True, slots=True)
class Trained(_Timed):
    """Final event of a training: the adapters are on the disk. ``samples`` counts sequences."""

    iterations: int
    samples: int
    longest_tokens: int


@dataclass(frozen=True, slots=True)
class Passed(_Timed):
    """Final event of a trial: needed and peak memory, each with MLX's memory limit in its phase."""

    needed_bytes: int
    needed_limit_bytes: int
    peak_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class OverBudget(_Timed):
    """Final event: memory exceeded the budget or, if ``planned``, the weights alone would do so."""

    phase: Phase
    measured_bytes: int
    planned: bool


@dataclass(frozen=True, slots=True)
class Failed(_Timed):
    """Final event: an exception was raised. Its traceback is in the log."""

    phase: Phase
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a model and a training of it.

    ``lora_keys`` are the names of the modules with adapters. If ``lacks_attention``, these are
    other linear layers instead of the attention that was asked for. ``weights_bytes`` is the memory
    that the weights take, quantized as asked for and without adapters. ``memory`` is ``None`` if it
    was not asked for, or if the model's step cannot be traced.
    """

    parameters: int
    trainable_parameters: int
    layers: int
    lora_keys: tuple[str, ...]
    lacks_attention: bool
    weights_bytes: int
    memory: MemoryFacts | None = None


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """Final event of a probe. ``problems`` maps keys of unsupported models to the reason."""

    models: dict[str, ModelFacts]
    problems: dict[str, str]


@dataclass(frozen=True, slots=True)
class Lengths(_Timed):
    """The numbers of tokens of some samples of ``file``.

    The samples are in the order in which mlx-lm groups them into batches. ``seconds`` is the time
    that their tokenization took.
    """

    file: str
    tokens: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class LengthsDone(_Timed):
    """Final event after the lengths of all samples were sent."""


FinalEvent = Passed | Trained | OverBudget | Failed
TrainingEvent = Resumed | Tokenized | Truncated | Validated | Saved | Advanced
MeasuringEvent = PhaseBegan | Device | Loaded | Step | Timed | Compiled | Memory
Answer = ProbeAnswer | Lengths | LengthsDone
Event = Started | MeasuringEvent | TrainingEvent | FinalEvent | Answer
