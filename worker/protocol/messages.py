"""The messages between parent and worker: one request in, events out.

Standard library only: the parent imports this module and must start fast. Sizes are in bytes,
durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

VERSION = 2  # increase it when the meaning of a message changes
EVENTS_FD_FLAG = "--events-fd"
GROUP_SIZE = 64  # weights that share a scale and a bias when your_ai quantizes
LORA_SCALE = 2.0  # of every adapter
CHECKPOINT_PREFIX = "checkpoint-"  # of the checkpoint folders in --adapter-path


class Weights(StrEnum):
    """Random weights of the model's shapes, or the weights in its files."""

    SYNTHETIC = "synthetic"
    REAL = "real"


class Phase(StrEnum):
    """What a worker is doing, in order."""

    IMPORT = "import"
    LOAD = "load"
    TIGHT = "tight"
    RELAXED = "relaxed"
    TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything about a training that changes its memory or speed."""

    weights: Weights = Weights.SYNTHETIC
    """Random weights of the model's shapes, or the weights in its files."""
    quantization_bits: int | None = None
    """Bits per weight; null (``None``) for unquantized weights."""
    batch_size: int = 2
    """Sequences per step."""
    lora_rank: int = 64
    """Rank of the adapters."""
    lora_layers: int = 16
    """Layers with adapters, counted from the last."""
    seq_length: int = 1024
    """Tokens per sequence."""
    grad_checkpoint: bool = True
    """Whether activations are recomputed to save memory."""

    @property
    def capacity(self) -> int:
        """The capacity score: batch × rank × layers."""
        return self.batch_size * self.lora_rank * self.lora_layers

    @property
    def preference(self) -> tuple[int, int, int]:
        """Larger is better. Total order in a grid, so that search and exhaustive scan agree."""
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
    """A model's ``config.json``, and the local folder of its safetensors if it has real weights."""

    config: dict[str, Any]
    path: str | None = None


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One trial: train ``configuration`` for ``steps`` counted steps within the budget."""

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

    ``data`` is a folder. ``iters`` counts batches, each trained in ``micro_batches`` equal parts.
    ``adapter_config`` is what mlx-lm needs to load the adapters, except the adapted projections.
    ``resume`` continues from the newest checkpoint in ``adapter_path``, if any.
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


Request = TrialRequest | ProbeRequest | TrainingRequest


@dataclass(frozen=True, slots=True)
class _Timed:
    """An event of a worker."""

    at: float
    """Seconds since the worker started."""


@dataclass(frozen=True, slots=True)
class Started(_Timed):
    """First event, before anything heavy is imported."""

    pid: int


@dataclass(frozen=True, slots=True)
class PhaseBegan(_Timed):
    """A phase began; it lasts until the next one begins or the worker ends."""

    phase: Phase
    """What the worker began to do."""
    limit_bytes: int | None = None
    """The MLX memory limit in the phase."""


@dataclass(frozen=True, slots=True)
class Device(_Timed):
    """The device that MLX trains on, ``mx.device_info()`` and package versions."""

    backend: str
    info: dict[str, Any]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Loaded(_Timed):
    """Weights and adapters are resident."""

    seconds: float
    """How long loading took."""
    resident_bytes: int
    """What weights and adapters take."""
    peak_bytes: int
    """Peak memory while loading."""
    parameters: int
    """The model's parameters."""
    trainable_parameters: int
    """The adapters' parameters."""


@dataclass(frozen=True, slots=True)
class Step(_Timed):
    """One step was finished and evaluated."""

    phase: Phase
    """Tight: at needed memory; relaxed: under the budget."""
    index: int
    """From 1 in its phase."""
    seconds: float
    """How long the step took."""
    tokens: int
    """How many tokens it trained on."""
    loss: float
    """The loss before the step; null in JSON if it is not finite."""
    peak_bytes: int
    """MLX's peak memory since the phase began."""


@dataclass(frozen=True, slots=True)
class Memory(_Timed):
    """A sample of MLX's own counters; also the heartbeat."""

    active_bytes: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Resumed(_Timed):
    """Training continues after ``iteration``, that of the newest checkpoint; 0 without any."""

    iteration: int


@dataclass(frozen=True, slots=True)
class Truncated(_Timed):
    """A sequence of ``tokens`` was truncated to the maximum length; sent for the first only."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Validated(_Timed):
    """The loss on the validation set before ``iteration``."""

    iteration: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Saved(_Timed):
    """A checkpoint of everything up to ``iteration`` is on disk."""

    iteration: int


@dataclass(frozen=True, slots=True)
class Trained(_Timed):
    """Final event: the adapters are on disk; ``samples`` counts the sequences trained on."""

    iterations: int
    samples: int
    longest_tokens: int


@dataclass(frozen=True, slots=True)
class Passed(_Timed):
    """Final event of a trial: needed and peak memory, and the MLX memory limit of each."""

    needed_bytes: int
    needed_limit_bytes: int
    peak_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class OverBudget(_Timed):
    """Final event: memory exceeded the budget or, if ``planned``, the weights alone would."""

    phase: Phase
    measured_bytes: int
    planned: bool


@dataclass(frozen=True, slots=True)
class Failed(_Timed):
    """Final event: an exception, with its traceback in the log."""

    phase: Phase
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts about a model as built; ``lora_keys`` are paths of projections within a layer."""

    parameters: int
    layers: int
    lora_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """Final event of a probe. ``problems`` says why a model cannot be built, by name."""

    device: Device
    models: dict[str, ModelFacts]
    problems: dict[str, str]


FinalEvent = Passed | Trained | OverBudget | Failed
TrainingEvent = Resumed | Truncated | Validated | Saved
MeasuringEvent = PhaseBegan | Device | Loaded | Step | Memory
Event = Started | MeasuringEvent | TrainingEvent | FinalEvent | ProbeAnswer
