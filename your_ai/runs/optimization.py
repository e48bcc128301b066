"""The state of the search for a model's best configuration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from your_ai.runs.search_result import FailedPoint, ParetoPoint, Point, ProofOfOptimum
from your_ai.runs.searching import SearchState
from your_ai.runs.trial_result import OptimalConfig, TrialResult
from your_ai.search.search import Certificate


@dataclass(frozen=True, slots=True)
class Optimization(SearchState):
    """A search for the best configuration, and its trials in the order in which they ended."""

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

        A trial beats another if it is at least as good in memory, capacity, length and speed, and
        better in one of them.
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
            grid=self.search.grid.axes,
            complete=self.is_finished,
            proven=self.is_proven,
            certificate=ProofOfOptimum(
                tuple(map(_failure, self.decisive)),
                tuple(map(Point.of, self.certificate.unsettled)),
            ),
            pareto=tuple(map(_pareto_point, self.pareto)),
            all_results=self.results,
        )


def _figures(best: TrialResult | None) -> dict[str, Any]:
    if best is None:
        return {}
    optimum = asdict(Point.of(best.config))
    return {
        **{f"optimal_{name}": value for name, value in optimum.items()},
        "peak_memory_gb": best.peak_memory_gb,
        "throughput_score": best.config.capacity,
        "needed_memory_gb": best.needed_memory_gb,
        "needed_memory_bytes": best.needed_memory_bytes,
        "tokens_per_second": best.tokens_per_second,
    }


def _failure(result: TrialResult) -> FailedPoint:
    return FailedPoint.of(
        result.config,
        outcome=result.outcome,
        certainty=result.certainty,
        error=result.error or "",
    )


def _pareto_point(result: TrialResult) -> ParetoPoint:
    return ParetoPoint.of(
        result.config,
        needed_memory_bytes=result.needed_memory_bytes,
        capacity=result.config.capacity,
        tokens_per_second=result.tokens_per_second,
    )


def _beats(one: TrialResult, other: TrialResult) -> bool:
    """Return whether ``one`` has no score worse than ``other``, and a better one; both passed."""
    scores, others = _scores(one), _scores(other)
    return scores != others and all(a >= b for a, b in zip(scores, others, strict=True))


def _scores(result: TrialResult) -> tuple[float, ...]:
    return (
        -(result.needed_memory_bytes or 0),
        result.config.capacity,
        result.config.seq_length,
        result.tokens_per_second or 0.0,
    )
