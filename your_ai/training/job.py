"""A training: what does not change while it lasts, and the settings that get smaller. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from worker.protocol.codec import ProtocolError, build
from worker.protocol.messages import TrainingRequest
from your_ai.errors import UsageError
from your_ai.planning.device import Device
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import Trial
from your_ai.system.machine import Machine
from your_ai.training.dataset import Data
from your_ai.training.source import Choice


@dataclass(frozen=True, slots=True)
class Setting:
    """How much memory the training is given: each batch in so many parts, under this MLX limit."""

    parts: int
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What a training is expected to take at most: bytes, and seconds at full length."""

    peak_bytes: int
    seconds_per_iteration: float
    seconds: float
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Training:
    """One invocation of ``your_ai train``.

    ``id`` tells it from every other one, ``name`` and ``model_name`` are the results' own, ``bits``
    those of a weight, as trained.
    ``spec`` is the training with its first setting. ``needed_limit_bytes`` is the least limit that
    was measured; ``restarts`` is how often it may be begun again after a failure, and
    ``steps_per_report`` over how many iterations losses are averaged.
    """

    id: str
    command: str
    arguments: dict[str, str]
    name: str
    model_name: str
    bits: int | None
    data: Data
    spec: TrainingRequest
    needed_limit_bytes: int
    expected: Expected
    restarts: int
    steps_per_report: int
    machine: Machine
    device: Device
    started_at: str
    run_dir: str
    version: str

    @property
    def first(self) -> Setting:
        """What it begins with."""
        return Setting(self.spec.parts, self.spec.limit_bytes)

    def with_setting(self, setting: Setting, *, restart: bool) -> TrainingRequest:
        """The worker's request; ``restart`` goes on from the last checkpoint."""
        return replace(
            self.spec, parts=setting.parts, limit_bytes=setting.limit_bytes, restart=restart
        )

    def smaller(self, setting: Setting) -> Setting | None:
        """The next smaller one that trains on the same batches; ``None`` where there is none.

        Half the batch at a time, then half of that; the gradients are gathered, so that each
        optimizer step still sees the whole batch. Then the limit of the needed memory.
        """
        size = self.spec.batch_size
        finer = [n for n in range(2 * setting.parts, size + 1) if size % n == 0]
        if finer:
            return replace(setting, parts=finer[0])
        if setting.limit_bytes > self.needed_limit_bytes:
            return replace(setting, limit_bytes=self.needed_limit_bytes)
        return None


def expect(choice: Choice, trial: Trial, iters: int) -> Expected:
    """What training ``trial`` will take, from what was measured of ``choice``.

    The measured peak where it is the same training, else the measured one changed by as much as
    the estimate changes; never above the budget's reach. Time goes with the tokens.
    """
    spec = trial.spec
    same = (spec.batch_size, spec.lora_rank, spec.lora_layers, spec.seq_length)
    is_measured = same == _axes(choice) and spec.grad_checkpoint == choice.grad_checkpoint
    peak = choice.peak_bytes
    if not is_measured:
        try:
            now = estimate(spec, choice.backend).needed_bytes
            then = estimate(_measured(trial, choice).spec, choice.backend).needed_bytes
            needed = choice.needed_bytes * now // then
        except UsageError:
            needed = choice.needed_bytes
        peak = max(needed, min(choice.peak_bytes, choice.budget_bytes))
    seconds = spec.batch_size * spec.seq_length / choice.tokens_per_second
    return Expected(peak, seconds, seconds * iters, is_measured)


def to_fields(training: Training) -> dict[str, Any]:
    """The training as a journal's record."""
    return asdict(training)


def from_fields(fields: Mapping[str, Any]) -> Training:
    """The training that `to_fields` wrote.

    Raises:
        UsageError: when another version did.
    """
    try:
        training: Training = build(Training, dict(fields))
    except ProtocolError as error:
        raise UsageError(
            "The run was written by another version of your_ai; use that one, or start a new run."
        ) from error
    return training


def _measured(trial: Trial, choice: Choice) -> Trial:
    batch, rank, layers, length = _axes(choice)
    spec = replace(
        trial.spec,
        batch_size=batch,
        lora_rank=rank,
        lora_layers=layers,
        seq_length=length,
        grad_checkpoint=choice.grad_checkpoint,
    )
    return replace(trial, spec=spec)


def _axes(choice: Choice) -> tuple[int, int, int, int]:
    return choice.batch_size, choice.lora_rank, choice.lora_layers, choice.seq_length
