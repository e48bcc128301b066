"""Assemble the results of a run from its ended trials: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from your_ai.planning.plan import Trial
from your_ai.runs.ceiling_map import CeilingMap
from your_ai.runs.optimization import Optimization
from your_ai.runs.results import Results, recommended
from your_ai.runs.run import Run
from your_ai.runs.searching import search_for
from your_ai.runs.trial_result import TrialResult
from your_ai.search.search import Objective, Search
from your_ai.supervision.outcome import OutcomeKind
from your_ai.units import to_gb


def assemble(run: Run, ended: Iterable[TrialResult]) -> Results:
    """Return the results so far."""
    by_index: dict[int, list[TrialResult]] = {}
    for result in ended:
        by_index.setdefault(result.index, []).append(result)
    entries = [
        _entry(run, trial, by_index[trial.index]) for trial in run.trials if trial.index in by_index
    ]
    best = recommended(entries)
    return Results(
        max_memory_gb=to_gb(run.budget_bytes),
        recommended=best.preset if best else None,
        results=tuple(entries),
        your_ai_version=run.version,
        started_at=run.started_at,
        complete=len(entries) == len(run.trials) and all(map(_is_complete, entries)),
        budget_bytes=run.budget_bytes,
        machine=run.machine,
        device=run.device,
        run_dir=run.run_dir,
    )


def optimization_of(run: Run, trial: Trial, results: Sequence[TrialResult]) -> Optimization:
    """Return the search for the best configuration of a trial's model, with its results."""
    return Optimization(_search(run, trial), tuple(results))


def ceiling_of(run: Run, trial: Trial, results: Sequence[TrialResult]) -> CeilingMap:
    """Return the search for the longest sequences of a trial's model, with its results."""
    return CeilingMap(_search(run, trial), tuple(results))


def _search(run: Run, trial: Trial) -> Search:
    assert run.search is not None
    return search_for(trial, run.search, run.device.backend)


def _entry(run: Run, trial: Trial, results: Sequence[TrialResult]) -> TrialResult:
    """Return the entry of a model: its trial or, for `optimize`, the best one, with the search."""
    own = results[0]
    if run.search is None or own.outcome is OutcomeKind.SKIPPED:
        return own
    if run.search.objective is Objective.CEILING:
        ceiling = ceiling_of(run, trial, results)
        return replace(ceiling.longest, ceiling=ceiling.as_result())
    found = optimization_of(run, trial, results)
    if run.command == "optimize":
        own = found.best or results[-1]
    elif not own.success:
        return own
    return replace(own, optimal_config=found.as_result())


def _is_complete(entry: TrialResult) -> bool:
    trials = (entry, *entry.searched)
    if any(trial.outcome is OutcomeKind.INTERRUPTED for trial in trials):
        return False
    if not entry.is_final and entry.outcome is not OutcomeKind.SKIPPED:
        return False
    searched = entry.optimal_config or entry.ceiling
    return searched is None or searched.complete
