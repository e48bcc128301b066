"""A results document as a table in the terminal: pure."""

from __future__ import annotations

from collections.abc import Iterator

from your_ai.report.naming import configuration, with_distinct_names
from your_ai.runs.results import Results
from your_ai.runs.trial_result import TrialResult
from your_ai.terminal.tables import Row, table
from your_ai.terminal.wording import counted
from your_ai.units import show_size

_HEADS = ("Model", "Size", "Configuration", "Outcome", "Needed", "Peak", "Tokens/s", "Seconds")
_NUMBERS = frozenset({"Size", "Needed", "Peak", "Tokens/s", "Seconds"})


def summary(results: Results, columns: int | None = None) -> str:
    """The answer, the machine and every trial, for a terminal so wide."""
    results = with_distinct_names(results)
    trials = table(_HEADS, [_row(trial) for trial in results.trials], _NUMBERS, columns)
    return "\n".join([*_head(results), "", trials, "", *_foot(results)])


def _head(results: Results) -> Iterator[str]:
    device, budget = results.device, show_size(results.budget_bytes)
    yield f"Device: {device.name} ({device.backend}), budget {budget}"
    ending = "" if results.complete else ", which did not finish"
    yield f"Run of {results.started_at}{ending}"


def _row(trial: TrialResult) -> Row:
    return (
        trial.preset,
        trial.params,
        configuration(trial),
        trial.outcome.label,
        _size(trial.needed_memory_bytes),
        _size(trial.peak_memory_bytes),
        _number(trial.tokens_per_second),
        _number(trial.wall_seconds),
    )


def _size(nbytes: int | None) -> str | None:
    return None if nbytes is None else show_size(nbytes)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def _foot(results: Results) -> Iterator[str]:
    for trial in results.trials:
        if not trial.success:
            yield f"{trial.preset} ({configuration(trial)}): {trial.error}"
            if trial.advice:
                yield f"    try: {trial.advice}"
    for entry in results.results:
        if search := entry.optimal_config:
            optimum = configuration(search.best) if search.best else "none passed"
            proof = "proven" if search.proven else "not proven"
            used = counted(len(search.all_results), "trial")
            yield f"Optimal for {entry.preset}: {optimum} ({proof}, {used})"
    best = results.recommended
    answer = f"{best} (largest model that fits)" if best else "none (no model passed)"
    yield f"Recommended: {answer}"
