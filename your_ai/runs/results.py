"""The results document: what is written, and what it recommends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from your_ai.errors import UsageError
from your_ai.files import json_pieces
from your_ai.runs.optimization import Optimization, optimal_config
from your_ai.runs.run import Run
from your_ai.runs.run_dir import RESULTS, TRAINING
from your_ai.runs.trial_record import ReadEntry, TrialRecord
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import parameters_of, to_gb


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one model: its trial and, where one was asked for, the search behind it."""

    record: TrialRecord
    optimization: Optimization | None = None

    @property
    def was_interrupted(self) -> bool:
        """Whether the user stopped the run here."""
        searched = self.optimization.records if self.optimization else ()
        return any(record.interrupted for record in (self.record, *searched))

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it was cut short."""
        skipped = self.record.outcome.kind is OutcomeKind.SKIPPED
        if self.was_interrupted or not (self.record.is_done or skipped):
            return False
        return self.optimization is None or self.optimization.is_finished


def recommended(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The largest model that passed; of several equally large ones the first."""
    passed = [record for record in records if record.passed]
    return max(passed, key=lambda r: parameters_of(r.trial.model.params), default=None)


_IS_NONE = "is no results file of `your_ai benchmark` or `optimize`"
NO_RESULTS = f"This {_IS_NONE}"


def load(path: Path) -> dict[str, Any]:
    """The results document in a file, or in a run's folder.

    Raises:
        UsageError: when it cannot be read, or is none.
    """
    is_folder = os.path.isdir(path)  # noqa: PTH112 - Path raises where a name is too long
    file = path / RESULTS if is_folder else path
    try:
        content = orjson.loads(file.read_bytes())
    except OSError as error:
        if is_folder and (path / TRAINING).exists():
            problem = f"{path} is a training, whose record is {path / TRAINING}"
        else:
            problem = f"Cannot read {file}: {error.strerror}"
        raise UsageError(f"{problem}; `your_ai runs` lists the runs with results.") from error
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict) or "results" not in content:
        raise UsageError(f"{path} {_IS_NONE}.")
    return content


def document(run: Run, entries: Sequence[Entry], read: ReadEntry) -> Iterator[bytes]:
    """The results as JSON, piece by piece; ``read`` fetches each trial's entry from the journal.

    Sizes named ``…_gb`` are in GB of 2^30 bytes, ``…_bytes`` exact.
    """
    best = recommended([entry.record for entry in entries])
    return json_pieces(
        {
            "max_memory_gb": to_gb(run.budget_bytes),
            "recommended": best and best.trial.model.name,
            "results": (_entry(entry, read) for entry in entries),
            "your_ai_version": run.version,
            "started_at": run.started_at,
            "complete": len(entries) == len(run.trials) and all(e.is_complete for e in entries),
            "budget_bytes": run.budget_bytes,
            "machine": asdict(run.machine),
            "device": asdict(run.device),
            "run_dir": run.run_dir,
        }
    )


def _entry(entry: Entry, read: ReadEntry) -> dict[str, Any]:
    found = entry.optimization
    return read(entry.record) | {"optimal_config": found and optimal_config(found, read)}
