"""Results as a table in the terminal: pure."""

from __future__ import annotations

from collections.abc import Iterator

from your_ai.report.naming import by_caveats, caveat_note, configuration, with_distinct_names
from your_ai.runs.results import Results
from your_ai.runs.trial_result import TrialResult
from your_ai.terminal import ceiling
from your_ai.terminal.tables import Column, Row, table
from your_ai.terminal.wording import counted, recommended
from your_ai.units import show_size

_COLUMNS = (
    Column("Model"),
    Column("Size", is_number=True),
    Column("Configuration"),
    Column("Outcome"),
    Column("Needed", "needed {}", is_number=True),
    Column("Peak", "peak {}", is_number=True),
    Column("Tokens/s", "{} tokens/s", is_number=True),
    Column("Seconds", "{} s", is_number=True),
)


def summary(results: Results, width: int | None = None) -> str:
    """The device, every trial and the recommendation, for a terminal of this ``width``."""
    results = with_distinct_names(results)
    trials = table(_COLUMNS, [_row(trial) for trial in results.trials], width)
    return "\n".join([*_head(results), "", trials, "", *_foot(results, width)])


def _head(results: Results) -> Iterator[str]:
    device, budget = results.device, show_size(results.budget_bytes)
    yield f"Device: {device.name} ({device.backend}), budget {budget}"
    state = "" if results.complete else " (unfinished)"
    yield f"Run of {results.started_at}{state}"


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


def _name(trial: TrialResult) -> str:
    return f"{trial.preset} ({configuration(trial)})"


def _foot(results: Results, width: int | None) -> Iterator[str]:
    own = {id(entry) for entry in results.results if not entry.searched}
    for trial in results.trials:
        if not trial.success:
            yield f"{_name(trial)}: {trial.error}"
            if trial.advice and id(trial) in own:  # failures of a search are part of its proof
                yield f"    try: {trial.advice}"
    passed = (trial for trial in results.trials if trial.success)
    for caveats, which in by_caveats(passed, _name):
        yield f"{which}: {caveat_note(caveats)}"
    for entry in results.results:
        if search := entry.optimal_config:
            optimum = configuration(search.best) if search.best else "none passed"
            proof = "proven" if search.proven else "not proven"
            used = counted(len(search.all_results), "trial")
            yield f"Optimal for {entry.preset}: {optimum} ({proof}, {used})"
        if entry.ceiling:
            yield ""
            yield f"{entry.preset}:"
            yield from ceiling.lines(entry.ceiling, entry.data_lengths, width)
    yield recommended(results.recommended, is_complete=results.complete)
