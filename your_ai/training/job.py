"""A training, and the settings it is restarted with after a failure: pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from worker.protocol.messages import TrainingRequest
from your_ai.runs.run import Header
from your_ai.runs.training_results import Expected, Setting
from your_ai.supervision.outcome import OutcomeKind
from your_ai.training.dataset import Dataset

LESS_MEMORY_MAY_HELP = frozenset({OutcomeKind.OOM, OutcomeKind.CRASH, OutcomeKind.TIMEOUT})
"""Any other failure would happen again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Header):
    """One invocation of ``your_ai train``.

    ``id`` marks the adapter folder as this training's. ``request`` has the first setting,
    ``needed_limit_bytes`` is the lowest MLX memory limit that was measured. ``restarts`` is the
    most that one process makes, ``steps_per_report`` the iterations whose losses are averaged.
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

    @property
    def first_setting(self) -> Setting:
        """The setting it starts with."""
        return Setting(self.request.micro_batches, self.request.limit_bytes)

    def request_with(self, setting: Setting, *, resume: bool) -> TrainingRequest:
        """The request to the worker; ``resume`` continues from the last checkpoint."""
        return replace(self.request, **asdict(setting), resume=resume)


def setting_after_failure(
    training: Training, setting: Setting, *, progressed: bool
) -> Setting | None:
    """The setting to restart with; ``None`` if there is nothing left to try.

    First more micro-batches per batch, of equal size: each optimizer step still sees the whole
    batch. Then the memory limit under which the needed memory was measured. Then the same setting
    again, if the failed attempt ``progressed``: the training need not have caused that failure.
    """
    size = training.request.configuration.batch_size
    for count in range(2 * setting.micro_batches, size + 1):
        if size % count == 0:
            return replace(setting, micro_batches=count)
    if setting.limit_bytes > training.needed_limit_bytes:
        return replace(setting, limit_bytes=training.needed_limit_bytes)
    return setting if progressed else None
