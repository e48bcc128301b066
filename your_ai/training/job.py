"""A training, and the settings with which it is restarted after a failure: pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from worker.protocol.messages import TrainingRequest
from your_ai.runs.run import Header
from your_ai.runs.training_results import Expected, Setting
from your_ai.supervision.outcome import OutcomeKind
from your_ai.training.dataset import Dataset

LESS_MEMORY_MAY_HELP = frozenset({OutcomeKind.OOM, OutcomeKind.CRASH, OutcomeKind.TIMEOUT})
"""The outcomes after which a training is restarted; after others it would fail again."""


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


def setting_after_failure(
    training: Training, setting: Setting, *, progressed: bool
) -> Setting | None:
    """Return the setting for a restart; ``None`` if there is nothing left to try.

    First, split the batch into more micro-batches of equal size; an optimizer step still sees the
    whole batch. Then lower the memory limit to that with which needed memory was measured. Then
    repeat the same setting if the failed attempt ``progressed``, because the failure may have had
    another cause.
    """
    size = training.request.configuration.batch_size
    for count in range(2 * setting.micro_batches, size + 1):
        if size % count == 0:
            return replace(setting, micro_batches=count)
    if setting.limit_bytes > training.needed_limit_bytes:
        return replace(setting, limit_bytes=training.needed_limit_bytes)
    return setting if progressed else None
