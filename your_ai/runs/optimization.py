"""The state of the search for one model: what its trials have shown so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from worker.protocol.configuration import Configuration
from your_ai.planning.memory_estimate import estimate
from your_ai.planning.plan import Trial
from your_ai.runs.search_result import FailedPoint, GridAxes, ParetoPoint, Point, ProofOfOptimum
from your_ai.runs.trial_result import OptimalConfig, TrialResult
from your_ai.search.search import Certificate, Expected, Search, SearchOptions, Tried


@dataclass(frozen=True, slots=True)
class Optimization:
    """A search and its trials, in the order in which they ended."""

    search: Search
    results: tuple[TrialResult, ...]

    @property
    def tried(self) -> list[Tried]:
        """The final results, in the form that the search takes."""
        return [result.tried for result in self.results if result.is_final]

    @property
    def best(self) -> TrialResult | None:
        """The trial of the best configuration so far."""
        found = self.search.optimum(self.tried)
        final = (result for result in self.results if result.is_final)
        same = (r for r in final if found and r.config.configuration == found.configuration)
        return next(same, None)

    @property
    def certificate(self) -> Certificate:
        """The proof that nothing better fits."""
        return self.search.certificate(self.tried)

    @property
    def is_finished(self) -> bool:
        """Whether the search is finished."""
        return self.search.is_settled(self.tried)

    @property
    def is_proven(self) -> bool:
        """Whether failures caused by memory are enough to prove that nothing better fits."""
        sound = [tried for tried in self.tried if tried.fits or tried.too_large]
        return not self.search.certificate(sound).unsettled

    @property
    def decisive(self) -> list[TrialResult]:
        """The failed trials that the proof consists of."""
        failures = self.certificate.failures
        return [
            result
            for result in self.results
            if not result.success and result.config.configuration in failures
        ]

    @property
    def pareto(self) -> list[TrialResult]:
        """The passes that no other trial beats, least memory first.

        A trial beats another if it is at least as good in memory, capacity and speed, and better in
        one of them.
        """
        passed = [result for result in self.results if result.success]
        front = [r for r in passed if not any(_beats(other, r) for other in passed)]
        return sorted(front, key=lambda result: result.needed_memory_bytes or 0)

    def as_result(self) -> OptimalConfig:
        """Return the search in the form of the results file."""
        return OptimalConfig(
            model=self.results[0].model_name,
            **_figures(self.best),
            created_at=self.results[-1].ended_at,
            objective=self.search.objective,
            exhaustive=self.search.exhaustive,
            grid=GridAxes(**self.search.grid.axes),
            complete=self.is_finished,
            proven=self.is_proven,
            certificate=ProofOfOptimum(
                tuple(map(_failure, self.decisive)),
                tuple(_point(configuration) for configuration in self.certificate.unsettled),
            ),
            pareto=tuple(map(_pareto_point, self.pareto)),
            all_results=self.results,
        )


def fastest(found: Iterable[Optimization]) -> Optimization | None:
    """Return the search whose best configuration is the fastest; ``None`` if nothing passed."""
    passed = [(each.best.tokens_per_second or 0.0, each) for each in found if each.best]
    return max(passed, key=lambda pair: pair[0], default=(0.0, None))[1]


def search_for(trial: Trial, options: SearchOptions, backend: str) -> Search:
    """Return the search for the best configuration of the trial's model within its budget."""
    return Search(
        options.grid.around(trial.configuration, trial.model.layers),
        trial.request.budget_bytes,
        options.objective,
        _expectation(trial, backend),
        options.exhaustive,
    )


def _figures(best: TrialResult | None) -> dict[str, Any]:
    if best is None:
        return {}
    return {
        "optimal_batch_size": best.config.batch_size,
        "optimal_lora_rank": best.config.lora_rank,
        "optimal_lora_layers": best.config.lora_layers,
        "peak_memory_gb": best.peak_memory_gb,
        "throughput_score": best.config.capacity,
        "needed_memory_gb": best.needed_memory_gb,
        "needed_memory_bytes": best.needed_memory_bytes,
        "tokens_per_second": best.tokens_per_second,
    }


def _point(configuration: Configuration) -> Point:
    return Point(configuration.batch_size, configuration.lora_rank, configuration.lora_layers)


def _failure(result: TrialResult) -> FailedPoint:
    return FailedPoint(*result.axes, result.outcome, result.certainty, result.error or "")


def _pareto_point(result: TrialResult) -> ParetoPoint:
    return ParetoPoint(
        *result.axes,
        result.needed_memory_bytes,
        result.config.capacity,
        result.tokens_per_second,
    )


def _beats(one: TrialResult, other: TrialResult) -> bool:
    """Return whether ``one`` has no score worse than ``other``, and a better one; both passed."""
    scores, others = _scores(one), _scores(other)
    return scores != others and all(a >= b for a, b in zip(scores, others, strict=True))


def _scores(result: TrialResult) -> tuple[float, ...]:
    return (
        -(result.needed_memory_bytes or 0),
        result.config.capacity,
        result.tokens_per_second or 0.0,
    )


def _expectation(trial: Trial, backend: str) -> Callable[[Configuration], Expected] | None:
    """Return a function that estimates memory; ``None`` if that is not possible."""
    if trial.is_too_large:  # nothing fits, so the smallest configuration proves it
        return lambda _: Expected(trial.weights_bytes, trial.weights_bytes)
    if estimate(trial.model, trial.configuration, backend) is None:
        return None

    @cache
    def expected(configuration: Configuration) -> Expected:
        found = estimate(trial.model, configuration, backend)
        assert found is not None
        return Expected(found.resident_bytes, found.needed_bytes)

    return expected
