"""What a training needs to be resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from your_ai.models.weight_files import check_still_there
from your_ai.runs.run import version_changes
from your_ai.training.dataset import check_unchanged
from your_ai.training.job import Training


def check_resumable(training: Training) -> None:
    """Raise UsageError if the data has changed, or the model's weights are missing."""
    check_unchanged(training.data, training.request)
    check_still_there(Path(str(training.request.model.path)))


def version_note(training: Training, versions: Mapping[str, str]) -> str | None:
    """Return a note for the user if ``versions`` of packages have changed since the start."""
    changed = ", ".join(version_changes(training, versions))
    return f"resuming with {changed}; losses may differ slightly." if changed else None
