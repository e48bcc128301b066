"""What a search has found so far for one model, and how the results write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from your_ai.errors import UsageError
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import Trial
from your_ai.runs.trial_record import ReadEntry, TrialRecord
from your_ai.search.grid import Configuration
from your_ai.search.search import Certificate, Expected, Search, SearchOptions, Tried
from your_ai.units import to_gb


@dataclass(frozen=True, slots=True)
class Optimization:
    """A search and the trials that it rests on, in the order in which they ended."""

    search: Search
    records: tuple[TrialRecord, ...]
    created_at: str

    @property
    def ended(self) -> list[TrialRecord]:
        """The trials that say something: they were run, and ended by themselves."""
        return [record for record in self.records if record.is_done]

    @property
    def tried(self) -> list[Tried]:
        """What the search has been told."""
        return [record.tried for record in self.ended]

    @property
    def best(self) -> TrialRecord | None:
        """The trial of the best configuration so far."""
        found = self.search.optimum(self.tried)
        same = (r for r in self.ended if found and r.trial.configuration == found.configuration)
        return next(same, None)

    @property
    def certificate(self) -> Certificate:
        """What proves that nothing better fits."""
        return self.search.certificate(self.tried)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to try."""
        return self.search.is_settled(self.tried)

    @property
    def is_proven(self) -> bool:
        """Whether nothing better fits, without taking other failures for a lack of memory."""
        sound = [tried for tried in self.tried if tried.fits or tried.too_large]
        return not self.search.certificate(sound).unsettled

    @property
    def decisive(self) -> list[TrialRecord]:
        """The failed trials on which the certificate rests."""
        failures = self.certificate.failures
        return [r for r in self.records if not r.passed and r.trial.configuration in failures]

    @property
    def pareto(self) -> list[TrialRecord]:
        """The passes of which no other is as good in memory, capacity and speed, and better in one.

        From the least needed memory to the most.
        """
        passed = [record for record in self.records if record.passed]
        front = [r for r in passed if not any(_beats(other, r) for other in passed)]
        return sorted(front, key=lambda record: record.needed_bytes or 0)


def search_for(trial: Trial, options: SearchOptions, backend: str) -> Search:
    """The search for the best configuration of a trial's model within its budget."""
    return Search(
        options.grid.cut(trial.model.layers),
        trial.spec.budget_bytes,
        options.objective,
        _expectation(trial, backend),
        options.exhaustive,
    )


def optimal_config(optimization: Optimization, read: ReadEntry) -> dict[str, Any]:
    """The results' ``optimal_config``; what it says of the best is null where nothing passed."""
    search, best = optimization.search, optimization.best
    configuration = best.trial.configuration if best else None
    certificate = optimization.certificate
    return {
        "model": optimization.records[0].trial.model.model_name,
        "optimal_batch_size": configuration and configuration.batch_size,
        "optimal_lora_rank": configuration and configuration.lora_rank,
        "optimal_lora_layers": configuration and configuration.lora_layers,
        "peak_memory_gb": best and best.peak_bytes and to_gb(best.peak_bytes),
        "throughput_score": configuration and configuration.capacity,
        "created_at": optimization.created_at,
        "needed_memory_gb": best and best.needed_bytes and to_gb(best.needed_bytes),
        "needed_memory_bytes": best and best.needed_bytes,
        "tokens_per_second": best and best.tokens_per_second,
        "objective": search.objective,
        "exhaustive": search.exhaustive,
        "grid": asdict(search.grid),
        "complete": optimization.is_finished,
        "proven": optimization.is_proven,
        "certificate": {
            "failures": [_failure(record) for record in optimization.decisive],
            "unsettled": [asdict(configuration) for configuration in certificate.unsettled],
        },
        "pareto": [_merits(record) for record in optimization.pareto],
        "all_results": (read(record) for record in optimization.records),
    }


def _failure(record: TrialRecord) -> dict[str, Any]:
    outcome = record.outcome
    how = {"outcome": outcome.kind, "certainty": outcome.certainty, "error": outcome.reason}
    return {**asdict(record.trial.configuration), **how}


def _merits(record: TrialRecord) -> dict[str, Any]:
    return {
        **asdict(record.trial.configuration),
        "needed_memory_bytes": record.needed_bytes,
        "capacity": record.trial.configuration.capacity,
        "tokens_per_second": record.tokens_per_second,
    }


def _beats(one: TrialRecord, other: TrialRecord) -> bool:
    """Whether ``one`` is at least as good in everything and better in something; both passed."""
    ours, theirs = _scores(one), _scores(other)
    return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))


def _scores(record: TrialRecord) -> tuple[float, ...]:
    capacity = record.trial.configuration.capacity
    return -(record.needed_bytes or 0), capacity, record.tokens_per_second or 0.0


def _expectation(trial: Trial, backend: str) -> Callable[[Configuration], Expected] | None:
    """What the architecture leads to expect; ``None`` where it is not one that can be estimated."""
    try:
        estimate(trial.spec, backend)
    except UsageError:
        return None

    @cache
    def expected(configuration: Configuration) -> Expected:
        found = estimate(trial.with_configuration(configuration).spec, backend)
        return Expected(found.resident_bytes, found.needed_bytes)

    return expected
