"""A training, and the settings with which it is restarted after a failure: pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from worker.protocol.requests import TrainingRequest
from your_ai.runs.run import Header
from your_ai.runs.training_results import Expected, Setting
from your_ai.supervision.outcome import Outcome, OutcomeKind, Remedy
from your_ai.training.dataset import Dataset

MAX_FRUITLESS = 3
"""A training ends after this many failures in a row without a further iteration, if each time the
same settings should have worked."""

_LESS_MEMORY_MAY_HELP = frozenset({OutcomeKind.OOM, OutcomeKind.CRASH, OutcomeKind.TIMEOUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Header):
    """One invocation of ``your_ai train``.

    ``id`` marks the adapter folder as this training's. ``request`` has the first setting.
    ``needed_limit_bytes`` is the MLX memory limit with which needed memory was measured, the lowest
    that is tried. ``restarts`` is the maximum number of restarts by one process.
    ``steps_per_report`` is the number of iterations over which losses are averaged.
    """

    id: str
    preset: str
    model_name: str
    data: Dataset
    request: TrainingRequest
    needed_limit_bytes: int
    expected: Expected
    restarts: int
    steps_per_report: int

    accepts_patches: ClassVar[bool] = True

    @property
    def first_setting(self) -> Setting:
        """The setting of the first attempt."""
        return Setting(self.request.micro_batches, self.request.limit_bytes)

    def request_with(self, setting: Setting, *, resume: bool) -> TrainingRequest:
        """Return the request to a worker; ``resume`` continues from the last checkpoint."""
        return replace(self.request, **asdict(setting), resume=resume)


def can_restart(outcome: Outcome) -> bool:
    """Return whether a restart may help after this outcome."""
    if outcome.remedy is Remedy.USER:
        return False
    return outcome.remedy is not None or outcome.kind in _LESS_MEMORY_MAY_HELP


def can_resume(outcome: Outcome, saved: int) -> bool:
    """Return whether ``--resume`` may help; ``saved`` is the iteration of the last checkpoint."""
    if outcome.kind in (OutcomeKind.PASS, OutcomeKind.ERROR):
        return outcome.remedy is not None
    return outcome.kind is OutcomeKind.INTERRUPTED or saved > 0


def uses_up_a_restart(outcome: Outcome, fruitless: int) -> bool:
    """Return whether a restart after this failure counts; see `setting_after_failure`.

    Not if the settings are not the cause, or if that is likely because the attempt got further.
    """
    if outcome.remedy is Remedy.RETRY:
        return fruitless > 0
    return outcome.remedy not in (Remedy.WAIT, Remedy.FRESH_PROCESS)


def setting_after_failure(
    training: Training, setting: Setting, outcome: Outcome, fruitless: int
) -> Setting | None:
    """Return the setting for a restart; ``None`` if the training would fail again.

    ``fruitless`` is the number of attempts in a row, up to this one, without a further iteration.
    The setting stays the same if it is not the cause, and once if the cause may have been
    temporary.
    """
    if outcome.remedy in (Remedy.WAIT, Remedy.FRESH_PROCESS):
        return setting if fruitless < MAX_FRUITLESS else None
    if outcome.remedy is Remedy.RETRY and fruitless <= 1:
        return setting
    if outcome.kind not in _LESS_MEMORY_MAY_HELP:
        return None
    return _with_less_memory(training, setting) or (None if fruitless else setting)


def _with_less_memory(training: Training, setting: Setting) -> Setting | None:
    """Return the next setting that needs less memory, or ``None``.

    First, split the batch into more micro-batches of equal size; an optimizer step still sees the
    whole batch. Then lower the memory limit to that with which needed memory was measured.
    """
    size = training.request.configuration.batch_size
    for count in range(2 * setting.micro_batches, size + 1):
        if size % count == 0:
            return replace(setting, micro_batches=count)
    if setting.limit_bytes > training.needed_limit_bytes:
        return replace(setting, limit_bytes=training.needed_limit_bytes)
    return None
