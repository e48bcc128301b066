"""The results document: what is written, and what it recommends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from your_ai import __version__
from your_ai.device import Device
from your_ai.files import json_document
from your_ai.machine import Machine
from your_ai.optimization import Optimization, optimal_config
from your_ai.plan import Trial
from your_ai.record import TrialRecord, to_json
from your_ai.units import parameters_of, to_gb


@dataclass(frozen=True, slots=True)
class Run:
    """What is the same for all trials of one run."""

    machine: Machine
    device: Device
    budget_bytes: int
    trials: tuple[Trial, ...]
    started_at: str
    run_dir: str


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
        if self.was_interrupted:
            return False
        return self.optimization is None or self.optimization.is_finished


def recommended(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The largest model that passed; of several equally large ones the first."""
    passed = [record for record in records if record.passed]
    return max(passed, key=lambda r: parameters_of(r.trial.model.params), default=None)


def document(run: Run, entries: Sequence[Entry]) -> bytes:
    """The results as JSON. Sizes named ``…_gb`` are in GB of 2^30 bytes, ``…_bytes`` exact."""
    best = recommended([entry.record for entry in entries])
    content: dict[str, Any] = {
        "max_memory_gb": to_gb(run.budget_bytes),
        "recommended": best and best.trial.model.name,
        "results": [_entry(entry) for entry in entries],
        "your_ai_version": __version__,
        "started_at": run.started_at,
        "complete": len(entries) == len(run.trials) and all(e.is_complete for e in entries),
        "budget_bytes": run.budget_bytes,
        "machine": asdict(run.machine),
        "device": asdict(run.device),
        "run_dir": run.run_dir,
    }
    return json_document(content)


def _entry(entry: Entry) -> dict[str, Any]:
    found = entry.optimization
    return {**to_json(entry.record), "optimal_config": found and optimal_config(found)}
