"""What searches for a model's best configuration or longest sequences found and proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from worker.protocol.configuration import Configuration
from your_ai.models.quantization import Quantization
from your_ai.supervision.outcome import Certainty, OutcomeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a search can vary."""

    batch_size: int
    """Sequences per training step."""
    lora_rank: int
    """LoRA rank of the adapters."""
    lora_layers: int
    """Number of layers with adapters, counted from the last layer."""
    seq_length: int | None = None
    """Tokens per sequence."""
    quantization: str | None = None
    """Quantization of the weights: none, the number of bits, or the mode."""
    grad_checkpoint: bool | None = None
    """Whether activations are recomputed to save memory."""

    @classmethod
    def of(cls, configuration: Configuration, **more: Any) -> Self:
        """Return the point of a configuration, with the other fields of a subclass."""
        return cls(
            batch_size=configuration.batch_size,
            lora_rank=configuration.lora_rank,
            lora_layers=configuration.lora_layers,
            seq_length=configuration.seq_length,
            quantization=Quantization.of(configuration).name,
            grad_checkpoint=configuration.grad_checkpoint,
            **more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedPoint(Point):
    """A configuration that failed, and why."""

    outcome: OutcomeKind
    """How the trial ended."""
    certainty: Certainty
    """How certain the stated cause is."""
    error: str
    """Why it failed, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoPoint(Point):
    """A configuration that passed, with its memory, capacity and speed."""

    needed_memory_bytes: int | None
    """Needed memory in bytes."""
    capacity: int
    """Capacity score: batch × rank × layers; batch × layers in full fine-tuning."""
    tokens_per_second: float | None
    """Training speed over the measured steps."""


@dataclass(frozen=True, slots=True)
class ProofOfOptimum:
    """The proof that no better configuration fits; incomplete if `unsettled` is not empty."""

    failures: tuple[FailedPoint, ...]
    """Failed configurations. They rule out all that are at least as large on every axis."""
    unsettled: tuple[Point, ...]
    """Configurations that may be better: neither tried nor ruled out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The longest sequence for a batch size, with or without gradient checkpointing."""

    batch_size: int
    """Sequences per training step."""
    grad_checkpoint: bool
    """Whether activations are recomputed to save memory."""
    longest: int | None
    """Tokens of the longest sequence that is known to fit; null if none is."""
    shortest_failure: int | None
    """Tokens of the shortest sequence that is known not to fit; null if none is."""
    complete: bool
    """Whether no length between these two is left to try."""
    measured: bool
    """Whether a trial had exactly the longest sequence; otherwise a trial that needs at least as
    much memory passed."""
    needed_memory_bytes: int | None
    """Needed memory of the longest sequence in bytes; null unless it was measured."""
    tokens_per_second: float | None
    """Training speed with the longest sequence; null unless it was measured."""
