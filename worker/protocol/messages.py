"""The messages between parent and worker: one request in, events out.

Standard library only: the parent imports this module and must start fast. Sizes are bytes,
durations seconds; an event's ``at`` is seconds since the worker started.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

VERSION = 2
"""Raised whenever a message changes its meaning; both sides always come from one installation."""

EVENTS_FD_FLAG = "--events-fd"
PROBE_FLAG = "--probe"
TRAIN_FLAG = "--train"

GROUP_SIZE = 64
"""Weights that share a scale and a bias where your_ai quantizes."""

LORA_SCALE = 2.0
"""The LoRA scale of every adapter."""

CHECKPOINT_PREFIX = "checkpoint-"
"""Prefix of the names of checkpoint folders inside --adapter-path."""


class Weights(StrEnum):
    """Random weights of the model's own shapes, or the weights in its files."""

    SYNTHETIC = "synthetic"
    REAL = "real"


class Phase(StrEnum):
    """What a worker is doing, in the order in which it does it."""

    IMPORT = "import"
    LOAD = "load"
    TIGHT = "tight"
    RELAXED = "relaxed"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything about a training that changes its memory or speed.

    ``quantization_bits`` are the bits per weight in training, ``None`` for unquantized weights.
    ``lora_layers`` counts from the last layer and is never more than the model has.
    """

    weights: Weights = Weights.SYNTHETIC
    quantization_bits: int | None = None
    batch_size: int = 2
    lora_rank: int = 64
    lora_layers: int = 16
    seq_length: int = 1024
    grad_checkpoint: bool = True

    @property
    def capacity(self) -> int:
        """The capacity score: batch × rank × layers."""
        return self.batch_size * self.lora_rank * self.lora_layers

    @property
    def preference(self) -> tuple[int, int, int]:
        """Larger is better: capacity, then rank, then layers.

        Total order within a grid, so that a search and an exhaustive scan agree.
        """
        return self.capacity, self.lora_rank, self.lora_layers

    def covers(self, other: Configuration) -> bool:
        """Whether this is at least as large as ``other`` in batch size, rank and layers."""
        return (
            self.batch_size >= other.batch_size
            and self.lora_rank >= other.lora_rank
            and self.lora_layers >= other.lora_layers
        )


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's architecture and, for real weights, its tensors come from.

    ``config`` is the model's ``config.json``; ``path`` the local folder with its safetensors, or
    ``None`` if only synthesized weights can be made.
    """

    config: dict[str, Any]
    path: str | None = None


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One trial: the configuration to train, for how many counted steps, within which budget."""

    model: ModelSource
    configuration: Configuration
    steps: int
    budget_bytes: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Asks for the device and, for each model by name, whether and how it can be trained."""

    configs: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """A real training of adapters, as ``mlx_lm.lora`` would do it.

    ``data`` is a folder with ``train.jsonl`` and optionally ``valid.jsonl``; adapters and
    checkpoints are written to ``adapter_path``. ``iters`` counts batches. Each batch is trained in
    ``micro_batches`` equal parts, under MLX's memory limit ``limit_bytes``. ``resume`` continues
    from the last checkpoint, if there is one. ``adapter_config`` is what mlx-lm needs to load the
    adapters, except for the adapted projections.
    """

    model: ModelSource
    configuration: Configuration
    data: str
    adapter_path: str
    iters: int
    micro_batches: int
    grad_accumulation_steps: int
    learning_rate: float
    mask_prompt: bool
    seed: int
    val_batches: int
    steps_per_eval: int
    save_every: int
    limit_bytes: int
    budget_bytes: int
    adapter_config: dict[str, Any]
    resume: bool


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
    """Training continues after ``iteration``, the last one with a checkpoint; 0 without any."""

    kind: ClassVar[str] = "resumed"
    at: float
    iteration: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """The first sequence that was truncated to the maximum length; ``tokens`` it had."""

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
    """A checkpoint of everything up to ``iteration`` is on disk."""

    kind: ClassVar[str] = "saved"
    at: float
    iteration: int


@dataclass(frozen=True, slots=True)
class Trained:
    """Final event of a training: every iteration done, the adapters written.

    ``samples`` counts the sequences trained on since the first iteration; ``longest_tokens`` is the
    length of the longest.
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
    """Facts from a model's own classes, built without allocating weights.

    ``lora_keys`` are the attention's linear projections within a layer (q, k, v, o in most models).
    """

    parameters: int
    layers: int
    lora_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The only event of a probe. ``problems`` says why a model cannot be built, by name."""

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
