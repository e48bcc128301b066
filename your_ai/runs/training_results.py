"""The results of a training, `training.json`; sizes are in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import orjson

from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.runs.results import invalid_because
from your_ai.runs.trial_result import TrialConfig
from your_ai.supervision.outcome import OutcomeKind
from your_ai.system.machine import Machine


@dataclass(frozen=True, slots=True)
class Setting:
    """The memory settings of a training: micro-batches per batch, and MLX's memory limit."""

    micro_batches: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What a training should take at most, if all sequences have full length."""

    peak_bytes: int
    seconds_per_iteration: float
    seconds: float
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What a training took; ``None`` before the first report."""

    peak_bytes: int | None
    seconds_per_iteration: float | None
    seconds: float
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The number of parameters of the loaded model, and its size in memory."""

    parameters: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class FailedAttempt(Setting):
    """The setting of a failed attempt, and why it failed."""

    outcome: OutcomeKind
    reason: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResults:
    """A training: how it ended, what it should take and took, and its (iteration, loss) pairs."""

    outcome: OutcomeKind
    error: str | None
    preset: str
    model_name: str
    config: TrialConfig
    load: LoadedModel | None
    longest_tokens: int
    iterations: int
    samples: int
    adapter_path: str
    expected: Expected
    measured: Measured
    losses: tuple[tuple[int, float | None], ...]
    validation: tuple[tuple[int, float | None], ...]
    setting: Setting
    failures: tuple[FailedAttempt, ...]
    training: dict[str, Any]
    your_ai_version: str
    started_at: str
    machine: Machine
    device: Device
    run_dir: str


class _Document(TypedDict):
    """The settings, whose form differs in version 0.1."""

    setting: dict[str, Any]
    failures: list[dict[str, Any]]


def read(content: bytes, name: str) -> TrainingResults:
    """Read the bytes of a file called ``name``; raise UsageError if they are not such results."""
    try:
        document = orjson.loads(content)
        msgspec.convert(document, _Document)
        for setting in (document["setting"], *document["failures"]):
            if "parts" in setting:  # as version 0.1 wrote it
                setting["micro_batches"] = setting.pop("parts")
        return msgspec.convert(document, TrainingResults)
    except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{name} is not a record of `your_ai train`: {invalid_because(error)}."
        ) from error
