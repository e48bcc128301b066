"""What a search for a model's best configuration varied, found and proved."""

from __future__ import annotations

from dataclasses import dataclass

from your_ai.supervision.outcome import Certainty, OutcomeKind


@dataclass(frozen=True, slots=True)
class Point:
    """The sizes that a search varies."""

    batch_size: int
    """Sequences per training step."""
    lora_rank: int
    """LoRA rank of the adapters."""
    lora_layers: int
    """Number of layers with adapters, counted from the last layer."""


@dataclass(frozen=True, slots=True)
class FailedPoint(Point):
    """A configuration that failed, and why."""

    outcome: OutcomeKind
    """How the trial ended."""
    certainty: Certainty
    """How certain the stated cause is."""
    error: str
    """Why it failed, in one line."""


@dataclass(frozen=True, slots=True)
class ParetoPoint(Point):
    """A configuration that passed, with its memory, capacity and speed."""

    needed_memory_bytes: int | None
    """Needed memory in bytes."""
    capacity: int
    """Capacity score: batch × rank × layers; batch × layers in full fine-tuning."""
    tokens_per_second: float | None
    """Training speed over the measured steps."""


@dataclass(frozen=True, slots=True)
class GridAxes:
    """The grid that a search chooses from: all combinations of these sizes."""

    batch_sizes: tuple[int, ...]
    """Batch sizes, ascending."""
    lora_ranks: tuple[int, ...]
    """Ranks, ascending."""
    lora_layers: tuple[int, ...]
    """Layer counts, ascending."""


@dataclass(frozen=True, slots=True)
class ProofOfOptimum:
    """The proof that no better configuration fits; incomplete if `unsettled` is not empty."""

    failures: tuple[FailedPoint, ...]
    """Failed configurations. They rule out all that are at least as large on every axis."""
    unsettled: tuple[Point, ...]
    """Configurations that may be better: neither tried nor ruled out."""
